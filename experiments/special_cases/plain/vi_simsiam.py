"""VI-SimSiam in plain PyTorch, written from Algorithm 1 of arXiv:2203.11437v1.

The algorithm leaves two things open, which are settled here as everywhere in this project: the prediction's mean and
the target are normalised, and κ is a positive function of the prediction's last output.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

LARGEST_MEAN_COSINE = 0.99


class VISimSiam(nn.Module):
    """SimSiam's networks; the prediction has one more output, for the concentration.

    Args:
        backbone: Image to `features` numbers.
        features: Width of the backbone's output and of the projection's hidden layers.
        dim: Width d of the projection's output.
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
            nn.BatchNorm1d(dim, affine=False),
        )
        self.prediction = nn.Sequential(
            nn.Linear(dim, bottleneck, bias=False),
            nn.BatchNorm1d(bottleneck),
            nn.ReLU(),
            nn.Linear(bottleneck, dim + 1),
        )

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        """−log p1(z2) − log p2(z1), a mean over the batch, with no gradient through z."""
        z1, z2 = self.projection(self.backbone(x1)), self.projection(self.backbone(x2))
        g1, g2 = self.prediction(z1), self.prediction(z2)
        return -(log_density(z2.detach(), g1) + log_density(z1.detach(), g2)).mean()


def log_density(z: Tensor, g: Tensor) -> Tensor:
    """Eq. (11) at the direction of z, with the normaliser of De Cao and Aziz, arXiv:2006.04437."""
    mu, kappa = normalize(g[:, :-1], dim=1), concentration(g[:, -1], g.size(1) - 1)
    beta = (mu.size(1) - 1) / 2
    alpha = beta + kappa
    log_normalizer = (
        (alpha + beta) * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    )
    return kappa * torch.log(1 + (mu * normalize(z, dim=1)).sum(dim=1)) - log_normalizer


def concentration(raw: Tensor, dim: int) -> Tensor:
    """Positive root s of s² − r·s − 1 = 0, bounded by K as a harmonic sum, times d − 1."""
    positive = (raw + torch.sqrt(raw * raw + 4)) / 2
    bound = LARGEST_MEAN_COSINE / (1 - LARGEST_MEAN_COSINE)
    return (dim - 1) / (1 / positive + 1 / bound)
