"""BYOL in plain PyTorch, written from its paper: Grill et al., arXiv:2006.07733, Section 3.1."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear layer, batch normalisation, ReLU, linear layer: projection and prediction alike."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class BYOL(nn.Module):
    """An online network θ (representation f, projection g, prediction q) and a target network ξ (f and g).

    Args:
        backbone: Image to `features` numbers.
        features: Width of the backbone's output.
        dim: Width of projection and prediction.
        hidden: Width of their hidden layers.
        tau: Decay rate of the target.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int, hidden: int, tau: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = two_layers(features, hidden, dim)
        self.prediction = two_layers(dim, hidden, dim)
        self.target_backbone = copy.deepcopy(backbone).requires_grad_(requires_grad=False)
        self.target_projection = copy.deepcopy(self.projection).requires_grad_(requires_grad=False)
        self.tau = tau

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Eq. (2) for both orders of the views, a mean over the batch."""
        q1 = self.prediction(self.projection(self.backbone(x1)))
        q2 = self.prediction(self.projection(self.backbone(x2)))
        with torch.no_grad():
            z1 = self.target_projection(self.target_backbone(x1))
            z2 = self.target_projection(self.target_backbone(x2))
        return squared_distance(q1, z2) + squared_distance(q2, z1)

    @torch.no_grad()
    def update_target(self) -> None:
        """ξ ← τξ + (1 − τ)θ, after each step of the optimiser."""
        online = [*self.backbone.parameters(), *self.projection.parameters()]
        target = [*self.target_backbone.parameters(), *self.target_projection.parameters()]
        for xi, theta in zip(target, online, strict=True):
            xi.mul_(self.tau).add_(theta, alpha=1 - self.tau)


def squared_distance(q: Tensor, z: Tensor) -> Tensor:
    """Mean over the batch of the squared distance between normalised vectors."""
    return (normalize(q, dim=1) - normalize(z, dim=1)).square().sum(dim=1).mean()
