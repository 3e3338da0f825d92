"""Two trainings that should be the same: their losses, and how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import INK, MUTED, PALETTE, panel_title, styled


@styled
def recovery_figure(
    losses: Mapping[str, Sequence[float]], differences: Mapping[str, Sequence[float]], tolerances: Mapping[str, float]
) -> Figure:
    """Draw (a) the losses of the trainings over the steps, (b) their differences beside what is allowed.

    Args:
        losses: Name of a training → its loss at each step. The first is drawn as a line, the others as dots upon it.
        differences: Name of a quantity → largest absolute difference at each step. Exact agreement has no place on a
            logarithmic axis and leaves a gap.
        tolerances: Name of a quantity → largest difference allowed; drawn dashed.

    Raises:
        ValueError: If there is nothing to draw or the series are of different length.

    Example:
        >>> figure = recovery_figure(
        ...     {"pair": [1.0, 0.5], "published": [1.0, 0.5]}, {"loss": [0.0, 1e-16]}, {"loss": 1e-12}
        ... )
        >>> len(figure.axes)
        2
    """
    lengths = {len(series) for series in (*losses.values(), *differences.values())}
    if not losses or not differences or len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"losses and differences must hold series of one length of at least 1, got lengths {sorted(lengths)}"
        )
    steps = range(1, lengths.pop() + 1)
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    trajectory, gap = figure.subplots(1, 2)
    dots: Any = {"linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
    for colour, (name, series) in zip(PALETTE, losses.items(), strict=False):
        look = {**dots, "markevery": max(1, len(series) // 25)} if trajectory.lines else {}
        trajectory.plot(steps, series, color=colour, label=name, **look)
    trajectory.set_ylabel("loss, in the published unit")
    trajectory.legend()
    panel_title(trajectory, "a", "two trainings")
    for number, (name, series) in enumerate(differences.items()):
        colour = PALETTE[number % len(PALETTE)]
        gap.plot(steps, [value if value > 0 else float("nan") for value in series], color=colour, label=name)
        if name in tolerances:
            gap.axhline(tolerances[name], color=colour, linewidth=0.9, linestyle=(number, (4, 4)))
    gap.set(yscale="log", ylabel="largest absolute difference")
    gap.set_ylim(top=10 * max(*tolerances.values(), *map(max, differences.values())))
    figure.legend(handles=gap.get_legend_handles_labels()[0], loc="outside lower right", ncols=len(differences))
    gap.text(0.99, 1.0, "dashed: allowed", color=MUTED, fontsize=10, transform=gap.transAxes, ha="right", va="top")
    panel_title(gap, "b", "their difference")
    for axes in (trajectory, gap):
        axes.set_xlabel("step", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return figure
