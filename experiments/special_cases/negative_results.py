"""What is not SimSiam, what breaks it, and the two ends of BYOL's moving average, as trainings that are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.images.digits import DigitViews, load
from experiments.special_cases.methods import Size, plain_simsiam_training, predictor_network
from experiments.special_cases.recovery import (
    Sgd,
    Step,
    Training,
    Views,
    digit_views,
    encoder_parts,
    log_vmf_normalizer,
    pair_loss,
    steps_of,
)
from inference.fitting.kl_objective import KLObjective, Pairs
from inference.fitting.targets import ExponentialMovingAverage, NoStopGradient, StopGradientCopy
from inference.judging.collapse import effective_rank, standard_deviation
from models.byol import BYOL
from models.networks import (
    ConstantPowerSphericalHead,
    Encoder,
    VonMisesFisherHead,
    simsiam_projector,
    two_layer_mlp,
)
from models.simsiam import SimSiam
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair
from ssl_as_inference.sphere import normalize

PIXELS = 256
MIN_STD, MAX_COLLAPSED_STD = 0.5, 0.05


def constant_power_spherical(size: Size, seed: int, *, concentration: float = 1.0) -> tuple[Training, Training]:
    r"""The pair with Power Spherical experts of constant κ, and SimSiam as published, from the same weights.

    The slope of the log density is κ/(1+c) in place of κ. At the start c ≈ 0 and the two losses have nearly the same
    gradient, so that no choice of learning rate is to blame for what follows.
    """
    torch.manual_seed(seed)
    pair = SimSiam(size.backbone(), size.features, dim=size.dim, hidden=size.hidden)
    pair.model.predictor = ConstantPowerSphericalHead(predictor_network(pair), concentration)
    pair = pair.double()
    objective = pair_loss(pair, StopGradientCopy())
    ours = Training(
        lambda views: objective(views) / 2,
        [*encoder_parts(pair.model.encoder), predictor_network(pair)],
        size.sgd.for_loss_scaled_by(concentration),
        scale=concentration,
    )
    published = plain_simsiam_training(size, size.sgd)
    published.start_from(ours)
    return ours, published


def train(training: Training, steps: int, *, batch_size: int, seed: int) -> list[float]:
    """Train one alone on digits; its losses."""
    optimizer = training.sgd.optimizer(training.trainable())
    losses = []
    for views in digit_views(steps, batch_size=batch_size, seed=seed):
        optimizer.zero_grad()
        loss = training.loss(views)
        loss.backward()
        optimizer.step()
        training.update()
        losses.append(loss.item())
    return losses


def moving_average_without_memory(size: Size, seed: int) -> tuple[Training, Training]:
    """BYOL's pair at momentum 0, and SimSiam's rule (a shared encoder) over the same networks (C26)."""
    separate, rule = _byol(size, seed, 0.0)
    shared_model, _ = _byol(size, seed, 0.0)
    shared = MultiViewPair(size.dim, shared_model.model, MultiViewGuide(shared_model.model.encoder))
    separate_loss, shared_loss = pair_loss(separate, rule), pair_loss(shared, StopGradientCopy())
    ours = Training(
        separate_loss,
        [*encoder_parts(separate.model.encoder), predictor_network(separate)],
        size.sgd,
        update=lambda: rule.update(separate),
    )
    return ours, Training(shared_loss, [*encoder_parts(shared.model.encoder), predictor_network(shared)], size.sgd)


def moving_average_that_never_moves(size: Size, seed: int) -> tuple[Training, Training]:
    """BYOL's pair at momentum 1, and plain regression on the outputs of the initial encoder (C26).

    The regression knows nothing of pairs and objectives: minus the sum of both cosines. The target's weights are
    compared as well: those of the regression are never touched.
    """
    pair, rule = _byol(size, seed, 1.0)
    other, _ = _byol(size, seed, 1.0)
    encoder, predictor, fixed = other.model.encoder, predictor_network(other), other.guide.network
    moving = pair_loss(pair, rule)

    def regression(views: list[Tensor]) -> Tensor:
        with torch.no_grad():
            targets = [nn.functional.normalize(fixed(view), dim=1) for view in views]
        outputs = [nn.functional.normalize(predictor(encoder(view)), dim=1) for view in views]
        return -((outputs[0] * targets[1]).sum(1) + (outputs[1] * targets[0]).sum(1)).mean()

    parts = [
        [*encoder_parts(model.encoder), network, *encoder_parts(target)]
        for model, network, target in (
            (pair.model, predictor_network(pair), pair.guide.network),
            (other.model, predictor, fixed),
        )
    ]
    shift = -2 * log_vmf_normalizer(size.dim, 1.0)
    ours = Training(moving, parts[0], size.sgd, update=lambda: rule.update(pair), shift=shift)
    return ours, Training(regression, parts[1], size.sgd)


def _byol(size: Size, seed: int, momentum: float) -> tuple[BYOL, ExponentialMovingAverage]:
    torch.manual_seed(seed)
    pair = BYOL(size.backbone(), size.features, dim=size.dim, hidden=size.hidden).double()
    return pair, ExponentialMovingAverage(momentum)


def compared(trainings: tuple[Training, Training], size: Size, steps: int, seed: int, description: str) -> list[Step]:
    """The steps of two trainings on digits, with a progress bar that vanishes."""
    batches = digit_views(steps, batch_size=size.batch_size, seed=seed, pixels=size.pixels)
    return list(steps_of(*trainings, tqdm(batches, total=steps, desc=description, unit="step", leave=False)))


Variant = Literal["both", "no stop-gradient", "no predictor"]
VARIANTS: tuple[Variant, ...] = ("both", "no stop-gradient", "no predictor")


def small_pair(
    seed: int, *, dim: int = 8, hidden: int = 16, predictor: bool = True, output_norm: bool = False
) -> MultiViewPair:
    """SimSiam over a network of one hidden layer a part, for trainings of which many are needed.

    Args:
        seed: Of the weights.
        dim: Dimension d of the latent space.
        hidden: Width of the predictor's hidden layer.
        predictor: Whether there is one; without it the expert's mean direction is the projection's.
        output_norm: Whether the projector ends in SimSiam's batch normalisation, which by itself keeps the outputs
            from becoming equal.
    """
    torch.manual_seed(seed)
    width = 64
    backbone = nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)
    )
    projector = simsiam_projector(width, dim) if output_norm else two_layer_mlp(width, width, dim)
    encoder = Encoder(backbone, projector)
    head = VonMisesFisherHead(two_layer_mlp(dim, hidden, dim) if predictor else nn.Identity())
    return MultiViewPair(dim, MultiViewModel(encoder, head), MultiViewGuide(encoder)).double()


@dataclass(frozen=True)
class Outputs:
    """What a trained pair makes of held-out digits.

    Attributes:
        standard_deviation: Of the normalised outputs, times √d.
        effective_rank: Of the normalised outputs.
        predictor_distance: Mean of 1 − μᵀf over images, μ and f from the same view: 0 if the predictor is the identity.
    """

    standard_deviation: float
    effective_rank: float
    predictor_distance: float


def collapse(variant: Variant, seed: int, *, steps: int = 200) -> Outputs:
    """Train SimSiam without batch normalisation at the output: whole, or with one of its two parts taken away (C28)."""
    pair = small_pair(seed, predictor=variant != "no predictor")
    target = NoStopGradient() if variant == "no stop-gradient" else StopGradientCopy()
    loss = pair_loss(pair, target)
    train(_alone(pair, lambda views: loss(views) / 2), steps, batch_size=128, seed=seed)
    return outputs_of(pair)


def with_pairs(pairs: Pairs, seed: int, *, steps: int = 300, dim: int = 32) -> Outputs:
    """Train SimSiam with or without the i = j terms (C15)."""
    pair = small_pair(seed, dim=dim, hidden=dim // 4, output_norm=True)
    loss = pair_loss(pair, StopGradientCopy(), KLObjective(pairs))
    train(_alone(pair, lambda views: loss(views) / 2), steps, batch_size=128, seed=seed)
    return outputs_of(pair)


def _alone(pair: MultiViewPair, loss: Callable[[Views], Tensor]) -> Training:
    return Training(loss, [pair.model], Sgd(0.1, 0.9, 1e-3))


@torch.no_grad()
def outputs_of(pair: MultiViewPair) -> Outputs:
    """Judge a pair by held-out digits, with the statistics of all of them in batch normalisation, as in training."""
    images = DigitViews(torch.Generator().manual_seed(0))(load()[1].images).double()
    projection = pair.model.encoder(images)
    mean_direction = pair.model.predictor(projection).mean_direction
    distance = 1 - (mean_direction * normalize(projection)).sum(-1).mean()
    return Outputs(standard_deviation(projection), effective_rank(projection), float(distance))
