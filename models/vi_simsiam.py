"""VI-SimSiam: Power Spherical experts whose concentration the predictor estimates."""

from __future__ import annotations

from torch import Tensor, nn

from models.networks import Encoder, PowerSphericalHead, simsiam_projector, two_layer_mlp
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

MIN_RELATIVE_CONCENTRATION = 0.5
MAX_RELATIVE_CONCENTRATION = 99.0


def bounded_concentration(raw: Tensor, dim: int) -> Tensor:
    r"""Placeholder."""
    positive = (raw + (raw.square() + 4).sqrt()) / 2
    bounded = positive * MAX_RELATIVE_CONCENTRATION / (positive + MAX_RELATIVE_CONCENTRATION)
    return (dim - 1) * (MIN_RELATIVE_CONCENTRATION + bounded)


class VISimSiam(MultiViewPair):
    r"""VI-SimSiam, Section 5 of arXiv:2203.11437v1."""

    def __init__(self, backbone: nn.Module, features: int, *, dim: int = 2048, hidden: int | None = None) -> None:
        encoder = Encoder(backbone, simsiam_projector(features, dim))
        network = two_layer_mlp(dim, hidden or dim // 4, dim + 1)
        predictor = PowerSphericalHead(network, bounded_concentration)
        super().__init__(MultiViewModel(encoder, predictor), MultiViewGuide(encoder))
