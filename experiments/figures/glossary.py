"""The pictures of docs/glossary.md: the words of the sphere, drawn on the circle, which is the sphere for d = 2."""

from __future__ import annotations

import itertools
from typing import Final

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.drawing import CIRCLE, PLAIN, arrow, blank, box, density, direction, note, outline
from experiments.figures.style import HIGH, INK, LOW, MUTED, PALETTE, styled
from ssl_as_inference.distributions import PowerSpherical, ProductOfExperts, VonMisesFisher

_CENTRE = (0.0, 0.0)


def _circles(*titles: str) -> tuple[Figure, list[Axes]]:
    """A row of unit circles."""
    figure = Figure(figsize=(2.3 * len(titles), 2.6), layout="constrained")
    panels = list(figure.subplots(1, len(titles)))
    for axes, title in zip(panels, titles, strict=True):
        blank(axes, (-1.75, 1.75), (-1.75, 1.75), title)
        axes.plot(*CIRCLE.T, color=INK, linewidth=0.8)
    return figure, panels


def _dots(axes: Axes, points: Tensor, size: float = 14, colour: str = HIGH, alpha: float = 1) -> None:
    """Points of shape `(*points, 2)`."""
    axes.scatter(points[..., 0], points[..., 1], size, color=colour, alpha=alpha, zorder=3)


def collapse() -> Figure:
    """Outputs of many images: spread, collapsed to one point, and collapsed to one line."""
    figure, panels = _circles("no collapse", "complete", "dimensional")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = 4 * torch.randn(40)
        angles = (360 * torch.rand(40), 45 + noise, 45 + noise + 180 * (torch.arange(40) % 2))
    for axes, each in zip(panels, angles, strict=True):
        _dots(axes, direction(each), alpha=0.7)
    return figure


def stop_gradient() -> Figure:
    """Values flow to the loss through both branches, the gradient back through the model's branch alone."""
    figure = Figure(figsize=(6.9, 2.6), layout="constrained")
    axes = figure.subplots()
    blank(axes, (0, 11), (0, 3.6))
    columns = (1.0, 3.4, 5.8, 8.2)
    for x, name in zip(columns, ("view $x_1$", "encoder", "predictor", "expert $p$"), strict=True):
        box(axes, (x, 2.8), name, PLAIN)
    for x, name in ((1.0, "view $x_2$"), (3.4, "encoder"), (8.2, "guide $q$")):
        box(axes, (x, 0.7), name, PLAIN)
    box(axes, (10.2, 1.75), "loss", "white", width=1.2)
    for left, right in itertools.pairwise(columns):
        arrow(axes, (left + 0.85, 2.9), (right - 0.85, 2.9))
    for left, right in itertools.pairwise(columns[1:]):
        arrow(axes, (right - 0.85, 2.65), (left + 0.85, 2.65), colour=LOW)
    arrow(axes, (9.05, 2.75), (9.9, 2.06))
    arrow(axes, (9.6, 2.02), (9.05, 2.47), colour=LOW)
    for x, y, end in ((1.85, 0.8, (2.55, 0.8)), (4.25, 0.8, (7.35, 0.8)), (9.05, 0.75, (9.9, 1.44))):
        arrow(axes, (x, y), end)
    for offset in (-0.07, 0.07):
        axes.plot([5.8 + offset] * 2, [0.45, 1.15], color=INK, linewidth=2.4)
    note(axes, (5.8, 1.45), "stop-gradient", INK)
    note(axes, (9.0, 0.15), "values", INK)
    note(axes, (10.3, 0.15), "gradient", LOW)
    return figure


def product_of_experts() -> Figure:
    """Two experts as lines and their normalised product as an area: where they agree and where they do not."""
    figure, panels = _circles("two views that agree", "two views that disagree")
    for axes, second in zip(panels, (75.0, 165.0), strict=True):
        density(axes, ProductOfExperts(VonMisesFisher(direction([35.0, second]), 4.0)).normalized(), MUTED)
        for colour, angle in ((HIGH, 35.0), (LOW, second)):
            axes.plot(*outline(VonMisesFisher(direction(angle), 4.0)).T, color=colour, linewidth=1.2)
            arrow(axes, _CENTRE, direction(angle), colour=colour)
    return figure


