"""The pictures of docs/glossary.md: the words of the sphere, drawn on the circle, which is the sphere for d = 2."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.data_flow import Point, _arrow, _box, _note
from experiments.figures.style import HIGH, INK, LOW, MUTED, PALETTE, styled
from ssl_as_inference.distributions import PowerSpherical, ProductOfExperts, VonMisesFisher

_ANGLES = torch.linspace(0, 2 * torch.pi, 721, dtype=torch.float64)
_CIRCLE = torch.stack([_ANGLES.cos(), _ANGLES.sin()], -1)


def _direction(degrees: float) -> Tensor:
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()])


def _fisher(degrees: float, concentration: float) -> VonMisesFisher:
    return VonMisesFisher(_direction(degrees), torch.tensor(concentration, dtype=torch.float64))


def _circles(titles: tuple[str, ...]) -> tuple[Figure, list[Axes]]:
    """A row of unit circles."""
    figure = Figure(figsize=(2.3 * len(titles), 2.6), layout="constrained")
    panels = list(figure.subplots(1, len(titles), squeeze=False).flat)
    for axes, title in zip(panels, titles, strict=True):
        axes.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal")
        axes.set_axis_off()
        axes.set_title(title, loc="center")
        axes.plot(*_CIRCLE.T, color=INK, linewidth=0.8)
    return figure, panels


def _density(axes: Axes, distribution: Any, colour: str, *, filled: bool = True) -> None:
    """A density on the circle, as its height over the circle."""
    edge = _CIRCLE * (1 + 0.5 * distribution.log_prob(_CIRCLE).exp())[:, None]
    if filled:
        axes.fill(*edge.T, color=colour, alpha=0.35, linewidth=0)
        axes.fill(*_CIRCLE.T, color="white", linewidth=0)
        axes.plot(*_CIRCLE.T, color=INK, linewidth=0.8)
    else:
        axes.plot(*edge.T, color=colour, linewidth=1.2)


def _ray(axes: Axes, end: Tensor, start: Tensor | None = None, *, colour: str = INK) -> None:
    _arrow(axes, _point(torch.zeros(2) if start is None else start), _point(end), colour=colour)


def _point(vector: Tensor) -> Point:
    return float(vector[0]), float(vector[1])


@styled
def concentration_figure() -> Figure:
    """The von Mises–Fisher density with one mean direction and three concentrations."""
    figure, panels = _circles((r"$\kappa=0$", r"$\kappa=2$", r"$\kappa=8$"))
    for axes, kappa in zip(panels, (0.0, 2.0, 8.0), strict=True):
        _density(axes, _fisher(45, kappa), HIGH)
        _ray(axes, _direction(45))
    return figure


@styled
def product_figure() -> Figure:
    """Two experts as lines and their normalised product as an area: where they agree and where they do not."""
    figure, panels = _circles(("two views that agree", "two views that disagree"))
    for axes, second in zip(panels, (75.0, 165.0), strict=True):
        experts = VonMisesFisher(torch.stack([_direction(35), _direction(second)]), torch.full((2,), 4.0).double())
        _density(axes, ProductOfExperts(experts).normalized(), MUTED)
        for colour, angle in ((HIGH, 35.0), (LOW, second)):
            _density(axes, _fisher(angle, 4.0), colour, filled=False)
            _ray(axes, _direction(angle), colour=colour)
    return figure


@styled
def resultant_figure() -> Figure:
    """Arrows of length κ joined end to end: the length R of their sum is the concentration of the product."""
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    for axes, second, title in zip(
        figure.subplots(1, 2), (75.0, 165.0), ("agree: $R$ is large", "disagree: $R$ is small"), strict=True
    ):
        axes.set(xlim=(-0.9, 1.7), ylim=(-0.4, 2.2), aspect="equal")
        axes.set_axis_off()
        axes.set_title(title, loc="center")
        first, both = _direction(35), _direction(35) + _direction(second)
        _ray(axes, first, colour=HIGH)
        _ray(axes, both, first, colour=LOW)
        _ray(axes, both)
        for text, at, colour in (
            (r"$\kappa_1\mu_1$", first / 2 + torch.tensor([0.4, -0.1]), HIGH),
            (r"$\kappa_2\mu_2$", (first + both) / 2 + torch.tensor([0.45, 0.2]), LOW),
            (r"$\eta$", both / 2 + torch.tensor([-0.2, 0.05]), INK),
        ):
            _note(axes, _point(at), text, colour=colour)
    return figure


@styled
def resultant_length_figure() -> Figure:
    """Thirty draws at three concentrations, their mean as an arrow, and the mean resultant length ρ."""
    concentrations = (0.5, 2.0, 20.0)
    lengths = [float(_fisher(0, kappa).mean_resultant_length) for kappa in concentrations]
    figure, panels = _circles(
        tuple(
            rf"$\kappa={kappa:g}$, $\rho={length:.2f}$" for kappa, length in zip(concentrations, lengths, strict=True)
        )
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for axes, kappa in zip(panels, concentrations, strict=True):
            draws = _fisher(45, kappa).sample((30,))
            axes.scatter(draws[:, 0], draws[:, 1], s=14, color=HIGH, zorder=3)
            _ray(axes, draws.mean(0), colour=LOW)
    return figure


@styled
def mixture_figure() -> Figure:
    """The guide's three atoms, each of weight 1/3, and beside it the product of experts around the same directions."""
    figure, panels = _circles(("mixture of point masses", "product of experts"))
    angles = (20.0, 80.0, 125.0)
    for colour, angle in zip(PALETTE, angles, strict=False):
        panels[0].plot(*torch.stack([_direction(angle), 1.4 * _direction(angle)]).T, color=colour, linewidth=3)
        panels[0].scatter(*_point(_direction(angle)), 25, color=colour, zorder=3)
        _note(panels[0], _point(1.58 * _direction(angle)), "1/3", colour=colour)
        _density(panels[1], _fisher(angle, 3.0), colour, filled=False)
    experts = VonMisesFisher(torch.stack([_direction(angle) for angle in angles]), torch.full((3,), 3.0).double())
    _density(panels[1], ProductOfExperts(experts).normalized(), MUTED)
    return figure


