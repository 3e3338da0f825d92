"""Fig. 1 of arXiv:2203.11437v1: the data flow of SimSiam and of VI-SimSiam."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.drawing import HEIGHT, PLAIN, arrow, blank, box, density, direction, note
from experiments.figures.style import HIGH, INK, LOW, MUTED, styled
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher

_ENCODER, _PREDICTOR, _DISTRIBUTION = "#D6E6F2", "#FBE0CC", "#D5EDE3"
_LEFT, _MIDDLE, _RIGHT = 1.9, 4.1, 6.4  # columns: the view that predicts, the image, the view that is predicted
# Rows, from the image down to the loss.
_IMAGE, _VIEW, _ENCODE, _PREDICT, _PARAMETERS, _DENSITY, _CIRCLE, _LOSS = 9.9, 8.65, 7.4, 6.15, 4.9, 3.65, 2.05, 0.45


@styled
def data_flow_figure() -> Figure:
    """Draw how an image becomes the loss in SimSiam and in VI-SimSiam: Fig. 1 of arXiv:2203.11437v1.

    Both methods encode two views; the guide holds one embedding fixed (stop-gradient) and the model predicts it from
    the other view. SimSiam predicts a direction alone, which is a von Mises–Fisher distribution of constant κ;
    VI-SimSiam predicts κ as well, in a Power Spherical distribution. The circles show such densities around μ₁.
    """
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    simsiam, vi_simsiam = figure.subplots(1, 2)
    _draw_common(simsiam, "(a)  SimSiam")
    _draw_expert(simsiam, r"\mathrm{vMF}(z;\,\mu_1,\kappa)", r"constant $\kappa$", predicted=False)
    _draw_circle(simsiam, _MIDDLE, VonMisesFisher(direction(45), 2.5), r"one $\kappa$ for all images", MUTED)
    _draw_common(vi_simsiam, "(b)  VI-SimSiam")
    _draw_expert(vi_simsiam, r"\mathrm{PS}(z;\,\mu_1,\kappa_1)", r"$\kappa_1$", predicted=True)
    certain, uncertain = (PowerSpherical(direction(45), kappa) for kappa in (14.0, 1.0))
    _draw_circle(vi_simsiam, _MIDDLE - 1.0, certain, r"large $\kappa_1$: certain", HIGH)
    _draw_circle(vi_simsiam, _MIDDLE + 1.1, uncertain, r"small $\kappa_1$: uncertain", LOW)
    return figure


def _draw_common(axes: Axes, title: str) -> None:
    blank(axes, (0, 8.1), (-0.3, 10.5))
    axes.text(0.1, _IMAGE, title, ha="left", va="center", fontsize=14)
    box(axes, (_MIDDLE, _IMAGE), "image $x$", PLAIN)
    for column, view in ((_LEFT, "1"), (_RIGHT, "2")):
        box(axes, (column, _VIEW), f"view $x_{view}$", PLAIN)
        box(axes, (column, _ENCODE), r"encoder $f_\phi$", _ENCODER, width=2.1)
    note(axes, (_MIDDLE, 9.05), "random\naugmentations")
    arrow(axes, (_LEFT + 1.05, _ENCODE), (_RIGHT - 1.05, _ENCODE), style="<->", line="dashed", colour=MUTED)
    note(axes, (_MIDDLE + 0.05, _ENCODE + 0.2), "same weights")

    # The model predicts the other view's embedding; what its predictor gives differs between the methods.
    _down(axes, (_MIDDLE, _IMAGE), (_LEFT, _VIEW), (_LEFT, _ENCODE), (_LEFT, _PREDICT))
    note(axes, (_LEFT + 0.3, (_ENCODE + _PREDICT) / 2), "$z_1$", INK, 12)
    box(axes, (_LEFT, _PREDICT), r"predictor $h_\psi$", _PREDICTOR, width=2.5)
    _down(axes, (_LEFT, _DENSITY), (_LEFT, _LOSS))
    note(axes, (_LEFT - 0.5, _DENSITY - 0.6), "model")

    # The guide: a stop-gradient on the way from the encoder to the embedding.
    _down(axes, (_MIDDLE, _IMAGE), *((_RIGHT, row) for row in (_VIEW, _ENCODE, _PARAMETERS, _DENSITY, _LOSS)))
    for offset in (-0.07, 0.07):
        axes.plot([_RIGHT - 0.3, _RIGHT + 0.3], [_PREDICT + offset] * 2, color=INK, linewidth=2.4)
    note(axes, (_RIGHT - 1.2, _PREDICT), "stop-gradient", INK, 11)
    box(axes, (_RIGHT, _PARAMETERS), "$z_2$", PLAIN, width=1.1)
    box(axes, (_RIGHT, _DENSITY), r"$q_\phi(z\,|\,x_2)=\delta(z-z_2)$", _DISTRIBUTION, width=3.1)
    note(axes, (_RIGHT + 0.5, _DENSITY - 0.6), "guide")

    loss = r"$\mathcal{L}=-\log p_\psi(z_2\,|\,x_1)-\log p_\psi(z_1\,|\,x_2)$"
    box(axes, (_MIDDLE, _LOSS), loss, "white", width=6.4)
    note(axes, (_MIDDLE, -0.12), "second term: the same with the two views exchanged")


def _draw_expert(axes: Axes, family: str, concentration: str, *, predicted: bool) -> None:
    """Draw the expert, and above it μ₁ and κ, which comes from the predictor or from nowhere."""
    colour, width, line = (_PREDICTOR, 1.1, "solid") if predicted else ("white", 1.5, "dashed")
    box(axes, (_LEFT - 0.75, _PARAMETERS), r"$\mu_1$", _PREDICTOR, width=1.1)
    box(axes, (_LEFT + 0.75, _PARAMETERS), concentration, colour, width=width, line=line)
    for column, first in ((_LEFT - 0.75, 0), (_LEFT + 0.75, int(not predicted))):
        _down(axes, *((column, row) for row in (_PREDICT, _PARAMETERS, _DENSITY)[first:]))
    box(axes, (_LEFT, _DENSITY), rf"$p_\psi(z\,|\,x_1)={family}$", _DISTRIBUTION, width=3.6)


def _draw_circle(axes: Axes, x: float, expert: PowerSpherical | VonMisesFisher, text: str, colour: str) -> None:
    """Draw a density on the unit circle around a mode that points up and right."""
    centre, radius = (x, _CIRCLE), 0.4
    density(axes, expert, colour, centre=centre, radius=radius, height=1.76)
    up, right = radius * direction(45)
    arrow(axes, centre, (x + float(right), _CIRCLE + float(up)))
    note(axes, (x, _CIRCLE - 0.75), text, colour)


def _down(axes: Axes, *boxes: tuple[float, float]) -> None:
    """Join each box with the one below it."""
    for (x, y), (under, below) in pairwise(boxes):
        arrow(axes, (x, y - HEIGHT / 2), (under, below + HEIGHT / 2))
