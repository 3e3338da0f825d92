"""Fig. 1 of arXiv:2203.11437v1: the data flow of SimSiam and of VI-SimSiam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from experiments.figures.style import HIGH, INK, LOW, MUTED, styled

_ENCODER, _PREDICTOR, _DISTRIBUTION, _PLAIN = "#D6E6F2", "#FBE0CC", "#D5EDE3", "#F2F2F2"
_LEFT, _MIDDLE, _RIGHT = 1.9, 4.1, 6.4  # columns: the view that predicts, the image, the view that is predicted
_HEIGHT = 0.62
_BELOW, _ABOVE = -_HEIGHT / 2, _HEIGHT / 2  # from the middle of a box to its edges
# Rows, from the image down to the loss.
_IMAGE, _VIEW, _ENCODE, _PREDICT, _PARAMETERS, _DENSITY, _CIRCLE, _LOSS = 9.9, 8.65, 7.4, 6.15, 4.9, 3.65, 2.05, 0.45
_FONT_SIZE = 12
_BOX: Any = {"boxstyle": "round,pad=0,rounding_size=0.12", "edgecolor": INK, "linewidth": 0.9}
_ARROW: Any = {"mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "linewidth": 1}

Point = tuple[float, float]


@styled
def data_flow_figure() -> Figure:
    """Draw how an image becomes the loss in SimSiam and in VI-SimSiam: Fig. 1 of arXiv:2203.11437v1.

    Both methods encode two views; the guide holds one embedding fixed (stop-gradient) and the model predicts it from
    the other view. SimSiam predicts a direction alone, which is a von Mises–Fisher distribution of constant κ;
    VI-SimSiam predicts κ as well, in a Power Spherical distribution. The circles show such densities around μ₁.
    """
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_common(left, "(a)  SimSiam")
    _draw_simsiam(left)
    _draw_common(right, "(b)  VI-SimSiam")
    _draw_vi_simsiam(right)
    return figure


def _draw_common(axes: Axes, title: str) -> None:
    axes.set(xlim=(0, 8.1), ylim=(-0.3, 10.5), aspect="equal")
    axes.set_axis_off()
    axes.text(0.1, _IMAGE, title, ha="left", va="center", fontsize=_FONT_SIZE + 2)
    _box(axes, (_MIDDLE, _IMAGE), "image $x$", _PLAIN)
    for column, view in ((_LEFT, "1"), (_RIGHT, "2")):
        _box(axes, (column, _VIEW), f"view $x_{view}$", _PLAIN)
        _arrow(axes, (_MIDDLE, _IMAGE + _BELOW), (column, _VIEW + _ABOVE))
        _box(axes, (column, _ENCODE), r"encoder $f_\phi$", _ENCODER, width=2.1)
        _arrow(axes, (column, _VIEW + _BELOW), (column, _ENCODE + _ABOVE))
    _note(axes, (_MIDDLE, 9.05), "random\naugmentations")
    _arrow(axes, (_LEFT + 1.05, _ENCODE), (_RIGHT - 1.05, _ENCODE), style="<->", line="dashed", colour=MUTED)
    _note(axes, (_MIDDLE + 0.05, _ENCODE + 0.2), "same weights")

    # The model predicts the other view's embedding; what its predictor gives differs between the methods.
    _arrow(axes, (_LEFT, _ENCODE + _BELOW), (_LEFT, _PREDICT + _ABOVE))
    _note(axes, (_LEFT + 0.3, (_ENCODE + _PREDICT) / 2), "$z_1$", colour=INK, size=_FONT_SIZE)
    _box(axes, (_LEFT, _PREDICT), r"predictor $h_\psi$", _PREDICTOR, width=2.5)
    _arrow(axes, (_LEFT, _DENSITY + _BELOW), (_LEFT, _LOSS + _ABOVE))
    _note(axes, (_LEFT - 0.5, _DENSITY - 0.6), "model")

    # The guide: a stop-gradient on the way from the encoder to the embedding.
    _arrow(axes, (_RIGHT, _ENCODE + _BELOW), (_RIGHT, _PARAMETERS + _ABOVE))
    for offset in (-0.07, 0.07):
        axes.plot([_RIGHT - 0.3, _RIGHT + 0.3], [_PREDICT + offset] * 2, color=INK, linewidth=2.4)
    _note(axes, (_RIGHT - 1.2, _PREDICT), "stop-gradient", colour=INK, size=11)
    _box(axes, (_RIGHT, _PARAMETERS), "$z_2$", _PLAIN, width=1.1)
    _arrow(axes, (_RIGHT, _PARAMETERS + _BELOW), (_RIGHT, _DENSITY + _ABOVE))
    _box(axes, (_RIGHT, _DENSITY), r"$q_\phi(z\,|\,x_2)=\delta(z-z_2)$", _DISTRIBUTION, width=3.1)
    _arrow(axes, (_RIGHT, _DENSITY + _BELOW), (_RIGHT, _LOSS + _ABOVE))
    _note(axes, (_RIGHT + 0.5, _DENSITY - 0.6), "guide")

    loss = r"$\mathcal{L}=-\log p_\psi(z_2\,|\,x_1)-\log p_\psi(z_1\,|\,x_2)$"
    _box(axes, (_MIDDLE, _LOSS), loss, "white", width=6.4)
    _note(axes, (_MIDDLE, -0.12), "second term: the same with the two views exchanged")


def _draw_simsiam(axes: Axes) -> None:
    _draw_parameters(axes, r"constant $\kappa$", predicted=False)
    _box(axes, (_LEFT, _DENSITY), r"$p_\psi(z\,|\,x_1)=\mathrm{vMF}(z;\,\mu_1,\kappa)$", _DISTRIBUTION, width=3.6)
    _lobe(axes, (_MIDDLE, _CIRCLE), lambda cosine: np.exp(2.5 * (cosine - 1)), MUTED)
    _note(axes, (_MIDDLE, _CIRCLE - 0.75), r"one $\kappa$ for all images")


def _draw_vi_simsiam(axes: Axes) -> None:
    _draw_parameters(axes, r"$\kappa_1$", predicted=True)
    _box(axes, (_LEFT, _DENSITY), r"$p_\psi(z\,|\,x_1)=\mathrm{PS}(z;\,\mu_1,\kappa_1)$", _DISTRIBUTION, width=3.6)
    _lobe(axes, (_MIDDLE - 1.0, _CIRCLE), lambda cosine: ((1 + cosine) / 2) ** 14, HIGH)
    _lobe(axes, (_MIDDLE + 1.1, _CIRCLE), lambda cosine: (1 + cosine) / 2, LOW)
    _note(axes, (_MIDDLE - 1.0, _CIRCLE - 0.75), r"large $\kappa_1$: certain", colour=HIGH)
    _note(axes, (_MIDDLE + 1.1, _CIRCLE - 0.75), r"small $\kappa_1$: uncertain", colour=LOW)


def _draw_parameters(axes: Axes, concentration: str, *, predicted: bool) -> None:
    """Draw μ₁ below the predictor, and beside it κ, which comes from the predictor or from nowhere."""
    columns = (_LEFT - 0.75, _LEFT + 0.75)
    _box(axes, (columns[0], _PARAMETERS), r"$\mu_1$", _PREDICTOR, width=1.1)
    looks = (_PREDICTOR, 1.1, "solid") if predicted else ("white", 1.5, "dashed")
    _box(axes, (columns[1], _PARAMETERS), concentration, looks[0], width=looks[1], line=looks[2])
    for column in columns:
        _arrow(axes, (column, _PARAMETERS + _BELOW), (column, _DENSITY + _ABOVE))
    for column in columns if predicted else columns[:1]:
        _arrow(axes, (column, _PREDICT + _BELOW), (column, _PARAMETERS + _ABOVE))


def _lobe(axes: Axes, centre: Point, relative_density: Callable[[Any], Any], colour: str) -> None:
    """Draw a density on the unit circle as its height over the circle, around a mode pointing up and right."""
    radius, mode = 0.4, np.pi / 4
    angle = np.linspace(0, 2 * np.pi, 361)
    density = relative_density(np.cos(angle - mode))
    height = radius * (1 + 0.28 * density / density.mean())
    x, y = centre
    axes.fill(x + height * np.cos(angle), y + height * np.sin(angle), color=colour, alpha=0.35, linewidth=0)
    axes.fill(x + radius * np.cos(angle), y + radius * np.sin(angle), color="white", linewidth=0)
    axes.plot(x + radius * np.cos(angle), y + radius * np.sin(angle), color=INK, linewidth=0.8)
    _arrow(axes, centre, (x + radius * np.cos(mode), y + radius * np.sin(mode)))


def _note(axes: Axes, centre: Point, text: str, *, colour: str = MUTED, size: float = 10.5) -> None:
    axes.text(*centre, text, ha="center", va="center", color=colour, fontsize=size)


def _box(axes: Axes, centre: Point, text: str, colour: str, *, width: float = 1.7, line: str = "solid") -> None:
    x, y = centre
    corner = (x - width / 2, y - _HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, width, _HEIGHT, facecolor=colour, linestyle=line, **_BOX))
    axes.text(x, y, text, ha="center", va="center", color=INK, fontsize=_FONT_SIZE)


def _arrow(axes: Axes, start: Point, end: Point, *, style: str = "-|>", line: str = "solid", colour: str = INK) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, linestyle=line, color=colour, **_ARROW))
