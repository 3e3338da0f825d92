from __future__ import annotations

import copy
import math
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import ExponentialMovingAverage, NoStopGradient, StopGradientCopy, TargetRule
from inference.judging.collapse import standard_deviation
from models.byol import BYOL
from models.frozen_encoder import FrozenEncoderPair
from models.networks import VonMisesFisherHead
from models.simsiam import SimSiam
from ssl_as_inference.graphical_model import FullGradientGuide, MultiViewGuide, MultiViewModel, MultiViewPair
from ssl_as_inference.sphere import normalize

IMAGES = 6


def byol_pair() -> MultiViewPair:
    torch.manual_seed(5)
    return BYOL(nn.Sequential(nn.Linear(7, 8), nn.BatchNorm1d(8)), 8, dim=5, hidden=6).double()


def shared_pair() -> MultiViewPair:
    """The very model of `byol_pair`, with a guide that shares its encoder."""
    pair = byol_pair()
    return MultiViewPair(5, pair.model, MultiViewGuide(pair.model.encoder))


def train(pair: MultiViewPair, rule: TargetRule, steps: int) -> None:
    module = KLObjective()(pair.model, rule.guide(pair))
    optimizer = torch.optim.SGD(pair.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(3)
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(is_validate=False):
        for _ in range(steps):
            views = [torch.randn(IMAGES, 7, dtype=torch.float64, generator=generator) for _ in range(2)]
            optimizer.zero_grad()
            (module(views) / IMAGES).backward()
            optimizer.step()
            rule.update(pair)


def assert_same_weights(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    for (name, parameter), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=tolerance, msg=name)


def test_a_moving_average_of_momentum_0_is_simsiam_step_for_step() -> None:
    averaged, shared = byol_pair(), shared_pair()
    start = copy.deepcopy(averaged.model)
    train(averaged, ExponentialMovingAverage(0.0), 20)
    train(shared, StopGradientCopy(), 20)
    assert_same_weights(averaged.model, shared.model, 1e-10)
    assert_same_weights(averaged.guide, averaged.model.encoder, 0.0)
    with pytest.raises(AssertionError):
        assert_same_weights(averaged.model, start, 1e-3)


def test_a_moving_average_of_momentum_1_keeps_its_target() -> None:
    pair = byol_pair()
    start = copy.deepcopy(pair.guide)
    train(pair, ExponentialMovingAverage(1.0), 3)
    assert_same_weights(pair.guide, start, 0.0)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.996])
def test_the_average_is_momentum_times_the_target_plus_the_rest_of_the_encoder(momentum: float) -> None:
    pair = byol_pair()
    with torch.no_grad():
        for parameter in pair.model.encoder.parameters():
            parameter.normal_()
    before = [parameter.clone() for parameter in pair.guide.network.parameters()]
    online = [parameter.clone() for parameter in pair.model.encoder.parameters()]
    ExponentialMovingAverage(momentum).update(pair)
    for target, old, new in zip(pair.guide.network.parameters(), before, online, strict=True):
        torch.testing.assert_close(target, momentum * old + (1 - momentum) * new, rtol=0, atol=1e-15)
        assert not target.requires_grad
    assert_same_weights(pair.model.encoder, pair.model.encoder, 0.0)
    for parameter, expected in zip(pair.model.encoder.parameters(), online, strict=True):
        assert torch.equal(parameter, expected)


def test_the_other_rules_have_nothing_to_update() -> None:
    for rule in (StopGradientCopy(), NoStopGradient()):
        pair = shared_pair()
        before = copy.deepcopy(pair.state_dict())
        rule.update(pair)
        for name, value in pair.state_dict().items():
            assert torch.equal(value, before[name])


def test_the_guides_that_the_rules_provide() -> None:
    pair = shared_pair()
    assert StopGradientCopy().guide(pair) is pair.guide
    full = NoStopGradient().guide(pair)
    assert isinstance(full, FullGradientGuide)
    assert full.network is pair.model.encoder
    separate = byol_pair()
    assert ExponentialMovingAverage().guide(separate) is separate.guide


