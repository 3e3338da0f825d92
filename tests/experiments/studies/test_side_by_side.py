"""`table1 --minutes`: the table's trainings in one process, as many epochs as there is time for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import table1
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.side_by_side import PretrainingsSideBySide
from experiments.records.record import Record
from experiments.studies import training
from experiments.studies.plan import Training
from inference.fitting.checkpointing import CheckpointError
from inference.fitting.cuda_graphs import RecordingError

TINY = ["--scale", "tiny", "--seeds", "1", "--device", "cpu", "--rows", "untrained", "simsiam", "vi_simsiam"]


def test_a_table_of_trainings_side_by_side_says_how_many_epochs_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def one_fits(self: PretrainingsSideBySide, seconds: float) -> int:
        del self
        asked.append(seconds)
        return 1

    monkeypatch.setattr(PretrainingsSideBySide, "fitting_epochs", one_fits)
    whole = PretrainingsSideBySide.train

    def fail_one(self: PretrainingsSideBySide, epochs: int) -> dict[str, str]:
        assert epochs == 1
        whole(self, epochs)
        return {str(tmp_path / "runs/digits/vi_simsiam/seed_0"): "step 3: the loss is nan"}

    monkeypatch.setattr(PretrainingsSideBySide, "train", fail_one)
    assert table1.main([*TINY, "--rates", "0.05", "0.1", "--minutes", "2", "--out", str(tmp_path)]) == 1
    assert 0 < asked[0] <= 120
    results: dict[str, Any] = {
        path.parent.parent.name: json.loads(path.read_text("utf-8")) for path in tmp_path.rglob("result.json")
    }
    assert set(results) == {"untrained", "simsiam"}
    training = results["simsiam"]["config"]["training"]
    assert (training["epochs"], training["learning_rate"]) == (1, 0.05)
    record = Record.load(tmp_path / "table1_tiny.json")
    assert record.configuration["base"]["training.epochs"] == 1
    assert "The learning rates were given." in record.notes
    main, *others = record.tables
    assert main.rows["SimSiam"]["top-1, digits"].value is not None
    assert main.rows["VI-SimSiam"]["top-1, digits"].text == "failed (1 of 1 seeds)"
    assert all("Choice" not in table.title for table in others)  # nothing was chosen


def test_a_run_that_cannot_be_judged_is_told_and_the_others_make_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = training.judge

    def fail_one(run: Training) -> dict[str, Any]:
        if run.row.key == "simsiam":
            raise CheckpointError("encoder.safetensors holds NaN or infinity")
        return whole(run)

    monkeypatch.setattr(PretrainingsSideBySide, "fitting_epochs", lambda *_: 1)
    monkeypatch.setattr(training, "judge", fail_one)
    assert table1.main([*TINY, "--minutes", "2", "--out", str(tmp_path)]) == 1
    assert "seed_0 failed: encoder.safetensors holds NaN or infinity" in capsys.readouterr().err
    main, *_ = Record.load(tmp_path / "table1_tiny.json").tables
    assert main.rows["SimSiam"]["top-1, digits"].text == "failed (1 of 1 seeds)"
    assert main.rows["VI-SimSiam"]["top-1, digits"].value is not None


def test_a_stopped_table_of_trainings_side_by_side_says_that_it_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PretrainingsSideBySide, "fitting_epochs", stopped)
    assert table1.main([*TINY, "--minutes", "2", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("stopped; the trainings stay in --out, and another --out begins anew\n")


def test_the_one_process_of_a_gpu_has_all_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int | None] = []

    def note(configs: list[PretrainConfig], *, record: bool) -> None:
        del record
        threads.extend(config.engine.threads for config in configs)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(training, "PretrainingsSideBySide", note)
    assert table1.main([*TINY, "--device", "gpu", "--minutes", "2", "--out", str(tmp_path)]) == 130
    assert threads == [None, None]


def test_a_step_that_cannot_be_recorded_is_told_in_a_line_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: PretrainingsSideBySide, seconds: float) -> int:
        del self, seconds
        raise RecordingError("the step cannot be recorded as a CUDA graph")

    monkeypatch.setattr(PretrainingsSideBySide, "fitting_epochs", fail)
    assert table1.main([*TINY, "--minutes", "2", "--rates", "0.1", "0.1", "--out", str(tmp_path)]) == 2
    assert "cannot be recorded as a CUDA graph; with --eager nothing is recorded" in capsys.readouterr().err
