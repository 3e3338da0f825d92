"""What one pair of views costs, over their cosine, for any dimension and concentration."""

from __future__ import annotations

import torch
from plotly.graph_objects import Figure
from torch import Tensor

from experiments.figures.interactive.style import dress, slider
from experiments.figures.style import PALETTE
from ssl_as_inference.special import power_spherical_log_normalizer, von_mises_fisher_log_normalizer

DIMENSIONS = (2, 3, 16, 128, 512, 2048)
RELATIVE_CONCENTRATIONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_DIM, _KAPPA = 3, 4
_FAMILIES = ("Power Spherical, κ", "von Mises–Fisher, κ/2")


def loss_over_cosine(points: int = 240) -> Figure:
    r"""Draw $-\log p(z_2;\mu_1,\kappa)$ relative to the uniform density, in nats per dimension, with two sliders.

    One slider moves κ/(d − 1), the other the dimension d. A von Mises–Fisher expert is a straight line in the cosine,
    as SimSiam's loss is; a Power Spherical one punishes disagreement without bound.

    Args:
        points: Cosines at which each curve is computed, at least 2.

    Raises:
        ValueError: If `points` is less than 2.

    Example:
        >>> [one.currentvalue.prefix for one in loss_over_cosine(5).layout.sliders]
        ['κ/(d − 1) = ', 'd = ']
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    cosine = torch.cat([torch.linspace(-0.9995, 0.99, points, dtype=torch.float64), torch.tensor([1.0]).double()])
    curves = {
        (dim, ratio): [_power_spherical(dim, ratio, cosine), _von_mises_fisher(dim, ratio, cosine)]
        for dim in DIMENSIONS
        for ratio in RELATIVE_CONCENTRATIONS
    }
    figure = Figure()
    for dim in DIMENSIONS:
        for family, curve, colour in zip(
            _FAMILIES, curves[dim, RELATIVE_CONCENTRATIONS[_KAPPA]], PALETTE, strict=False
        ):
            figure.add_scatter(
                x=cosine.numpy(), y=curve, name=family, line={"color": colour}, visible=dim == DIMENSIONS[_DIM]
            )
    figure.add_hline(
        y=0,
        line={"dash": "dot", "width": 1},
        annotation_text="as good as the uniform density",
        annotation_position="bottom left",
    )
    figure.update_xaxes(title="cosine μ₁ᵀz₂", range=[-1, 1])
    figure.update_yaxes(title="loss, nats per dimension", range=[-2, 5])
    figure.update_layout(
        sliders=[
            slider(
                "κ/(d − 1)",
                [f"{ratio:g}" for ratio in RELATIVE_CONCENTRATIONS],
                [
                    [{"y": [curve for dim in DIMENSIONS for curve in curves[dim, ratio]]}]
                    for ratio in RELATIVE_CONCENTRATIONS
                ],
                at=_KAPPA,
            ),
            slider(
                "d",
                [str(dim) for dim in DIMENSIONS],
                [[{"visible": [one == dim for one in DIMENSIONS for _ in _FAMILIES]}] for dim in DIMENSIONS],
                at=_DIM,
                y=-0.42,
            ),
        ]
    )
    return dress(figure, "The loss of a pair of views over their cosine", below=240)


def _power_spherical(dim: int, ratio: float, cosine: Tensor) -> list[float]:
    kappa = torch.tensor(ratio * (dim - 1), dtype=torch.float64)
    gain = power_spherical_log_normalizer(dim, kappa) - power_spherical_log_normalizer(dim, torch.zeros_like(kappa))
    return _rounded(-(gain + kappa * cosine.log1p()) / (dim - 1))


def _von_mises_fisher(dim: int, ratio: float, cosine: Tensor) -> list[float]:
    kappa = torch.tensor(ratio * (dim - 1) / 2, dtype=torch.float64)
    gain = von_mises_fisher_log_normalizer(dim, kappa) - von_mises_fisher_log_normalizer(dim, torch.zeros_like(kappa))
    return _rounded(-(gain + kappa * cosine) / (dim - 1))


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
