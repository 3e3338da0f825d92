"""Accuracies with their intervals, a line a row of the table."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.style import MUTED, PALETTE, panel_title, styled
from experiments.records.record import Cell


@styled
def accuracies_figure(
    panels: Mapping[str, Mapping[str, Cell]], reference: str, *, label: str = "top-1 accuracy, %"
) -> Figure:
    """Draw the mean and interval of each row as a dot with a bar, every seed as a small dot.

    Args:
        panels: Title of a panel to its rows, from the top; the same rows in each.
        reference: The row whose mean is drawn through the others.
        label: Of the horizontal axes.
    """
    labels = list(next(iter(panels.values())))
    figure = Figure(figsize=(4.2 + 4.2 * len(panels), 1.4 + 0.34 * len(labels)), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for number, (axes, title) in enumerate(zip(grid, panels, strict=True)):
        draw_rows(axes, panels[title], reference)
        axes.set_xlabel(label)
        panel_title(axes, "abcdefgh"[number % 8], title)
    return figure


def draw_rows(axes: Axes, cells: Mapping[str, Cell], reference: str) -> None:
    """Draw a row a cell, from the top: mean, interval and every seed, or its text; a line through the reference."""
    known = cells.get(reference, Cell()).value
    if known is not None:
        axes.axvline(known, color=MUTED, linewidth=0.8, linestyle="dashed")
    for place, (label, cell) in enumerate(cells.items()):
        if cell.value is None:
            axes.text(0.02, place, cell.text or "–", transform=axes.get_yaxis_transform(), va="center", color=MUTED)
            continue
        colour, seeds = PALETTE[label == reference], [value for value in cell.each if value is not None]
        axes.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=3, alpha=0.5)
        axes.plot([cell.value], [place], "D", color=colour, markersize=5)
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [place, place], color=colour, linewidth=1.4)
    axes.set(yticks=range(len(cells)), yticklabels=list(cells), ylim=(len(cells) - 0.5, -0.5))
    axes.grid(axis="y", color=MUTED, alpha=0.15)
