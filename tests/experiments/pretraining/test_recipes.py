"""From the fields of a recipe to pair, objective and rates; the numbers behind them are tested with these parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.pretraining.building import build_objective, build_pair, build_row_rate, build_target_rule
from experiments.pretraining.configuration import (
    BackboneConfig,
    EngineConfig,
    MethodConfig,
    ObjectiveConfig,
    PretrainConfig,
    TrainingConfig,
)
from experiments.pretraining.export import load_pretrained, save_pretrained
from experiments.pretraining.training import pretrain
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy
from inference.fitting.term_weights import tempered_concentration, unit_pull
from inference.judging.representation import embed
from models.networks import LinearWithDetachedLast
from models.power_spherical_simsiam import PowerSphericalSimSiam
from models.vi_simsiam import VISimSiam

Make = Callable[..., PretrainConfig]


def with_method(configuration: Make, out: Path, **method: Any) -> PretrainConfig:
    return configuration(out, method=MethodConfig("vi_simsiam", dim=8, hidden=8, **method))


def test_a_constant_map_makes_a_pair_that_predicts_the_mean_direction_alone(
    configuration: Make, tmp_path: Path
) -> None:
    pair = build_pair(with_method(configuration, tmp_path, concentration_map="constant", concentration=0.1))
    assert isinstance(pair, PowerSphericalSimSiam)
    network: Any = pair.model.predictor.get_submodule("network")
    assert network[-1].out_features == 8
    assert pair.state_dict()["model.predictor.concentration"].item() == 0.1


def test_the_head_keeps_the_weights_and_their_names(configuration: Make, tmp_path: Path) -> None:
    through, head = (
        build_pair(with_method(configuration, tmp_path, concentration_gradient=way)) for way in ("through", "head")
    )
    assert isinstance(through, VISimSiam)
    assert isinstance(head, VISimSiam)
    networks: list[Any] = [pair.model.predictor.get_submodule("network") for pair in (through, head)]
    assert [type(network[-1]) for network in networks] == [nn.Linear, LinearWithDetachedLast]
    expected = through.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in head.state_dict().items())


def test_the_weights_of_the_objective_are_those_of_their_names() -> None:
    def weight(**objective: Any) -> Any:
        return build_objective(replace(PretrainConfig(), objective=ObjectiveConfig(**objective))).weight

    assert weight() is None
    assert weight(weight="pull", nats_per="image") is unit_pull
    tempered = weight(weight="concentration", beta=0.25)
    assert isinstance(tempered, partial)
    assert tempered.func is tempered_concentration
    assert tempered.keywords == {"beta": 0.25}


def test_the_rate_is_of_the_rows_of_the_concentration(configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path, training=TrainingConfig(epochs=1, batch_size=8, concentration_rate=3.0))
    pair = build_pair(config)
    assert isinstance(pair, VISimSiam)
    row_rate = build_row_rate(config, pair)
    assert row_rate is not None
    assert row_rate.factor == 3
    network: Any = pair.model.predictor.get_submodule("network")
    assert row_rate.parameters[0] is network[-1].weight
    assert row_rate.parameters[1] is network[-1].bias
    plain = configuration(tmp_path)
    assert build_row_rate(plain, build_pair(plain)) is None
    decayed = replace(plain, training=replace(plain.training, concentration_decay=0.1))
    own = build_row_rate(decayed, build_pair(decayed))
    assert own is not None
    assert (own.factor, own.decay) == (1, 0.1)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_the_rate_changes_the_run(factor: float, configuration: Make, tmp_path: Path) -> None:
    training = TrainingConfig(epochs=1, batch_size=8, learning_rate=0.05)
    plain = configuration(tmp_path / "plain", training=training)
    other = configuration(tmp_path / "other", training=replace(training, concentration_rate=factor))
    rows = []
    for config in (plain, other):
        start = build_pair(config)
        exported = pretrain(config)
        assert exported is not None
        trained: Any = load_pretrained(exported).pair
        assert isinstance(start, VISimSiam)
        rows.append((trained.concentration_rows[0][-1] - start.concentration_rows[0][-1]).norm().item())
    assert (rows[1] > 2 * rows[0]) == (factor > 1)
    assert (rows[1] < rows[0] / 2) == (factor < 1)


def test_an_exported_constant_concentration_comes_back(configuration: Make, tmp_path: Path) -> None:
    config = with_method(configuration, tmp_path, concentration_map="constant", concentration=7.0)
    pair = build_pair(config).eval()
    loaded = load_pretrained(save_pretrained(pair, config, tmp_path / "encoder.safetensors"))
    assert loaded.config == config
    images = torch.rand(4, 3, 8, 8)
    seen, expected = embed(loaded.pair, images), embed(pair, images)
    assert seen.concentration.tolist() == [7.0] * 4
    assert torch.equal(seen.mean_direction, expected.mean_direction)


def test_residual_blocks_begin_as_identities_where_asked(configuration: Make, tmp_path: Path) -> None:
    for asked in (False, True):
        backbone = BackboneConfig("resnet18", zero_init_residual=asked)
        state = build_pair(configuration(tmp_path, backbone=backbone)).state_dict()
        assert bool((state["model.encoder.backbone.layer1.0.bn2.weight"] == 0).all()) == asked


def test_the_momentum_of_byol_rises_to_one_where_asked(configuration: Make, tmp_path: Path) -> None:
    rules = [
        build_target_rule(configuration(tmp_path, method=MethodConfig("byol", momentum_schedule=schedule)), 100)
        for schedule in ("constant", "cosine")
    ]
    assert all(isinstance(rule, ExponentialMovingAverage) for rule in rules)
    assert [rule.momentum_after(100) for rule in rules] == [0.996, 1.0]  # type: ignore[attr-defined]
    assert isinstance(build_target_rule(configuration(tmp_path, "simsiam"), 100), StopGradientCopy)
    with pytest.raises(ValueError, match=r"momentum_schedule must be constant with engine\.cuda_graphs"):
        replace(
            PretrainConfig(),
            method=MethodConfig("byol", momentum_schedule="cosine"),
            engine=EngineConfig(accelerator="gpu", cuda_graphs=True),
        )


def test_the_predictor_keeps_its_own_rate_and_a_resumed_run_its_bits(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = set()
    clip = StepwiseLearner._clip

    def seen(self: StepwiseLearner, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        rates.add(tuple(group["lr"] for group in optimizer.param_groups))
        return clip(self, optimizer)

    monkeypatch.setattr(StepwiseLearner, "_clip", seen)
    training = TrainingConfig(epochs=2, batch_size=8, learning_rate=0.05, predictor_rate=0.02)
    config = configuration(tmp_path / "run", training=training)
    pretrain(config)
    assert len({rate for rate, _ in rates}) == 6  # a cosine
    assert {rate for _, rate in rates} == {0.02}
    ended = load_pretrained(config.out).pair.state_dict()
    pretrain(config, "previous")
    assert all(
        torch.equal(tensor, ended[name]) for name, tensor in load_pretrained(config.out).pair.state_dict().items()
    )
