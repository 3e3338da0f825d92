"""A row's own learning rate and decay do what a parameter group of its own would."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from inference.fitting.kl_objective import KLObjective
from inference.fitting.row_rate import LastRowRate
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import StopGradientCopy
from models.vi_simsiam import VISimSiam

STEPS, INPUTS, DIM, IMAGES = 12, 7, 6, 8
MOMENTUM, WEIGHT_DECAY = 0.9, 0.05


def rate(step: int) -> float:
    """Not constant, so that the factor has to follow it."""
    return 0.1 / (1 + step)


@pytest.mark.parametrize(("factor", "decay"), [(0.1, None), (3.0, None), (1.0, 0.5), (3.0, 0.0)])
def test_the_weights_are_those_of_a_parameter_group_with_that_rate_and_decay(
    factor: float, decay: float | None
) -> None:
    layer = nn.Linear(4, 3).double()
    split = [layer.weight[:-1], layer.bias[:-1], layer.weight[-1:], layer.bias[-1:]]
    rest_weight, rest_bias, last_weight, last_bias = (nn.Parameter(part.detach().clone()) for part in split)
    settings: dict[str, Any] = {"lr": 1.0, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}
    ours = torch.optim.SGD(layer.parameters(), **settings)
    rest: dict[str, Any] = {"params": [rest_weight, rest_bias]}
    last = {"params": [last_weight, last_bias], "weight_decay": WEIGHT_DECAY if decay is None else decay}
    groups = torch.optim.SGD([rest, last], **settings)
    row_rate = LastRowRate(tuple(layer.parameters()), factor, decay)
    for step in range(STEPS):
        x = torch.randn(5, 4, dtype=torch.float64)
        outputs = linear(x, torch.cat([rest_weight, last_weight]), torch.cat([rest_bias, last_bias]))
        for optimizer, output in ((ours, layer(x)), (groups, outputs)):
            optimizer.zero_grad()
            output.square().sum().mul(0.01).backward()
        row_rate.apply(WEIGHT_DECAY)
        ours.param_groups[0]["lr"] = rate(step)
        for group, own in zip(groups.param_groups, (1.0, factor), strict=True):
            group["lr"] = rate(step) * own
        ours.step()
        groups.step()
    torch.testing.assert_close(layer.weight, torch.cat([rest_weight, last_weight]), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(layer.bias, torch.cat([rest_bias, last_bias]), rtol=1e-12, atol=1e-14)


class Batches:
    """The views of every step."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[list[Tensor]]:
        return map(views, range(STEPS))


def views(step: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(step)
    return [torch.randn(IMAGES, INPUTS, dtype=torch.float64, generator=draw) for _ in range(2)]


def make_pair() -> VISimSiam:
    torch.manual_seed(5)
    return VISimSiam(nn.Linear(INPUTS, 8), 8, dim=DIM, hidden=4).double()


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_learner_gives_the_row_its_rate_after_clipping(factor: float) -> None:
    clip = 0.2
    pair = make_pair()
    options: dict[str, Any] = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "gradient_clip": clip}
    learner = StepwiseLearner(
        pair,
        KLObjective(),
        StopGradientCopy(),
        schedule=rate,
        row_rate=LastRowRate(pair.concentration_rows, factor),
        **options,
    )
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers
        trainer.fit(learner, Batches())
    norms = [values.gradient_norm for values in learner.read_steps()]

    twin = make_pair()
    objective = KLObjective()(twin.model, twin.guide)
    parameters = list(twin.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    rows = {id(parameter) for parameter in twin.concentration_rows}
    for step in range(STEPS):
        gradients = torch.autograd.grad(objective(views(step)) / IMAGES, parameters)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        assert norm > clip
        assert norms[step] == pytest.approx(norm, rel=1e-10)
        with torch.no_grad():  # 1e-6 is what torch adds to the norm
            for parameter, gradient, speed in zip(parameters, gradients, velocity, strict=True):
                speed.mul_(MOMENTUM).add_(gradient * clip / (norm + 1e-6) + WEIGHT_DECAY * parameter)
                rates = torch.full((len(parameter),), rate(step), dtype=torch.float64)
                if id(parameter) in rows:
                    rates[-1] *= factor
                parameter.sub_(rates.view(-1, *[1] * (parameter.dim() - 1)) * speed)
    for parameter, expected in zip(pair.parameters(), parameters, strict=True):
        assert (parameter - expected).abs().max().item() <= 1e-12


def test_rows_without_a_gradient_are_left_alone() -> None:
    layer = nn.Linear(2, 2)
    LastRowRate(tuple(layer.parameters()), 2.0).apply(0.1)
    assert layer.weight.grad is None


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_factor_must_be_positive_and_finite(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be positive and finite, got"):
        LastRowRate((nn.Parameter(torch.ones(2)),), factor)


@pytest.mark.parametrize("decay", [-1e-4, float("inf"), float("nan")])
def test_a_decay_must_be_finite_and_not_negative(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be finite and at least 0, got"):
        LastRowRate((nn.Parameter(torch.ones(2)),), decay=decay)


def test_there_must_be_rows() -> None:
    with pytest.raises(ValueError, match="parameters must be at least one, each with rows, got 0"):
        LastRowRate((), 2.0)
    with pytest.raises(ValueError, match="parameters must be at least one, each with rows, got a scalar"):
        LastRowRate((nn.Parameter(torch.ones(())),), 2.0)
