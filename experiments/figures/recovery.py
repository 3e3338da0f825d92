"""Two trainings that should be the same: their losses, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import INK, MUTED, PALETTE, panel_title, styled
from experiments.special_cases.recovery import TOLERANCES, Step


@styled
def recovery_figure(method: str, steps: Sequence[Step]) -> Figure:
    """Draw (a) the losses of both trainings over the steps, (b) their differences beside what is allowed.

    Args:
        method: Its name for people.
        steps: At least one. Exact agreement has no place on a logarithmic axis and leaves a gap.
    """
    numbers = range(1, len(steps) + 1)
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    trajectory, gap = figure.subplots(1, 2)
    pair, published = [step.ours for step in steps], [step.published for step in steps]
    trajectory.plot(numbers, pair, color=PALETTE[0], label=f"{method}, pair under the KL objective")
    dots = {"markersize": 4, "markerfacecolor": "none", "markevery": max(1, len(steps) // 25)}
    trajectory.plot(numbers, published, "o", color=PALETTE[1], label=f"{method}, published algorithm", **dots)
    trajectory.set_ylabel("loss, in the published unit")
    trajectory.legend()
    panel_title(trajectory, "a", "two trainings")
    for number, (name, allowed) in enumerate(TOLERANCES.items()):
        differences = [getattr(step, name) for step in steps]
        shown = [value if value > 0 else math.nan for value in differences]
        gap.plot(numbers, shown, color=PALETTE[number], label=name)
        gap.axhline(allowed, color=PALETTE[number], linewidth=0.9, linestyle=(number, (4, 4)))
    gap.set(yscale="log", ylabel="largest absolute difference")
    gap.set_ylim(top=10 * gap.get_ylim()[1])
    figure.legend(handles=gap.get_legend_handles_labels()[0], loc="outside lower right", ncols=len(TOLERANCES))
    gap.text(0.99, 1.0, "dashed: allowed", color=MUTED, fontsize=10, transform=gap.transAxes, ha="right", va="top")
    panel_title(gap, "b", "their difference")
    for axes in (trajectory, gap):
        axes.set_xlabel("step", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return figure
