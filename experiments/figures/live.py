"""A figure that is redrawn while a program runs, where somebody can look."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class LiveFigure:
    """Shows a figure of `matplotlib.pyplot` as it grows: below a notebook's cell, or in a window.

    Where there is neither, as in a test, it is shown once, at the end. Drawing takes at most about a third of the time:
    a redraw waits until twice the time of the last one has passed.

    Args:
        figure: What `redraw` shows anew.

    Example:
        >>> figure, axis = plt.subplots()
        >>> live = LiveFigure(figure)
        >>> show = live.curves({"loss": axis}, over="step", color="black")
        >>> show({"step": [0, 1], "loss": [0.5, 0.2]})
        >>> [float(y) for y in axis.lines[0].get_ydata()]
        [0.5, 0.2]
        >>> plt.close(figure)
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self._place = _place_in_a_notebook(figure)
        self._in_a_window = getattr(figure.canvas, "required_interactive_framework", None) is not None
        self._wait_until = 0.0

    def curves(
        self, axes: Mapping[str, Axes], *, over: str, **style: Any
    ) -> Callable[[Mapping[str, Sequence[float]]], None]:
        """Add one curve to each of some axes.

        Args:
            axes: The quantity that each of them shows.
            over: The quantity along all of them.
            style: What `Axes.plot` takes.

        Returns:
            A function that is given the values of all quantities so far, and draws them.
        """
        lines = {quantity: axis.plot([], [], **style)[0] for quantity, axis in axes.items()}

        def show(history: Mapping[str, Sequence[float]]) -> None:
            for quantity, line in lines.items():
                line.set_data(history[over], history[quantity])
                axes[quantity].relim()
                axes[quantity].autoscale_view(scalex=False)
            self.redraw()

        return show

    def redraw(self) -> None:
        """Show the figure as it is now, unless it was shown a moment ago."""
        begin = time.monotonic()
        if begin < self._wait_until:
            return
        if self._place is not None:
            self._place.update(self.figure)
        elif self._in_a_window:
            plt.pause(1e-3)
        end = time.monotonic()
        self._wait_until = end + 2 * (end - begin)

    def finish(self) -> None:
        """Show the figure as it is for good; a script with a window waits until it is closed."""
        if self._place is None:
            plt.show()
        else:
            self._place.update(self.figure)
            plt.close(self.figure)  # or the notebook shows it a second time


def _place_in_a_notebook(figure: Figure) -> Any:
    """Where a notebook shows the figure, or None outside of one."""
    interactive = sys.modules.get("IPython")  # a notebook has imported it
    shell = interactive.get_ipython() if interactive is not None else None
    if not hasattr(shell, "kernel"):
        return None
    return importlib.import_module("IPython.display").display(figure, display_id=True)
