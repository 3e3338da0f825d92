"""The two families of experts on the sphere in space, over the concentration."""

from __future__ import annotations

import math
from typing import Any

import torch
from plotly.graph_objects import Figure
from torch import Tensor

from experiments.figures.interactive.style import dress, slider
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher

CONCENTRATIONS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_START = 4
_NAMES = ("von Mises–Fisher, κ/2", "Power Spherical, κ")
_LOOK: dict[str, Any] = {
    "cmin": 0,
    "cmax": 1,
    "colorscale": "Viridis",
    "hoverinfo": "name",
    "lighting": {"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},  # a shadow would read as a lower density
    "contours": {axis: {"highlight": False} for axis in "xyz"},
    "colorbar": {"title": {"text": "density / its largest value", "side": "right"}, "thickness": 12, "len": 0.7},
}
_SCENE: dict[str, Any] = {
    **{f"{axis}axis": {"visible": False} for axis in "xyz"},
    "aspectmode": "data",
    "camera": {"eye": {"x": 1.1, "y": -1.1, "z": 0.6}},
}


def density_on_the_sphere() -> Figure:
    r"""Draw the densities of $\mathrm{vMF}(\mu,\kappa/2)$ and $\mathrm{PS}(\mu,\kappa)$ on two turnable spheres.

    The Power Spherical with κ is close to the von Mises–Fisher with κ/2 for large κ (C20), so that the two
    are drawn side by side at those. The colour is the density relative to its value at the mode.

    Example:
        >>> len(density_on_the_sphere().layout.sliders[0].steps) == len(CONCENTRATIONS)
        True
    """
    points = _points()
    mean_direction = torch.nn.functional.normalize(torch.tensor([1.0, -1.0, 0.6], dtype=torch.float64), dim=0)
    pairs = [
        (VonMisesFisher(mean_direction, kappa / 2), PowerSpherical(mean_direction, kappa)) for kappa in CONCENTRATIONS
    ]
    colours = [[_relative(law, points) for law in pair] for pair in pairs]
    figure = Figure()
    x, y, z = (points[..., axis].numpy() for axis in range(3))
    for number, name in enumerate(_NAMES):
        place = {"scene": ("scene", "scene2")[number], "showscale": number == 1, "name": name}
        figure.add_surface(x=x, y=y, z=z, surfacecolor=colours[_START][number].numpy(), **place, **_LOOK)
    titles = [
        {"text": text, "x": x, "y": 1.0, "xref": "paper", "yref": "paper", "showarrow": False}
        for text, x in zip(_NAMES, (0.2, 0.76), strict=True)
    ]
    steps = [[{"surfacecolor": [one.tolist() for one in pair]}, [0, 1]] for pair in colours]
    figure.update_layout(
        scene={**_SCENE, "domain": {"x": [0, 0.48]}},
        scene2={**_SCENE, "domain": {"x": [0.5, 0.98]}},
        annotations=titles,
        sliders=[slider("κ", [f"{kappa:g}" for kappa in CONCENTRATIONS], steps, at=_START)],
    )
    narrow = {
        "scene.domain": {"x": [0, 1], "y": [0.53, 0.97]},
        "scene2.domain": {"x": [0, 1], "y": [0, 0.44]},
        "annotations[0].x": 0.5,
        "annotations[1].x": 0.5,
        "annotations[1].y": 0.47,
        "dragmode": "orbit",
        "margin.t": 70,
    }
    return dress(figure, "Experts on the sphere: turn them, and move κ", narrow=narrow)


def _points() -> Tensor:
    polar = torch.linspace(0, math.pi, 60, dtype=torch.float64)[:, None]
    azimuth = torch.linspace(0, 2 * math.pi, 120, dtype=torch.float64)[None, :]
    over = polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos() * torch.ones_like(azimuth)
    return torch.stack(over, dim=-1)


def _relative(law: VonMisesFisher | PowerSpherical, points: Tensor) -> Tensor:
    """Density relative to the mode's, rounded to what a screen can show."""
    return (law.log_prob(points) - law.log_prob(law.mode)).exp().mul(1000).round().div(1000)
