"""`engine.cuda_graphs`: which learner it asks for, and what is refused with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.pretraining import training
from experiments.pretraining.building import build_learner, build_pair
from experiments.pretraining.configuration import EngineConfig, PretrainConfig
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import TrainingFailedError, pretrain
from inference.fitting.cuda_graphs import RecordingError
from inference.fitting.graphed_learner import GraphedLearner
from inference.fitting.stepwise import StepwiseLearner

Make = Callable[..., PretrainConfig]


def test_without_a_gpu_it_is_refused(configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"engine\.cuda_graphs is true, but torch sees no GPU here: set it to false"):
        pretrain(configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=True)))


@pytest.mark.parametrize(("asked", "kind"), [(True, GraphedLearner), (False, StepwiseLearner)])
def test_it_asks_for_the_learner_that_records(
    asked: bool, kind: type[StepwiseLearner], configuration: Make, tmp_path: Path
) -> None:
    config = configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=asked))
    assert type(build_learner(training._kind(config.engine), config, build_pair(config), 24, 3)) is kind


@pytest.mark.parametrize("method", ["byol", "vi_simsiam"])
def test_the_learner_that_records_does_a_whole_training(
    method: str, configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[dict[str, Any]]] = []
    states = []
    for kind in (StepwiseLearner, GraphedLearner):
        monkeypatch.setattr(training, "StepwiseLearner", kind)
        config = configuration(tmp_path / kind.__name__, method)
        exported = pretrain(config)
        assert exported is not None
        states.append(load_pretrained(exported).pair.state_dict())
        rows.append([{**row, "images_per_second": None} for row in read_rows(RunFolder(config.out).metrics)])
    assert rows[0] == rows[1]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_a_step_that_cannot_be_recorded_ends_the_run_with_what_to_do(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RecordingError("the step cannot be recorded as a CUDA graph")

    monkeypatch.setattr(StepwiseLearner, "training_step", fail)
    with pytest.raises(TrainingFailedError, match=r"as a CUDA graph; train with --engine\.cuda_graphs false"):
        pretrain(configuration(tmp_path / "run"))


def test_a_run_may_be_resumed_without_it(configuration: Make, tmp_path: Path) -> None:
    with_it, without = (
        configuration(tmp_path / "run", engine=EngineConfig(cuda_graphs=asked)) for asked in (True, False)
    )
    assert with_it.differences(without) == []
