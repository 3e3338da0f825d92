"""The two families of experts on the sphere in space, over the concentration."""

from __future__ import annotations

from typing import Any

import torch
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from experiments.figures.drawing import direction
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


def density_on_the_sphere() -> Figure:
    r"""Draw the densities of $\mathrm{vMF}(\mu,\kappa/2)$ and $\mathrm{PS}(\mu,\kappa)$ on two turnable spheres.

    The Power Spherical with κ is close to the von Mises–Fisher with κ/2 for large κ (C20), so that the two
    are drawn side by side at those. The colour is the density relative to its value at the mode.

    Example:
        >>> len(density_on_the_sphere().layout.sliders[0].steps) == len(CONCENTRATIONS)
        True
    """
    polar, azimuth = direction(torch.linspace(0, 180, 60))[:, None], direction(torch.linspace(0, 360, 120))
    points = torch.cat([polar[..., 1:] * azimuth, polar[..., :1].expand(-1, len(azimuth), -1)], dim=-1)
    mu = torch.nn.functional.normalize(torch.tensor([1.0, -1.0, 0.6], dtype=torch.float64), dim=0)
    colours = {}
    for kappa in CONCENTRATIONS:
        laws = (VonMisesFisher(mu, kappa / 2), PowerSpherical(mu, kappa))
        colours[kappa] = [(law.log_prob(points) - law.log_prob(mu)).exp().round(decimals=3).tolist() for law in laws]
    scenes = [[{"type": "surface"}] * 2]
    figure = make_subplots(1, 2, specs=scenes, subplot_titles=_NAMES, horizontal_spacing=0.02)
    x, y, z = points.unbind(-1)
    for number, name in enumerate(_NAMES):
        colour, place = colours[CONCENTRATIONS[_START]][number], {"row": 1, "col": number + 1}
        look = {**_LOOK, "surfacecolor": colour, "showscale": number == 1, "name": name}
        figure.add_surface(x=x.numpy(), y=y.numpy(), z=z.numpy(), **look, **place)
    hidden: Any = {f"{axis}axis_visible": False for axis in "xyz"}
    figure.update_scenes(aspectmode="data", camera_eye={"x": 1.1, "y": -1.1, "z": 0.6}, **hidden)
    steps = {f"{kappa:g}": [{"surfacecolor": pair}, [0, 1]] for kappa, pair in colours.items()}
    figure.update_layout(sliders=[slider("κ", steps, at=_START)])
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
