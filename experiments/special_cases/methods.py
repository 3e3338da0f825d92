"""Pairs and published algorithms as trainings that can be compared, over one of two backbones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.special_cases.plain import backbones
from experiments.special_cases.plain import byol as plain_byol
from experiments.special_cases.plain import simsiam as plain_simsiam
from experiments.special_cases.plain import vi_simsiam as plain_vi_simsiam
from experiments.special_cases.recovery import Sgd, Training, Views, encoder_parts, log_vmf_normalizer, pair_loss
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy
from models.byol import BYOL
from models.networks import resnet18_backbone, small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair


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
        sgd: Settings of the optimiser when none are given.
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
        lambda: backbones.small(8),
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
        backbones.resnet18_for_small_images,
        features=512,
        dim=256,
        hidden=64,
        batch_size=32,
        pixels=8,
        sgd=Sgd(0.05 * 32 / 256),
    ),
}
"""ResNet-18 at small images, and a small network, over grey images of 16×16 pixels."""


def predictor_network(pair: MultiViewPair) -> nn.Module:
    """The network behind the pair's experts."""
    return pair.model.predictor.get_submodule("network")


def simsiam(size: Size, seed: int, *, concentration: float = 1.0, sgd: Sgd | None = None) -> tuple[Training, Training]:
    r"""The pair and SimSiam. $\tfrac12\mathrm{objective} = \kappa\,\mathrm{SimSiam} - \log C(\kappa)$ an image (C9).

    With κ other than 1 the learning rate is divided and the weight decay multiplied by κ, so that the steps agree
    (C10).
    """
    sgd = sgd or size.sgd
    torch.manual_seed(seed)
    pair = SimSiam(
        size.backbone(), size.features, dim=size.dim, hidden=size.hidden, concentration=concentration
    ).double()
    objective = pair_loss(pair, StopGradientCopy())
    ours = Training(
        lambda views: objective(views) / 2,
        [*encoder_parts(pair.model.encoder), predictor_network(pair)],
        sgd.for_loss_scaled_by(concentration),
        scale=concentration,
        shift=-log_vmf_normalizer(size.dim, concentration),
    )
    return ours, _started(plain_simsiam_training(size, sgd), ours)


def plain_simsiam_training(size: Size, sgd: Sgd) -> Training:
    """SimSiam as published."""
    plain = plain_simsiam.SimSiam(size.plain_backbone(), size.features, size.dim, size.hidden).double()
    return Training(_of_two(plain.loss), [plain.backbone, plain.projection, plain.prediction], sgd)


def byol(size: Size, seed: int, *, momentum: float = 0.99, sgd: Sgd | None = None) -> tuple[Training, Training]:
    r"""The pair at κ = 1 and BYOL. $2(\mathrm{objective} + 2\log C(1)) + 4 = \mathrm{BYOL}$ an image (C1)."""
    sgd = sgd or size.sgd
    torch.manual_seed(seed)
    pair = BYOL(size.backbone(), size.features, dim=size.dim, hidden=size.hidden).double()
    rule = ExponentialMovingAverage(momentum)
    objective = pair_loss(pair, rule)
    ours = Training(
        lambda views: 2 * objective(views),
        [
            *encoder_parts(pair.model.encoder),
            predictor_network(pair),
            *encoder_parts(pair.guide.network),
        ],
        sgd,
        update=lambda: rule.update(pair),
        shift=-4 * log_vmf_normalizer(size.dim, 1.0) - 4,
    )
    plain = plain_byol.BYOL(size.plain_backbone(), size.features, size.dim, size.hidden, momentum).double()
    published = Training(
        _of_two(plain.loss),
        [plain.backbone, plain.projection, plain.prediction, plain.target_backbone, plain.target_projection],
        sgd,
        update=plain.update_target,
    )
    return ours, _started(published, ours)


def vi_simsiam(size: Size, seed: int, *, sgd: Sgd | None = None) -> tuple[Training, Training]:
    """The pair and Algorithm 1: the same number, which both trainings minimise in nats per dimension of the sphere."""
    sgd = sgd or size.sgd
    torch.manual_seed(seed)
    unit = size.dim - 1
    pair = VISimSiam(size.backbone(), size.features, dim=size.dim, hidden=size.hidden).double()
    objective = pair_loss(pair, StopGradientCopy())
    ours = Training(
        lambda views: objective(views) / unit, [*encoder_parts(pair.model.encoder), predictor_network(pair)], sgd
    )
    plain = plain_vi_simsiam.VISimSiam(size.plain_backbone(), size.features, size.dim, size.hidden).double()
    published = Training(
        lambda views: plain.loss(*views) / unit, [plain.backbone, plain.projection, plain.prediction], sgd
    )
    return ours, _started(published, ours)


def _of_two(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Views], Tensor]:
    return lambda views: loss(views[0], views[1])


def _started(published: Training, ours: Training) -> Training:
    published.start_from(ours)
    return published