def mixture() -> Figure:
    """The guide's three atoms, each of weight 1/3, and beside it the product of experts around the same directions."""
    figure, (left, right) = _circles("mixture of point masses", "product of experts")
    angles = (20.0, 80.0, 125.0)
    for colour, angle in zip(PALETTE, angles, strict=False):
        atom = direction(angle)
        left.plot(*torch.stack([atom, 1.4 * atom]).T, color=colour, linewidth=3)
        _dots(left, atom, 25, colour)
        note(left, 1.58 * atom, "1/3", colour)
        right.plot(*outline(VonMisesFisher(atom, 3.0)).T, color=colour, linewidth=1.2)
    density(right, ProductOfExperts(VonMisesFisher(direction(angles), 3.0)).normalized(), MUTED)
    return figure


def concentration() -> Figure:
    """The von Mises–Fisher density with one mean direction and three concentrations."""
    concentrations = (0.0, 2.0, 8.0)
    figure, panels = _circles(*(rf"$\kappa={kappa:g}$" for kappa in concentrations))
    for axes, kappa in zip(panels, concentrations, strict=True):
        density(axes, VonMisesFisher(direction(45), kappa), HIGH)
        arrow(axes, _CENTRE, direction(45))
    return figure


def resultant_length() -> Figure:
    """Thirty draws at three concentrations, their mean as an arrow, and the mean resultant length ρ."""
    experts = {kappa: VonMisesFisher(direction(45), kappa) for kappa in (0.5, 2.0, 20.0)}
    figure, panels = _circles(
        *(rf"$\kappa={kappa:g}$, $\rho={expert.mean_resultant_length:.2f}$" for kappa, expert in experts.items())
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for axes, expert in zip(panels, experts.values(), strict=True):
            draws = expert.sample((30,))
            _dots(axes, draws)
            arrow(axes, _CENTRE, draws.mean(0), colour=LOW)
    return figure


def power_spherical() -> Figure:
    """Power Spherical with κ beside von Mises–Fisher with κ/2, in space (d = 3), over the angle to the mean."""
    figure = Figure(figsize=(6.9, 2.6), layout="constrained")
    angle = torch.linspace(0, 180, 361)
    z = torch.nn.functional.pad(direction(angle), (0, 1))
    for axes, kappa in zip(figure.subplots(1, 2), (2.0, 40.0), strict=True):
        power, fisher = PowerSpherical(z[0], kappa), VonMisesFisher(z[0], kappa / 2)
        axes.plot(angle, power.log_prob(z).exp(), color=HIGH, label=rf"Power Spherical, $\kappa={kappa:g}$")
        label = rf"von Mises–Fisher, $\kappa={kappa / 2:g}$"
        axes.plot(angle, fisher.log_prob(z).exp(), "--", color=LOW, label=label)
        axes.set(xlabel="angle to the mean direction, degrees", ylim=(0, None), xticks=(0, 60, 120, 180))
        axes.legend(loc="upper right")
    figure.axes[0].set_ylabel("density")
    return figure


def resultant() -> Figure:
    """Arrows of length κ joined end to end: the length R of their sum is the concentration of the product."""
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    panels = {"agree: $R$ is large": 75.0, "disagree: $R$ is small": 165.0}
    for axes, (title, second) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        blank(axes, (-0.9, 1.7), (-0.4, 2.2), title)
        first = direction(35)
        both = first + direction(second)
        arrow(axes, _CENTRE, first, colour=HIGH)
        arrow(axes, first, both, colour=LOW)
        arrow(axes, _CENTRE, both)
        note(axes, first / 2 + torch.tensor([0.4, -0.1]), r"$\kappa_1\mu_1$", HIGH)
        note(axes, (first + both) / 2 + torch.tensor([0.45, 0.2]), r"$\kappa_2\mu_2$", LOW)
        note(axes, both / 2 + torch.tensor([-0.2, 0.05]), r"$\eta$", INK)
    return figure


_PICTURES = (
    collapse, stop_gradient, product_of_experts, mixture, concentration, resultant_length, power_spherical, resultant
)  # fmt: skip
GLOSSARY: Final = {draw.__name__: styled(draw) for draw in _PICTURES}
"""Name of the file → what draws it, in the order of the page."""
