"""What is not SimSiam, what breaks it, and the two ends of BYOL's moving average, as trainings that are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from experiments.images.digits import DigitViews, load
from experiments.special_cases.methods import Size, initial, log_vmf_normalizer, of_pair, published_simsiam
from experiments.special_cases.plain import negative_cosine
from experiments.special_cases.recovery import Sgd, Step, Training, Views, digit_views, losses_of, pair_loss, steps_of
from inference.fitting.kl_objective import KLObjective, Pairs
from inference.fitting.targets import ExponentialMovingAverage, NoStopGradient, StopGradientCopy
from inference.judging.collapse import effective_rank, standard_deviation
from models.byol import BYOL
from models.networks import Encoder, VonMisesFisherHead, simsiam_projector, two_layer_mlp
from models.power_spherical_simsiam import PowerSphericalSimSiam
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

PIXELS = 256
MIN_STD, MAX_COLLAPSED_STD = 0.5, 0.05


def constant_power_spherical(size: Size, seed: int) -> tuple[Training, Training]:
    r"""The pair with Power Spherical experts of constant κ = 1, and SimSiam as published, from the same weights.

    The slope of the log density is κ/(1+c) in place of κ. At the start c ≈ 0 and the two losses have nearly the same
    gradient, so that no choice of learning rate is to blame for what follows.
    """
    ours = of_pair(initial(PowerSphericalSimSiam, size, seed, concentration=1.0), StopGradientCopy(), size.sgd, per=2)
    return ours, published_simsiam(size, ours)


def moving_average_without_memory(size: Size, seed: int) -> tuple[Training, Training]:
    """BYOL's pair at momentum 0, and SimSiam's rule (a shared encoder) over the same networks (C26)."""
    model = initial(BYOL, size, seed).model
    shared = of_pair(MultiViewPair(size.dim, model, MultiViewGuide(model.encoder)), StopGradientCopy(), size.sgd)
    separate = of_pair(initial(BYOL, size, seed), ExponentialMovingAverage(0.0), size.sgd)
    return replace(separate, parts=separate.parts[: len(shared.parts)]), shared


def moving_average_that_never_moves(size: Size, seed: int) -> tuple[Training, Training]:
    """BYOL's pair at momentum 1, and plain regression on the outputs of the initial encoder (C26).

    The regression knows nothing of pairs and objectives: minus the sum of both cosines. The target's weights are
    compared as well: those of the regression are never touched.
    """
    rule, shift = ExponentialMovingAverage(1.0), -2 * log_vmf_normalizer(size.dim, 1.0)
    ours, other = (of_pair(pair, rule, size.sgd, shift=shift) for pair in (initial(BYOL, size, seed) for _ in range(2)))
    encoder, predictor, fixed = (nn.Sequential(*other.parts[part]) for part in (slice(2), slice(2, 3), slice(3, 5)))

    def regression(views: Views) -> Tensor:
        with torch.no_grad():
            targets = [fixed(view) for view in views]
        outputs = [predictor(encoder(view)) for view in views]
        return negative_cosine(outputs[0], targets[1]) + negative_cosine(outputs[1], targets[0])

    return ours, Training(regression, other.parts, size.sgd)


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
    return _trained(pair, pair_loss(pair, target), steps, seed)


def with_pairs(pairs: Pairs, seed: int, *, steps: int = 300) -> Outputs:
    """Train SimSiam with or without the i = j terms (C15)."""
    pair = small_pair(seed, dim=32, hidden=8, output_norm=True)
    return _trained(pair, pair_loss(pair, StopGradientCopy(), KLObjective(pairs)), steps, seed)


def _trained(pair: MultiViewPair, loss: Callable[[Views], Tensor], steps: int, seed: int) -> Outputs:
    training = Training(lambda views: loss(views) / 2, nn.ModuleList([pair.model]), Sgd(0.1, 0.9, 1e-3))
    losses_of(training, digit_views(steps, batch_size=128, seed=seed))
    return outputs_of(pair)


@torch.no_grad()
def outputs_of(pair: MultiViewPair) -> Outputs:
    """Judge a pair by held-out digits, with the statistics of all of them in batch normalisation, as in training."""
    images = DigitViews(torch.Generator().manual_seed(0))(load()[1].images).double()
    projection = pair.model.encoder(images)
    mean_direction = pair.model.predictor(projection).mean_direction
    distance = 1 - (mean_direction * normalize(projection)).sum(-1).mean()
    return Outputs(standard_deviation(projection), effective_rank(projection), float(distance))
