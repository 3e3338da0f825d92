"""The published algorithms in plain PyTorch, each written from its paper, independent of the rest of this project.

They import torch and torchvision alone.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.models import ResNet, resnet18

LARGEST_MEAN_COSINE = 0.99


class SimSiam(nn.Module):
    """SimSiam: Chen and He, arXiv:2011.10566, Section 3 and Algorithm 1.

    An encoder (backbone and three-layer projection) and a two-layer prediction with a bottleneck.

    Args:
        backbone: Image to `features` numbers.
        features: Width of the backbone's output and of the projection's hidden layers.
        dim: Width of the projection's output.
        bottleneck: Width of the prediction's hidden layer.
        more: Outputs of the prediction beside those `dim`.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int, bottleneck: int, more: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Sequential(
            *hidden_layer(features, features),
            *hidden_layer(features, features),
            nn.Linear(features, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),  # the output has batch normalisation too, but no ReLU
        )
        self.prediction = two_layers(dim, bottleneck, dim + more)

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Eqs. (1) to (4): half the sum of both negative cosines, z being constant in each."""
        z1, z2 = self.projection(self.backbone(x1)), self.projection(self.backbone(x2))
        p1, p2 = self.prediction(z1), self.prediction(z2)
        return negative_cosine(p1, z2.detach()) / 2 + negative_cosine(p2, z1.detach()) / 2


class VISimSiam(SimSiam):
    """VI-SimSiam: Algorithm 1 of arXiv:2203.11437v1. The prediction of SimSiam has one more output, for κ.

    The algorithm leaves two things open, which are settled here as everywhere in this project: the prediction's mean
    and the target are normalised, and κ is a positive function of the prediction's last output.
    """

    def __init__(self, backbone: nn.Module, features: int, dim: int, bottleneck: int) -> None:
        super().__init__(backbone, features, dim, bottleneck, more=1)

    def loss(self, x1: Tensor, x2: Tensor) -> Tensor:
        """−log p1(z2) − log p2(z1), a mean over the batch, with no gradient through z."""
        z1, z2 = self.projection(self.backbone(x1)), self.projection(self.backbone(x2))
        g1, g2 = self.prediction(z1), self.prediction(z2)
        return -(log_density(z2.detach(), g1) + log_density(z1.detach(), g2)).mean()


class BYOL(nn.Module):
    """BYOL: Grill et al., arXiv:2006.07733, Section 3.1.

    An online network θ (representation f, projection g, prediction q) and a target network ξ (f and g).

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


def hidden_layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Linear layer, batch normalisation, ReLU."""
    return nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A hidden layer and a linear one."""
    return nn.Sequential(*hidden_layer(inputs, hidden), nn.Linear(hidden, outputs))


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) of SimSiam's Eq. (1), a mean over the batch."""
    return -(normalize(p, dim=1) * normalize(z, dim=1)).sum(dim=1).mean()


def squared_distance(q: Tensor, z: Tensor) -> Tensor:
    """Mean over the batch of the squared distance between normalised vectors."""
    return (normalize(q, dim=1) - normalize(z, dim=1)).square().sum(dim=1).mean()


def log_density(z: Tensor, g: Tensor) -> Tensor:
    """Eq. (11) of VI-SimSiam at the direction of z, with the normaliser of De Cao and Aziz, arXiv:2006.04437."""
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


def small_backbone(width: int) -> nn.Sequential:
    """For small grey images: four 3×3 convolutions with batch normalisation, then an average: `4 * width` features."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, stride in ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet18_for_small_images() -> ResNet:
    """ResNet-18 with a 3×3 stem, no max-pooling and no classifier, as is usual for CIFAR: 512 features."""
    network: ResNet = resnet18(weights=None)
    network.conv1 = nn.Conv2d(1, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()  # type: ignore[assignment]
    network.fc = nn.Identity()  # type: ignore[assignment]
    return network
