"""`engine.cuda_graphs`: which learner it asks for, and what is refused with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from experiments.pretraining import training
from experiments.pretraining.building import build_learner
from experiments.pretraining.configuration import EngineConfig, PretrainConfig
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import TrainingFailedError, pretrain
from inference.fitting.cuda_graphs import RecordingError
from inference.fitting.stepwise import StepwiseLearner

Make = Callable[..., PretrainConfig]


def test_without_a_gpu_it_is_refused(configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"engine\.cuda_graphs is true, but torch sees no GPU here: set it to false"):
        pretrain(configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=True)))


@pytest.mark.parametrize("asked", [True, False])
def test_it_asks_for_a_learner_that_records(
    asked: bool, configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[StepwiseLearner] = []
    monkeypatch.setattr(training, "_trainer", lambda config, trainer=training._trainer: trainer(without(config)))
    monkeypatch.setattr(training, "_fit", lambda _trainer, loop, _batches: made.append(loop.learner))
    pretrain(configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=asked)))
    assert [learner.record for learner in made] == [asked]


def without(config: PretrainConfig) -> PretrainConfig:
    return replace(config, engine=replace(config.engine, cuda_graphs=False))


@pytest.mark.parametrize("method", ["byol", "vi_simsiam"])
def test_the_learner_that_records_does_a_whole_training(
    method: str, configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[dict[str, Any]]] = []
    states = []
    for asked in (True, False):
        monkeypatch.setattr(
            training, "build_learner", lambda *given, asked=asked, **_: build_learner(*given, record=asked)
        )
        config = configuration(tmp_path / str(asked), method)
        exported = pretrain(config)
        assert exported is not None
        states.append(load_pretrained(exported).pair.state_dict())
        rows.append([{**row, "images_per_second": None} for row in read_rows(RunFolder(config.out).metrics)])
    assert rows[0] == rows[1]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("tidied_up", [True, False])
def test_a_step_that_cannot_be_recorded_ends_the_run_with_what_to_do(
    tidied_up: bool, configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RecordingError("the step cannot be recorded as a CUDA graph")

    def fail_again(*_: object) -> None:
        raise RuntimeError("CUDA error: an earlier one")

    monkeypatch.setattr(StepwiseLearner, "training_step", fail)
    if not tidied_up:
        monkeypatch.setattr(SingleDeviceStrategy, "teardown", fail_again)
    with pytest.raises(TrainingFailedError, match=r"as a CUDA graph; train with --engine\.cuda_graphs false"):
        pretrain(configuration(tmp_path / "run"))


def test_a_run_may_be_resumed_without_it(configuration: Make, tmp_path: Path) -> None:
    with_it, without = (
        configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=asked)) for asked in (True, False)
    )
    assert with_it.differences(without) == []