def deviation_after_training(rule: TargetRule, predictor: nn.Module) -> float:
    """Train one linear layer without output normalisation; standard deviation of its unit outputs, 1 if uniform."""
    dim, images = 4, 32
    encoder = nn.Linear(dim, dim)
    pair = MultiViewPair(dim, MultiViewModel(encoder, VonMisesFisherHead(predictor)), MultiViewGuide(encoder))
    module = KLObjective()(pair.model, rule.guide(pair))
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.3, momentum=0.9)
    x = torch.randn(images, dim)

    def view() -> Tensor:
        return x + torch.randn_like(x)

    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(is_validate=False):
        for _ in range(60):
            optimizer.zero_grad()
            (module([view(), view()]) / images).backward()
            optimizer.step()
    with torch.no_grad():
        return standard_deviation(normalize(encoder(x)))


def predictor() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("seed", range(3))
def test_without_the_stop_gradient_or_the_predictor_outputs_collapse_and_with_both_they_do_not(seed: int) -> None:
    deviations = []
    for rule, with_predictor in ((StopGradientCopy(), True), (NoStopGradient(), True), (StopGradientCopy(), False)):
        pyro.set_rng_seed(seed)
        deviations.append(deviation_after_training(rule, predictor() if with_predictor else nn.Identity()))
    kept, without_stop_gradient, without_predictor = deviations
    assert kept > 0.5
    assert without_stop_gradient < 0.05
    assert without_predictor < 0.05


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan, math.inf])
def test_a_momentum_outside_the_unit_interval_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got"):
        ExponentialMovingAverage(momentum)


@pytest.mark.parametrize(
    ("rule", "pair", "message"),
    [
        (StopGradientCopy(), byol_pair, "StopGradientCopy needs a guide that shares the model's encoder"),
        (NoStopGradient(), byol_pair, "NoStopGradient needs a guide that shares the model's encoder"),
        (
            ExponentialMovingAverage(),
            lambda: SimSiam(nn.Linear(7, 8), 8, dim=5, hidden=6),
            "ExponentialMovingAverage needs a guide with a network of its own",
        ),
    ],
    ids=["stop-gradient copy of BYOL", "no stop-gradient for BYOL", "moving average of SimSiam"],
)
def test_a_rule_refuses_a_pair_that_does_not_suit_it(rule: TargetRule, pair: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule.guide(pair())


def test_a_target_without_parameters_stays_as_it_is() -> None:
    pair = FrozenEncoderPair(8, dim=5)
    rule = ExponentialMovingAverage()
    assert rule.guide(pair) is pair.guide
    features = torch.randn(2, 6, 8)
    before = pair.guide.locations(list(features))
    rule.update(pair)
    assert torch.equal(pair.guide.locations(list(features)), before)


def test_the_momentum_rises_as_in_byol_and_the_average_follows_it() -> None:
    rule = ExponentialMovingAverage(0.9, steps=8)
    assert rule.momentum_after(16) == 1  # and does not fall again
    for step in range(9):
        expected = 1 - (1 - 0.9) * (math.cos(math.pi * step / 8) + 1) / 2
        assert rule.momentum_after(step) == pytest.approx(expected, abs=1e-15)
        pair = byol_pair()
        with torch.no_grad():
            for parameter in pair.model.encoder.parameters():
                parameter.normal_()
        before = [parameter.clone() for parameter in pair.guide.network.parameters()]
        rule.update(pair, step)
        for target, old, new in zip(
            pair.guide.network.parameters(), before, pair.model.encoder.parameters(), strict=True
        ):
            torch.testing.assert_close(target, expected * old + (1 - expected) * new, rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match="steps must be at least 1 or None, got 0"):
        ExponentialMovingAverage(0.9, steps=0)
