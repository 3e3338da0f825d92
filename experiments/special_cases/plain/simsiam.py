"""SimSiam in plain PyTorch, written from its paper: Chen and He, arXiv:2011.10566, Section 3 and Algorithm 1."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize


class SimSiam(nn.Module):
    """Encoder (backbone and three-layer projection) and two-layer prediction with a bottleneck.

    Args:
        backbone: Image to `features` numbers.
        features: Width of the backbone's output and of the projection's hidden layers.
        dim: Width of the projection's output.
        bottleneck: Width of the prediction's hidden layer.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Sequential(
            nn.Linear(features, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Linear(features, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Linear(features, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),  # the output has batch normalisation too, but no ReLU
        )
        self.prediction = nn.Sequential(
            nn.Linear(dim, bottleneck, bias=False), nn.BatchNorm1d(bottleneck), nn.ReLU(), nn.Linear(bottleneck, dim)
        )

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Eqs. (1) to (4): half the sum of both negative cosines, z being constant in each."""
        z1, z2 = self.projection(self.backbone(x1)), self.projection(self.backbone(x2))
        p1, p2 = self.prediction(z1), self.prediction(z2)
        return negative_cosine(p1, z2.detach()) / 2 + negative_cosine(p2, z1.detach()) / 2


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) of Eq. (1), a mean over the batch."""
    return -(normalize(p, dim=1) * normalize(z, dim=1)).sum(dim=1).mean()
