"""Two von Mises–Fisher experts on the circle, their product, and the resultant that decides its concentration."""

from __future__ import annotations

import torch
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from experiments.figures.drawing import direction
from experiments.figures.interactive.style import STACKED, dress, slider
from experiments.figures.style import PALETTE
from ssl_as_inference.distributions import ProductOfExperts, VonMisesFisher

ANGLES = tuple(range(0, 181, 15))
CONCENTRATIONS = (4.0, 8.0)
_START = 4
_ARROW = {"mode": "lines+markers", "marker": {"symbol": "arrow", "angleref": "previous", "size": 12}}


def product_of_experts() -> Figure:
    r"""Draw two experts of $p_\psi(z\mid\mathbb{X})$, Eq. (6), while the angle between their mean directions grows.

    The normalised product is $\mathrm{vMF}(\eta/R, R)$ with $\eta = \sum_i\kappa_i\mu_i$ (C4). Agreeing views make it
    narrower than either expert; opposing ones cancel.

    Example:
        >>> len(product_of_experts().data)
        6
    """
    degrees, kappa = torch.linspace(-180, 180, 361), torch.tensor(CONCENTRATIONS, dtype=torch.float64)
    z, half = direction(degrees)[:, None], torch.tensor(ANGLES) / 2
    experts = VonMisesFisher(direction(torch.stack([-half, half], dim=-1)), kappa)  # (angles, views)
    product = ProductOfExperts(experts).normalized().log_prob(z)[..., None]
    densities = torch.cat([experts.log_prob(z[:, None]), product], dim=-1).exp().round(decimals=4)
    # The arrows go from the corners to each other: κ₁μ₁, κ₂μ₂ at its end, and their sum η.
    corners = torch.nn.functional.pad(kappa[:, None] * experts.mean_direction, (0, 0, 1, 0)).cumsum(-2)
    arrows = corners[:, [[0, 1], [1, 2], [0, 2]]].mT
    steps = {}
    for number, angle in enumerate(ANGLES):
        curves, (x, y) = densities[:, number].T.tolist(), arrows[number].transpose(0, 1).tolist()
        label = f"{angle}°, R = {corners[number, -1].norm():.1f}"
        steps[label] = [{"x": [degrees.tolist()] * 3 + x, "y": curves + y}]

    figure = make_subplots(1, 2, column_widths=[0.62, 0.38], subplot_titles=["densities", "κ₁μ₁ + κ₂μ₂ = η"])
    names = (f"view 1, κ = {CONCENTRATIONS[0]:g}", f"view 2, κ = {CONCENTRATIONS[1]:g}", "their product, normalised")
    left, right = ({"row": 1, "col": column} for column in (1, 2))
    (shown,) = list(steps.values())[_START]
    for number, (x, y) in enumerate(zip(shown["x"], shown["y"], strict=True)):
        part = number % 3
        look = {"line": {"color": PALETTE[part]}, "name": names[part], "showlegend": number < 3}
        figure.add_scatter(x=x, y=y, **look, **(left if number < 3 else _ARROW | right))
    figure.data[-1].line.dash = "dash"
    figure.update_xaxes(title="angle of z in degrees", range=[-180, 180], dtick=60, **left)
    figure.update_yaxes(title="density", rangemode="tozero", **left)
    reach = sum(CONCENTRATIONS) + 1
    figure.update_xaxes(range=[-reach, reach], constrain="domain", **right)
    figure.update_yaxes(range=[-reach, reach], scaleanchor="x2", constrain="domain", **right)
    figure.update_layout(sliders=[slider("angle between the views", steps, at=_START)])
    narrow = {**STACKED, "xaxis2.range": [-reach, reach], "yaxis2.range": [-reach, reach], "margin.r": 35}
    return dress(figure, "A product of experts and its resultant", narrow=narrow)
