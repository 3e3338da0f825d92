"""What diagrams are made of: boxes, arrows and notes, and densities as their height over a circle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from experiments.figures.style import INK, MUTED

Point = Sequence[float] | Tensor

HEIGHT = 0.62
"""Of a box."""
PLAIN = "#F2F2F2"
"""Colour of a box that stands for data."""
_BOX: Any = {"boxstyle": "round,pad=0,rounding_size=0.12", "edgecolor": INK, "linewidth": 0.9}
_ARROW: Any = {"mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "linewidth": 1}


def direction(degrees: float | Sequence[float] | Tensor) -> Tensor:
    """Unit vectors in the plane at some angles, shape `(*angles, 2)`, in float64."""
    angle = torch.as_tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


CIRCLE = direction(torch.linspace(0, 360, 721))
"""Points all around it."""


def blank(axes: Axes, x: tuple[float, float], y: tuple[float, float], title: str = "") -> None:
    """Leave only a plane from x to x and from y to y, with one unit for both."""
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, loc="center")


def box(axes: Axes, centre: Point, text: str, colour: str, *, width: float = 1.7, line: str = "solid") -> None:
    """A rounded box with a text in it."""
    corner = (float(centre[0]) - width / 2, float(centre[1]) - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, facecolor=colour, linestyle=line, **_BOX))
    note(axes, centre, text, INK, 12)


def note(axes: Axes, centre: Point, text: str, colour: str = MUTED, size: float = 10.5) -> None:
    """A text about a point."""
    axes.text(float(centre[0]), float(centre[1]), text, ha="center", va="center", color=colour, fontsize=size)


def arrow(axes: Axes, start: Point, end: Point, *, style: str = "-|>", line: str = "solid", colour: str = INK) -> None:
    """An arrow from point to point."""
    ends = ((float(point[0]), float(point[1])) for point in (start, end))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle=style, linestyle=line, color=colour, **_ARROW))


def density(
    axes: Axes, distribution: Any, colour: str, *, centre: Point = (0, 0), radius: float = 1, height: float = 0.5
) -> None:
    """A density on the circle, as an area over it of some height where the density is 1."""
    place = torch.as_tensor(centre)
    axes.fill(*(place + radius * outline(distribution, height)).T, color=colour, alpha=0.35, linewidth=0)
    axes.fill(*(place + radius * CIRCLE).T, color="white", linewidth=0)
    axes.plot(*(place + radius * CIRCLE).T, color=INK, linewidth=0.8)


def outline(distribution: Any, height: float = 0.5) -> Tensor:
    """The edge of that area around the unit circle, `(points, 2)`."""
    return CIRCLE.mul((1 + height * distribution.log_prob(CIRCLE).exp())[:, None])
