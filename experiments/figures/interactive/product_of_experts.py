"""Two von Mises–Fisher experts on the circle, their product, and the resultant that decides its concentration."""

from __future__ import annotations

from itertools import pairwise

import torch
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots
from torch import Tensor

from experiments.figures.interactive.style import dress, on_the_circle, slider, stacked
from experiments.figures.style import PALETTE
from ssl_as_inference.distributions import ProductOfExperts, VonMisesFisher

ANGLES = tuple(range(0, 181, 15))
CONCENTRATIONS = (4.0, 8.0)
_START = 4
_ARROW_HEAD = {"symbol": "arrow", "angleref": "previous", "size": 12}


def product_of_experts() -> Figure:
    r"""Draw two experts of $p_\psi(z\mid\mathbb{X})$, Eq. (6), while the angle between their mean directions grows.

    The normalised product is $\mathrm{vMF}(\eta/R, R)$ with $\eta = \sum_i\kappa_i\mu_i$ (C4). Agreeing views make it
    narrower than either expert; opposing ones cancel.

    Example:
        >>> len(product_of_experts().data)
        6
    """
    angles = torch.linspace(-180, 180, 361, dtype=torch.float64)
    steps = [_step(angle, on_the_circle(angles)) for angle in ANGLES]
    figure = make_subplots(1, 2, column_widths=[0.62, 0.38], subplot_titles=["densities", "κ₁μ₁ + κ₂μ₂ = η"])
    names = (f"view 1, κ = {CONCENTRATIONS[0]:g}", f"view 2, κ = {CONCENTRATIONS[1]:g}", "their product, normalised")
    left, right = ({"row": 1, "col": column} for column in (1, 2))
    degrees = angles.tolist()
    densities, arrows, _ = steps[_START]
    for name, colour, density in zip(names, PALETTE, densities, strict=False):
        figure.add_scatter(x=degrees, y=density, name=name, line={"color": colour}, **left)
    for name, colour, dash, (x, y) in zip(names, PALETTE, ("solid", "solid", "dash"), arrows, strict=False):
        look = {"line": {"color": colour, "dash": dash}, "mode": "lines+markers", "showlegend": False}
        figure.add_scatter(x=x, y=y, name=name, marker=_ARROW_HEAD, **look, **right)
    figure.update_xaxes(title="angle of z in degrees", range=[-180, 180], dtick=60, **left)
    figure.update_yaxes(title="density", rangemode="tozero", **left)
    reach = sum(CONCENTRATIONS) + 1
    figure.update_xaxes(range=[-reach, reach], constrain="domain", **right)
    figure.update_yaxes(range=[-reach, reach], scaleanchor="x2", constrain="domain", **right)
    labels = [f"{angle}°, R = {resultant:.1f}" for angle, (_, _, resultant) in zip(ANGLES, steps, strict=True)]
    changes = [
        [{"x": [*([degrees] * 3), *(x for x, _ in arrows)], "y": [*densities, *(y for _, y in arrows)]}]
        for densities, arrows, _ in steps
    ]
    figure.update_layout(sliders=[slider("angle between the views", labels, changes, at=_START)])
    narrow = {**stacked(), "xaxis2.range": [-reach, reach], "yaxis2.range": [-reach, reach], "margin.r": 35}
    return dress(figure, "A product of experts and its resultant", narrow=narrow)


def _step(angle: float, z: Tensor) -> tuple[list[list[float]], list[tuple[list[float], list[float]]], float]:
    """Densities of the experts and of the product, the arrows of the vector sum, and its length R."""
    directions = on_the_circle(torch.tensor([-angle / 2, angle / 2]))
    experts = VonMisesFisher(directions, torch.tensor(CONCENTRATIONS, dtype=torch.float64))
    product = ProductOfExperts(experts).normalized()
    densities = [*experts.log_prob(z.unsqueeze(-2)).exp().T.tolist(), product.log_prob(z).exp().tolist()]
    corners = torch.cat([torch.zeros(1, 2).double(), experts.concentration[:, None] * experts.mean_direction]).cumsum(0)
    arrows = [([a[0], b[0]], [a[1], b[1]]) for a, b in pairwise(corners.tolist())]
    end = corners[-1]
    arrows.append(([0.0, float(end[0])], [0.0, float(end[1])]))
    return [[round(value, 4) for value in curve] for curve in densities], arrows, float(end.norm())
