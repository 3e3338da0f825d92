"""Pairs and published algorithms as trainings that can be compared, over one of two backbones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from experiments.benchmarks.references import von_mises_fisher_reference
from experiments.special_cases import plain
from experiments.special_cases.recovery import Sgd, Training, encoder_parts, pair_loss
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from models.byol import BYOL
from models.networks import resnet18_backbone, small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

Pair = TypeVar("Pair", bound=MultiViewPair)


@dataclass(frozen=True)
class Size:
    """Networks and batch of a comparison.

    Attributes:
        backbone: Makes the backbone of the pair.
        plain_backbone: Makes the same one for the published algorithm.
        features: Width of the backbone's output.
        dim: Dimension of the latent space.
        hidden: Width of the predictor's hidden layer (for BYOL of the projector's, too).
        batch_size: Images a step.
        pixels: Width and height of a view.
        sgd: Settings of the optimiser.
    """

    backbone: Callable[[], nn.Module]
    plain_backbone: Callable[[], nn.Module]
    features: int
    dim: int
    hidden: int
    batch_size: int
    pixels: int
    sgd: Sgd


SIZES = {
    "small": Size(
        lambda: small_convolutional_backbone(1, width=8),
        lambda: plain.small_backbone(8),
        features=32,
        dim=32,
        hidden=8,
        batch_size=64,
        pixels=16,
        sgd=Sgd(0.05),
    ),
    # The digits' own 8×8 pixels, so that a hundred steps of both trainings in float64 take minutes on one core, and
    # SimSiam's rule for the learning rate, 0.05 for 256 images and in proportion for fewer. What differs between the
    # trainings is the rounding of the loss alone, some 1e-15 in the first gradient, but batch normalisation over few
    # values amplifies it from step to step: with 8 images of 16×16 pixels to 5e-9 in the gradient after 80 steps, with
    # 32 images of 8×8 pixels, as many values a channel in the last layers and four times as many in the projector, to
    # 3e-12 after 100.
    "resnet18": Size(
        lambda: resnet18_backbone(small_images=True, channels=1),
        plain.resnet18_for_small_images,
        features=512,
        dim=256,
        hidden=64,
        batch_size=32,
        pixels=8,
        sgd=Sgd(0.05 * 32 / 256),
    ),
}
"""ResNet-18 at small images, and a small network, over grey images of 16×16 pixels."""


def initial(make: Callable[..., Pair], size: Size, seed: int, **options: float) -> Pair:
    """A pair of a method with initial weights of this seed, in float64."""
    torch.manual_seed(seed)
    return make(size.backbone(), size.features, dim=size.dim, hidden=size.hidden, **options).double()


def predictor_network(pair: MultiViewPair) -> nn.Module:
    """The network behind the pair's experts."""
    return pair.model.predictor.get_submodule("network")


def of_pair(
    pair: MultiViewPair, rule: TargetRule, sgd: Sgd, *, per: float = 1.0, scale: float = 1.0, shift: float = 0.0
) -> Training:
    """A pair under the KL objective, divided by `per`, as a training; a target's own weights are compared as well."""
    objective = pair_loss(pair, rule)
    target = [] if pair.guide.network is pair.model.encoder else encoder_parts(pair.guide.network)
    parts = [*encoder_parts(pair.model.encoder), predictor_network(pair), *target]
    networks = nn.ModuleList(parts)
    return Training(lambda views: objective(views) / per, networks, sgd, lambda: rule.update(pair), scale, shift)


def simsiam(size: Size, seed: int, *, concentration: float = 1.0) -> tuple[Training, Training]:
    r"""The pair and SimSiam. $\tfrac12\mathrm{objective} = \kappa\,\mathrm{SimSiam} - \log C(\kappa)$ an image (C9).

    With κ other than 1 the learning rate is divided and the weight decay multiplied by κ, so that the steps agree
    (C10).
    """
    sgd, log_c = size.sgd.for_loss_scaled_by(concentration), log_vmf_normalizer(size.dim, concentration)
    pair = initial(SimSiam, size, seed, concentration=concentration)
    ours = of_pair(pair, StopGradientCopy(), sgd, per=2, scale=concentration, shift=-log_c)
    return ours, published_simsiam(size, ours)


def published_simsiam(size: Size, ours: Training) -> Training:
    """SimSiam as published, from the weights of a pair."""
    return _published(plain.SimSiam(size.plain_backbone(), size.features, size.dim, size.hidden), size.sgd, ours)


def byol(size: Size, seed: int) -> tuple[Training, Training]:
    r"""The pair at κ = 1 and BYOL. $2(\mathrm{objective} + 2\log C(1)) + 4 = \mathrm{BYOL}$ an image (C1)."""
    rule, log_c = ExponentialMovingAverage(0.99), log_vmf_normalizer(size.dim, 1.0)
    ours = of_pair(initial(BYOL, size, seed), rule, size.sgd, per=0.5, shift=-4 * log_c - 4)
    published = plain.BYOL(size.plain_backbone(), size.features, size.dim, size.hidden, rule.momentum)
    return ours, _published(published, size.sgd, ours, update=published.update_target)


def vi_simsiam(size: Size, seed: int) -> tuple[Training, Training]:
    """The pair and Algorithm 1: the same number, which both trainings minimise in nats per dimension of the sphere."""
    unit = size.dim - 1
    ours = of_pair(initial(VISimSiam, size, seed), StopGradientCopy(), size.sgd, per=unit)
    published = plain.VISimSiam(size.plain_backbone(), size.features, size.dim, size.hidden)
    return ours, _published(published, size.sgd, ours, per=unit)


def log_vmf_normalizer(dim: int, concentration: float) -> float:
    """The constant log C(κ) of Eq. (7), by which objective and published losses differ; not by the library's code."""
    return float(von_mises_fisher_reference(dim, concentration).log_normalizer)


def _published(
    algorithm: Any, sgd: Sgd, ours: Training, *, per: float = 1.0, update: Callable[[], object] = lambda: None
) -> Training:
    """A published algorithm, whose networks are in the order of the pair's parts, from the pair's weights."""
    networks = nn.ModuleList(algorithm.double().children())
    networks.load_state_dict(ours.parts.state_dict())
    return Training(lambda views: algorithm.loss(*views) / per, networks, sgd, update)
