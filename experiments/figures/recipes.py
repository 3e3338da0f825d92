"""Recipes against tests: what each costs in accuracy, and which tests of κ it passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.figures.accuracies import draw_rows
from experiments.figures.style import HIGH, INK, LOW, MUTED, panel_title, styled
from experiments.records.record import Cell

_COLOURS = LinearSegmentedColormap.from_list("worse than nothing, nothing, the aim", [LOW, "#FFFFFF", HIGH])
_KEY = (
    "white: knows nothing; blue: as far as the aim; orange: as far in the wrong direction\n"
    "bold in a frame: the mean reaches the aim; in a thick one the whole interval does"
)
_PALE = 0.75  # the strongest colour leaves the numbers legible


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Above it.
        aim_text: What was aimed at.
        nothing: Value of an uncertainty that knows nothing.
        aim: Value that was aimed at, above or below `nothing`.
        signed: Whether the sign counts; otherwise the size alone.
        reached: Whether a cell reaches what was aimed at; of an aim that nobody set none does.
    """

    name: str
    aim_text: str
    nothing: float
    aim: float
    signed: bool = True
    reached: Callable[[Cell], bool] = lambda _: False

    def score(self, value: float) -> float:
        """0 for nothing, 1 for the aim or better, −1 for as much in the wrong direction or worse.

        Example:
            >>> Column("U3", "≥ 0.6", 0.5, 0.6).score(0.55)
            0.5...
        """
        value = value if self.signed else abs(value)
        return max(-1.0, min(1.0, (value - self.nothing) / (self.aim - self.nothing)))


@styled
def recipes_figure(accuracy: Mapping[str, Cell], tests: Mapping[Column, Mapping[str, Cell]], reference: str) -> Figure:
    """Draw the difference in accuracy with its interval, and beside it a heat map of the tests.

    The colour of a cell says how far its mean lies from knowing nothing (white) towards the aim (blue) or in the wrong
    direction (orange); a frame marks means that reach the aim, a thick one intervals that lie beyond it.

    Args:
        accuracy: Differences in percentage points, by recipe.
        tests: Cells of each test, by recipe.
        reference: The recipe that differences are to.
    """
    labels = list(accuracy)
    figure = Figure(figsize=(4.6 + 0.72 * len(tests), 1.5 + 0.36 * len(labels)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.0, 0.72 * max(len(tests), 1)))
    draw_rows(left, {label: Cell(0.0) if label == reference else accuracy[label] for label in labels}, reference)
    left.tick_params(axis="y", length=0)
    for column, (test, cells) in enumerate(tests.items()):
        for place, label in enumerate(labels):
            _cell(right, column, place, test, cells.get(label, Cell()))
    names = [f"{test.name.replace(' ', chr(10), 1)}\n{test.aim_text.split(',')[0]}" for test in tests]
    right.set(xticks=range(len(tests)), xticklabels=names, xlim=(-0.5, len(tests) - 0.5))
    right.xaxis.tick_top()
    right.tick_params(length=0, labelsize=9)
    right.spines[["left", "bottom"]].set_visible(False)
    right.set_xlabel(_KEY, color=MUTED, fontsize=9, labelpad=8)
    panel_title(left, "a", "accuracy")
    left.set_xlabel(f"top-1, points above {reference}")
    panel_title(right, "b", "tests of u, and what would be good")
    return figure


def _cell(axes: Axes, column: int, place: int, test: Column, cell: Cell) -> None:
    if cell.value is None:
        axes.text(column, place, "–", ha="center", va="center", color=MUTED, fontsize=9)
        return
    colour = _COLOURS(0.5 + 0.5 * _PALE * test.score(cell.value))
    axes.add_patch(Rectangle((column - 0.47, place - 0.45), 0.94, 0.9, color=colour, linewidth=0))
    reached = test.reached(cell)
    text, weight = f"{cell.value:z.2f}".replace("-", "−"), "bold" if reached else "normal"
    axes.text(column, place, text, ha="center", va="center", fontsize=9, color=INK, weight=weight)
    if reached:
        surely = all(end is not None and test.score(end) >= 1 for end in (cell.low, cell.high))
        width = 2 if surely else 0.8
        axes.add_patch(Rectangle((column - 0.45, place - 0.42), 0.9, 0.84, fill=False, edgecolor=INK, linewidth=width))