@styled
def families_figure() -> Figure:
    """Power Spherical with κ beside von Mises–Fisher with κ/2, in space (d = 3), over the angle to the mean."""
    figure = Figure(figsize=(6.9, 2.6), layout="constrained")
    angle = torch.linspace(0, torch.pi, 361, dtype=torch.float64)
    z = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
    for axes, kappa in zip(figure.subplots(1, 2), (2.0, 40.0), strict=True):
        for family, concentration, colour, name in (
            (PowerSpherical, kappa, HIGH, rf"Power Spherical, $\kappa={kappa:g}$"),
            (VonMisesFisher, kappa / 2, LOW, rf"von Mises–Fisher, $\kappa={kappa / 2:g}$"),
        ):
            expert = family(z[0], torch.tensor(concentration, dtype=torch.float64))
            line = "-" if family is PowerSpherical else "--"
            axes.plot(angle.rad2deg(), expert.log_prob(z).exp(), line, color=colour, label=name)
        axes.set(xlabel="angle to the mean direction, degrees", ylim=(0, None), xticks=(0, 60, 120, 180))
        axes.legend(loc="upper right")
    figure.axes[0].set_ylabel("density")
    return figure


@styled
def collapse_figure() -> Figure:
    """Outputs of many images: spread, collapsed to one point, and collapsed to one line."""
    figure, panels = _circles(("no collapse", "complete", "dimensional"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = 4 * torch.randn(40)
        angles = (360 * torch.rand(40), 45 + noise, 45 + noise + 180 * (torch.arange(40) % 2))
    for axes, each in zip(panels, angles, strict=True):
        axes.scatter(each.deg2rad().cos(), each.deg2rad().sin(), s=14, color=HIGH, alpha=0.7, zorder=3)
    return figure


@styled
def stop_gradient_figure() -> Figure:
    """Values flow to the loss through both branches, the gradient back through the model's branch alone."""
    figure = Figure(figsize=(6.9, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 11), ylim=(0, 3.6), aspect="equal")
    axes.set_axis_off()
    columns = (1.0, 3.4, 5.8, 8.2)
    for x, name in zip(columns, ("view $x_1$", "encoder", "predictor", "expert $p$"), strict=True):
        _box(axes, (x, 2.8), name, "#F2F2F2")
    for x, name in zip((1.0, 3.4, 8.2), ("view $x_2$", "encoder", "guide $q$"), strict=True):
        _box(axes, (x, 0.7), name, "#F2F2F2")
    _box(axes, (10.2, 1.75), "loss", "white", width=1.2)
    for left, right in itertools.pairwise(columns):
        _arrow(axes, (left + 0.85, 2.9), (right - 0.85, 2.9))
        if left > columns[0]:
            _arrow(axes, (right - 0.85, 2.65), (left + 0.85, 2.65), colour=LOW)
    _arrow(axes, (1.85, 0.8), (2.55, 0.8))
    _arrow(axes, (4.25, 0.8), (7.35, 0.8))
    _arrow(axes, (9.05, 2.75), (9.9, 2.06))
    _arrow(axes, (9.6, 2.02), (9.05, 2.47), colour=LOW)
    _arrow(axes, (9.05, 0.75), (9.9, 1.44))
    for offset in (-0.07, 0.07):
        axes.plot([5.8 + offset] * 2, [0.45, 1.15], color=INK, linewidth=2.4)
    _note(axes, (5.8, 1.45), "stop-gradient", colour=INK)
    _note(axes, (9.0, 0.15), "values", colour=INK)
    _note(axes, (10.3, 0.15), "gradient", colour=LOW)
    return figure


GLOSSARY: Final[dict[str, Callable[[], Figure]]] = {
    "collapse": collapse_figure,
    "stop_gradient": stop_gradient_figure,
    "product_of_experts": product_figure,
    "mixture": mixture_figure,
    "concentration": concentration_figure,
    "resultant_length": resultant_length_figure,
    "power_spherical": families_figure,
    "resultant": resultant_figure,
}
"""Name of the file → what draws it, in the order of the page."""
