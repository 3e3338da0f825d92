"""Two trainings side by side: a model/guide pair under the KL objective, and a published algorithm in plain PyTorch.

Both start from the same weights and see the same views. After each step the losses, gradients, weights and buffers of
batch normalisation are compared, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from experiments.images.digits import IMAGE_SIZE, DigitViews, load
from inference.fitting.cuda_graphs import TrainingStep
from inference.fitting.kl_objective import KLObjective
from inference.fitting.pyro_settings import settings_for_training
from inference.fitting.targets import TargetRule
from ssl_as_inference.graphical_model import MultiViewPair

Views = Sequence[Tensor]

TOLERANCES = {"loss": 1e-12, "gradient": 1e-10, "weights": 1e-8, "buffers": 1e-8}
"""Largest difference with which two trainings count as the same, at every step."""


@dataclass(frozen=True)
class Sgd:
    """Momentum SGD, as both trainings use it."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimiser."""
        fused = parameters[0].is_cuda or None
        return torch.optim.SGD(
            parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay, fused=fused
        )

    def for_loss_scaled_by(self, scale: float) -> Sgd:
        """The settings with which `scale` times the loss takes the same steps: learning rate / s, weight decay × s."""
        return Sgd(self.learning_rate / scale, self.momentum, self.weight_decay * scale)


@dataclass(frozen=True)
class Training:
    """A network in training, in a form in which two can be compared.

    Attributes:
        loss: Two views to the loss that is minimised.
        parts: Networks whose parameters and buffers correspond, in order, to those of the other training.
        sgd: Settings of the optimiser.
        update: What follows each step of the optimiser, such as the target's moving average.
        scale: The loss is this many times the loss it is compared as …
        shift: … plus this constant. Gradients are divided by `scale` before they are compared.
    """

    loss: Callable[[Views], Tensor]
    parts: nn.ModuleList
    sgd: Sgd
    update: Callable[[], object] = lambda: None
    scale: float = 1.0
    shift: float = 0.0

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that the optimiser moves."""
        return [parameter for parameter in self.parts.parameters() if parameter.requires_grad]

    def stepper(self) -> TrainingStep:
        """Its steps, by a fresh optimiser."""
        return TrainingStep(self.loss, self.sgd.optimizer(self.trainable()), then=self.update)

    def gradients(self) -> list[Tensor]:
        """Those of the last step, as they are compared; every parameter that the optimiser moves has one."""
        return [parameter.grad.div(self.scale) for parameter in self.trainable()]  # type: ignore[union-attr]


@dataclass(frozen=True)
class Step:
    """One step: the two losses, and the largest absolute differences."""

    ours: float
    published: float
    loss: float
    gradient: float
    weights: float
    buffers: float


def steps_of(ours: Training, published: Training, batches: Iterable[Views]) -> Iterator[Step]:
    """Train both on the same batches and compare them after each step."""
    both = [(training, training.stepper()) for training in (ours, published)]
    for views in batches:
        mine, its = ((step(*views).item() - training.shift) / training.scale for training, step in both)
        yield Step(
            mine,
            its,
            abs(mine - its),
            _largest_difference(ours.gradients(), published.gradients()),
            _largest_difference(ours.parts.parameters(), published.parts.parameters()),
            _largest_difference(ours.parts.buffers(), published.parts.buffers()),
        )


def losses_of(training: Training, batches: Iterable[Views]) -> list[float]:
    """Train one alone."""
    step = training.stepper()
    return [step(*views).item() for views in batches]


@torch.no_grad()
def _largest_difference(left: Iterable[Tensor], right: Iterable[Tensor]) -> float:
    differences = [(x.double() - y.double()).abs().max() for x, y in zip(left, right, strict=True)]
    return float(torch.stack(differences).max())  # NaN stays NaN, and fails every comparison


def largest_differences(steps: Sequence[Step]) -> dict[str, float]:
    """The largest difference over all steps, for each of `TOLERANCES`; NaN if one is."""
    return {name: float(np.max([getattr(step, name) for step in steps])) for name in TOLERANCES}


def is_recovered(steps: Sequence[Step]) -> bool:
    """Whether every difference of every step is within its tolerance."""
    return all(value <= TOLERANCES[name] for name, value in largest_differences(steps).items())


def pair_loss(
    pair: MultiViewPair, target: TargetRule, objective: KLObjective | None = None
) -> Callable[[Views], Tensor]:
    """Views to the objective's mean over images, in nats an image, as the training of this project computes it."""
    elbo = (objective or KLObjective())(pair.model, target.guide(pair))

    def loss(views: Views) -> Tensor:
        with settings_for_training():
            nats: Tensor = elbo(views)
        return nats / len(views[0])

    return loss


class Network(nn.Module):
    """A network that is a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, view: Tensor) -> Any:
        """What the function makes of the view."""
        return self.function(view)


def encoder_parts(encoder: nn.Module) -> list[nn.Module]:
    """Backbone and projector."""
    return [encoder.get_submodule("backbone"), encoder.get_submodule("projector")]


def digit_views(steps: int, *, batch_size: int, seed: int, pixels: int = IMAGE_SIZE) -> Iterator[Views]:
    """Two float64 views of a random batch of digits, `steps` times; the same for the same seed.

    Views are drawn at 16×16 pixels and then averaged down to `pixels`, a divisor of 16.
    """
    images = load()[0].images
    generator = torch.Generator().manual_seed(seed)
    augment = DigitViews(generator)
    for _ in range(steps):
        batch = images[torch.randperm(len(images), generator=generator)[:batch_size]]
        yield [adaptive_avg_pool2d(augment(batch).double(), pixels) for _ in range(2)]
