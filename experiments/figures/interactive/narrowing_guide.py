"""The guide of Eq. (8) as the limit of guides of finite concentration, and the divergence on the way there."""

from __future__ import annotations

import torch
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from experiments.figures.drawing import direction
from experiments.figures.interactive.style import STACKED, dress, slider
from experiments.figures.style import PALETTE
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.distributions import DeltaMixture, ProductOfExperts, SphericalMixture, VonMisesFisher

GUIDE_CONCENTRATIONS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_ATOMS = (-35.0, 50.0)  # degrees
_EXPERTS = (-20.0, 30.0)
_KAPPA = 6.0
_START = 3


def narrowing_guide() -> Figure:
    r"""Draw a guide of components $\mathrm{vMF}(f_j,\tau)$ on the circle as τ grows, beside the model's product.

    Right, its cross-entropy with the product of experts, which tends to the paper's loss at a rate of 1/τ (C19).

    Example:
        >>> narrowing_guide().layout.sliders[0].currentvalue.prefix
        'τ = '
    """
    angles, taus = torch.linspace(-180, 180, 721), GUIDE_CONCENTRATIONS
    z, atoms, degrees = direction(angles), direction(_ATOMS), angles.tolist()
    product = ProductOfExperts(VonMisesFisher(direction(_EXPERTS), _KAPPA))
    model, log_z = product.normalized().log_prob(z).exp(), product.log_normalizer()
    guides = [SphericalMixture(VonMisesFisher(atoms, tau)) for tau in taus]
    densities = [guide.log_prob(z).exp().round(decimals=4).tolist() for guide in guides]
    losses = [float(cross_entropy(guide, product) + log_z) for guide in guides]
    limit = float(cross_entropy(DeltaMixture(atoms), product) + log_z)

    titles = ["densities", "−E<sub>q</sub> log p, normalised"]
    figure = make_subplots(1, 2, column_widths=[0.6, 0.4], subplot_titles=titles)
    model_colour, guide_colour, limit_colour = PALETTE[:3]
    dirac = {"name": "Dirac guide, Eq. (8)", "mode": "lines", "line": {"dash": "dot", "color": limit_colour}}
    dot = {"mode": "markers", "marker": {"color": guide_colour, "size": 11}, "showlegend": False}
    guide_style, model_style = ({"line": {"color": colour}} for colour in (guide_colour, model_colour))
    left, right = ({"row": 1, "col": column} for column in (1, 2))
    figure.add_scatter(x=degrees, y=densities[_START], name="guide q of concentration τ", **guide_style, **left)
    figure.add_scatter(x=degrees, y=model.tolist(), name="model p", **model_style, **left)
    figure.add_scatter(x=taus, y=losses, showlegend=False, line={"color": guide_colour, "width": 1}, **right)
    figure.add_scatter(x=[taus[_START]], y=[losses[_START]], **dot, **right)
    figure.add_scatter(x=[taus[0], taus[-1]], y=[limit, limit], **dirac, **right)
    figure.update_xaxes(title="angle of z in degrees", range=[-180, 180], dtick=60, **left)
    figure.update_yaxes(title="density", range=[0, 4], **left)
    figure.update_xaxes(title="τ", type="log", **right)
    steps = {
        f"{tau:g}": [{"x": [degrees, [tau]], "y": [density, [loss]]}, [0, 3]]
        for tau, density, loss in zip(taus, densities, losses, strict=True)
    }
    figure.update_layout(sliders=[slider("τ", steps, at=_START)])
    return dress(figure, "From a guide with a density to the mixture of Diracs", narrow=STACKED)
