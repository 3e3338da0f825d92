"""What one pair of views costs, over their cosine, for any dimension and concentration."""

from __future__ import annotations

import torch
from plotly.graph_objects import Figure

from experiments.figures.interactive.style import dress, slider
from experiments.figures.loss_surface import POWER_SPHERICAL, VON_MISES_FISHER
from experiments.figures.style import PALETTE

DIMENSIONS = (2, 3, 16, 128, 512, 2048)
RELATIVE_CONCENTRATIONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_DIM, _KAPPA = 3, 4
_FAMILIES = {"Power Spherical, κ": (POWER_SPHERICAL, 1.0), "von Mises–Fisher, κ/2": (VON_MISES_FISHER, 0.5)}


def loss_over_cosine() -> Figure:
    r"""Draw $-\log p(z_2;\mu_1,\kappa)$ relative to the uniform density, in nats per dimension, with two sliders.

    One slider moves κ/(d − 1), the other the dimension d. A von Mises–Fisher expert is a straight line in the cosine,
    as SimSiam's loss is; a Power Spherical one punishes disagreement without bound.

    Example:
        >>> [one.currentvalue.prefix for one in loss_over_cosine().layout.sliders]
        ['κ/(d − 1) = ', 'd = ']
    """
    cosine = torch.cat([torch.linspace(-0.9995, 0.99, 240, dtype=torch.float64), torch.tensor([1.0]).double()])
    curves: dict[float, list[list[float]]] = {ratio: [] for ratio in RELATIVE_CONCENTRATIONS}
    figure = Figure()
    for dim in DIMENSIONS:
        for colour, (name, (family, part)) in zip(PALETTE, _FAMILIES.items(), strict=False):
            for ratio, drawn in curves.items():
                kappa = torch.tensor(ratio * (dim - 1) * part, dtype=torch.float64)
                loss = family.relative_loss(dim, cosine, kappa) * dim / (dim - 1)
                drawn.append(loss.round(decimals=4).tolist())
            style = {"line": {"color": colour}, "visible": dim == DIMENSIONS[_DIM]}
            shown = curves[RELATIVE_CONCENTRATIONS[_KAPPA]][-1]
            figure.add_scatter(x=cosine.numpy(), y=shown, name=name, **style)
    note = {"annotation_text": "as good as the uniform density", "annotation_position": "bottom left"}
    figure.add_hline(y=0, line={"dash": "dot", "width": 1}, **note)
    figure.update_xaxes(title="cosine μ₁ᵀz₂", range=[-1, 1])
    figure.update_yaxes(title="loss, nats per dimension", range=[-2, 5])
    ratios = {f"{ratio:g}": [{"y": drawn}] for ratio, drawn in curves.items()}
    dims = {str(dim): [{"visible": [one == dim for one in DIMENSIONS for _ in _FAMILIES]}] for dim in DIMENSIONS}
    figure.update_layout(sliders=[slider("κ/(d − 1)", ratios, at=_KAPPA), slider("d", dims, at=_DIM, y=-0.42)])
    return dress(figure, "The loss of a pair of views over their cosine", below=240)
