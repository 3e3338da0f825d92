"""Four looks at κ as an uncertainty: severity, abstention, calibration, ambiguity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.style import INK, MUTED, PALETTE, panel_title, styled
from inference.judging.calibration import CalibrationBins

_BELOW: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3, "columnspacing": 1.2}


@dataclass(frozen=True)
class UncertaintyCurves:
    """What is drawn.

    Attributes:
        degradations: For each degradation κ relative to the image's own without it, median over images, by level.
        risk: Name of an uncertainty to its risk–coverage curve, the oracle's among them; empty without labels.
        calibration: Expected and seen cosines.
        ambiguity: Ambiguity and the median relative κ, of superpositions of two classes and of one; or `None`.
    """

    degradations: Mapping[str, Tensor]
    risk: Mapping[str, Tensor]
    calibration: CalibrationBins
    ambiguity: tuple[Tensor, Tensor, Tensor] | None


@styled
def uncertainty_figure(curves: UncertaintyCurves) -> Figure:
    """Draw κ over degradations, risk over coverage, seen over expected cosines, and κ over ambiguity.

    Panels whose numbers need labels are left out where there are none.
    """
    drawn = {r"$\kappa$ as images are degraded": _draw_degradations, "calibration": _draw_calibration}
    if curves.risk:
        drawn["risk of the most certain images"] = _draw_risk
    if curves.ambiguity is not None:
        drawn["superpositions of two images"] = _draw_ambiguity
    rows = (len(drawn) + 1) // 2
    figure = Figure(figsize=(10, 3.9 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for letter, (title, draw), axes in zip("abcd", drawn.items(), panels, strict=False):
        draw(axes, curves)
        panel_title(axes, letter, title)
    for axes in list(panels)[len(drawn) :]:
        axes.set_axis_off()
    return figure


def _draw_degradations(axes: Axes, curves: UncertaintyCurves) -> None:
    for (name, relative), colour in zip(curves.degradations.items(), PALETTE, strict=False):
        axes.plot(range(len(relative)), relative.numpy(), color=colour, marker="o", markersize=4, label=name)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle="dashed")
    axes.set(xlabel="level of the degradation (0: none)", ylabel=r"$\kappa$ / $\kappa$ of the whole image, median")
    axes.set_ylim(bottom=0)
    axes.legend(**_BELOW)


def _draw_calibration(axes: Axes, curves: UncertaintyCurves) -> None:
    bins = curves.calibration
    expected, seen = bins.predicted.numpy(), bins.observed.numpy()
    low, high = min(expected.min(), seen.min()), max(expected.max(), seen.max())
    margin = 0.05 * max(high - low, 0.02)
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle="dashed", label="calibrated")
    axes.plot(expected, seen, color=PALETTE[0], marker="o", markersize=4, label=r"bins of $\kappa$")
    axes.set(xlim=ends, ylim=ends, xlabel="mean cosine that the expert expects", ylabel="mean cosine of fresh views")
    axes.legend(loc="upper left")


def _draw_risk(axes: Axes, curves: UncertaintyCurves) -> None:
    colours = iter(PALETTE)
    for name, risk in curves.risk.items():
        coverage = [(kept + 1) / len(risk) for kept in range(len(risk))]
        look = (INK, "dotted") if name == "oracle" else (next(colours), "solid")
        label = name.replace("κ", r"$\kappa$")
        axes.plot(coverage, risk.numpy(), color=look[0], linestyle=look[1], label=label)
    # The first few images say nothing: one error among two of them is a risk of a half.
    start = len(next(iter(curves.risk.values()))) // 20
    top = max(float(risk[start:].max()) for risk in curves.risk.values())
    axes.set(xlim=(0, 1), ylim=(0, 1.1 * top if top else 1), xlabel="coverage", ylabel="error of the linear probe")
    axes.legend(**_BELOW)


def _draw_ambiguity(axes: Axes, curves: UncertaintyCurves) -> None:
    assert curves.ambiguity is not None  # noqa: S101  # the caller's invariant
    ambiguity, classes, control = curves.ambiguity
    drawn = (classes, PALETTE[1], "of two classes"), (control, MUTED, "of one class (not ambiguous)")
    for relative, colour, label in drawn:
        axes.plot(ambiguity.numpy(), relative.numpy(), color=colour, marker="o", markersize=4, label=label)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle="dashed")
    axes.set(xlabel="weight of the second image, doubled", ylabel=r"$\kappa$ / $\kappa$ of the single image, median")
    axes.set_ylim(0, 1.1 * max(float(classes.max()), float(control.max()), 1.0))
    axes.legend(loc="lower left")
