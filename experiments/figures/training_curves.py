"""How a training went: every logged quantity over the epochs, the methods in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import PALETTE, styled

Series = Sequence[tuple[int, float]]
Histories = Mapping[str, Mapping[str, Series]]

_COLUMNS = 3
_DECADES = 30.0  # ratio of largest to smallest value from which quantiles get a logarithmic axis


@styled
def training_curves_figure(histories: Histories) -> Figure:
    """Draw one small plot for each quantity, with a line for each method that has it; of the loss one for each method.

    The losses' values do not compare: a negative log-likelihood under different distributions has a different zero and
    scale.

    A series called `quantity/q05` is a quantile, here the 5 % one, of `quantity`. The quantiles of a quantity share its
    plot, whose title names them: the middle one is a line, in a band from the lowest to the highest. The plot has a
    logarithmic scale when they span more than a factor of 30.

    Args:
        histories: Method → series → `(epoch, value)` pairs, in order.

    Raises:
        ValueError: If there is no method, a method has no series, or a series is empty.

    Example:
        >>> figure = training_curves_figure({"SimSiam": {"loss": [(0, -1.0), (1, -2.0)], "kNN": [(0, 0.1), (1, 0.8)]}})
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['loss, SimSiam', 'kNN']
    """
    if not histories or not all(history and all(history.values()) for history in histories.values()):
        got = {method: {name: len(series) for name, series in history.items()} for method, history in histories.items()}
        raise ValueError(
            f"histories must hold at least one method, each with series of (epoch, value), got lengths {got}"
        )
    colours = dict(zip(histories, cycle(PALETTE), strict=False))
    panels: dict[str, dict[str, dict[int, Series]]] = {}
    for method, history in histories.items():
        for name, series in history.items():
            quantity, _, percent = name.partition("/q")
            title = f"{quantity}, {method}" if quantity == "loss" else quantity
            panels.setdefault(title, {}).setdefault(method, {})[int(percent or 50)] = series
    columns, rows = min(_COLUMNS, len(panels)), -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(3.3 * columns, 0.5 + 2.5 * rows), layout="constrained")
    for number, title in enumerate(sorted(panels, key=lambda title: not title.startswith("loss")), 1):
        axes = figure.add_subplot(rows, columns, number)
        percents = sorted(next(iter(panels[title].values())))
        axes.set_title(title if len(percents) == 1 else f"{title} ({', '.join(map(str, percents))} %)")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        if number + columns > len(panels):
            axes.set_xlabel("epoch")
        for method, quantiles in panels[title].items():
            _draw(axes, quantiles, colours[method])
    if len(histories) > 1:
        keys = [Line2D([], [], color=colour, label=method) for method, colour in colours.items()]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


def _draw(axes: Axes, quantiles: Mapping[int, Series], colour: str) -> None:
    percents = sorted(quantiles)
    epochs, *_ = zip(*quantiles[percents[0]], strict=True)
    curves = [[value for _, value in quantiles[percent]] for percent in percents]
    axes.plot(epochs, curves[len(curves) // 2], color=colour, marker="o" if len(epochs) == 1 else None)
    if len(percents) > 1:
        axes.fill_between(epochs, curves[0], curves[-1], color=colour, alpha=0.22, linewidth=0)
        if 0 < max(curves[-1]) > _DECADES * min(curves[0]) > 0:
            axes.set_yscale("log")
