"""The comparison of pretraining with its peers: it runs, compares like with like, and says what it leaves out."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.benchmark import main
from experiments.benchmarks import end_to_end, full_run, pretrain, training_step
from experiments.benchmarks.peak_memory import peak_memory
from experiments.benchmarks.pretrain_report import job_table, step_table
from experiments.benchmarks.timing import Stopwatch, Times

CPU = torch.device("cpu")


def test_peak_memory_is_what_is_held_at_once() -> None:
    def step() -> torch.Tensor:
        first = torch.ones(1000)  # 4000 bytes
        second = first * 2  # 4000 more, then the first goes
        del first
        return second.view(10, 100).add_(1)  # a view and an operation in place make nothing

    assert peak_memory(step, CPU) == 8000


def test_peak_memory_counts_what_autograd_keeps_and_not_what_was_there() -> None:
    weights = torch.ones(1000, requires_grad=True)

    def step() -> None:
        (weights * 2).exp().exp().sum().backward()
        weights.grad = None

    kept = 2 * 4000  # each exponential keeps its result, the product nothing
    assert kept < peak_memory(step, CPU) <= kept + 3 * 4000
    assert peak_memory(step, CPU) == peak_memory(step, CPU)


def test_times_have_quartiles_and_differences_of_the_same_round() -> None:
    one, other = Times((4.0, 2.0, None, 8.0, 6.0)), Times((1.0, 1.0, 1.0, 1.0, 1.0))
    assert one.quartiles == (3.5, 6.5)
    assert one.difference_to(other) == 4.0
    assert Times((2.0,)).quartiles == (2.0, 2.0)


@pytest.fixture(scope="module")
def step_rows() -> list[training_step.Row]:
    repeats = {training_step.RESNET: 1, training_step.ALONE: 1}
    networks = {training_step.ALONE: training_step.QUICK_NETWORKS[training_step.ALONE]}
    return training_step.measure_training_steps(networks, 0, Stopwatch(CPU, 1), repeats)


def test_the_steps_that_are_compared_are_the_same_step(step_rows: list[training_step.Row]) -> None:
    assert [row.method for row in step_rows] == ["SimSiam", "BYOL", "VI-SimSiam"]
    for row in step_rows:
        assert row.alignment > 1 - 1e-6, row.method
        assert row.plain_memory > 0


def test_a_row_holds_if_it_costs_no_more_than_it_may() -> None:
    def row(network: str, ours: float, memory: int) -> training_step.Row:
        return training_step.Row("m", network, Times((ours,)), Times((0.1,)), memory, 100, 1.0)

    assert row(training_step.RESNET, 0.1029, 105).holds
    assert not row(training_step.RESNET, 0.1031, 105).holds
    assert not row(training_step.RESNET, 0.1, 106).holds
    assert row(training_step.ALONE, 0.1009, 200).holds
    assert not row(training_step.ALONE, 0.1011, 100).holds
    table = step_table([row(training_step.RESNET, 0.1031, 105), row(training_step.ALONE, 0.1009, 200)])
    lines = table.splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert lines[2].endswith("| **no** |")
    assert lines[3].endswith("| +0.90 | +0.90 | 2.000 | yes |")


def test_images_a_second_are_related_to_lightlys_in_the_same_rounds() -> None:
    rows = [
        end_to_end.Row(end_to_end.OURS_RESIDENT, Times((0.5, 0.25)), 64),
        end_to_end.Row(end_to_end.LIGHTLY, Times((1.0, 1.0)), 64),
    ]
    first, second = job_table(rows).splitlines()[2:]
    assert rows[1].rate == 64
    assert first.endswith("| 2.67 | – |")  # the median of 1/2 and 1/4 is 3/8
    assert second.endswith("| 1.00 | – |")


def test_sample_images_are_a_set_of_two_classes(tmp_path: Path) -> None:
    end_to_end.write_sample_images(tmp_path / "images", 5)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.jpg")) == ["flower"] * 2 + ["temple"] * 3


@pytest.fixture
def no_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = importlib.import_module

    def refuse(name: str, *arguments: Any) -> Any:
        if name.startswith("lightly"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.setattr(pretrain, "QUICK", pretrain.Sizes(1, 1, 1, 1, 32, 2, 8, 4))
    small = {training_step.ALONE: training_step.QUICK_NETWORKS[training_step.ALONE]}
    monkeypatch.setattr(training_step, "QUICK_NETWORKS", small)


@pytest.mark.usefixtures("no_lightly")
def test_the_command_prints_and_saves_and_says_that_lightly_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.get_rng_state()
    assert main(["pretrain", "--quick", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    page = (tmp_path / "benchmark_pretrain.md").read_text(encoding="utf-8")
    assert page.strip() in capsys.readouterr().out
    assert "Left out: lightly: lightly is not installed: pip install -e '.[peers]'." in page
    assert "| VI-SimSiam | no backbone |" in page
    assert f"| {end_to_end.OURS_LOADED} |" in page
    record = json.loads((tmp_path / "benchmark_pretrain.json").read_text(encoding="utf-8"))
    assert set(record) == {"setting", "steps", "jobs", "run", "left out"}
    assert set(record["setting"]) >= {"device", "commit", "seed", "threads", "versions", "clock"}
    assert record["jobs"][0]["images_per_second"] > 0
    assert record["steps"][0]["ours"]["seconds"][0] > 0


def _pretend_run(monkeypatch: pytest.MonkeyPatch, *, status: int = 0) -> list[list[str]]:
    """`python -m experiments.pretrain` that writes its metrics at once."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        out = Path(command[command.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "metrics.csv").write_text("step,loss,knn\n1,2.0,0.5\n2,1.0,0.75\n3,0.9,\n", encoding="utf-8")
        return subprocess.CompletedProcess(command, status, "", "first\nwhat went wrong\n")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_a_run_gives_its_minutes_and_its_last_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = _pretend_run(monkeypatch)
    finished = full_run.time_full_run("some.yaml", tmp_path / "run", ["--training.epochs=1"])
    assert finished.knn == 75.0
    assert finished.minutes >= 0
    assert commands[0][1:5] == ["-m", "experiments.pretrain", "--config", "some.yaml"]
    assert commands[0][-1] == "--training.epochs=1"


def test_a_run_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _pretend_run(monkeypatch, status=1)
    with pytest.raises(full_run.FullRunFailedError, match="what went wrong"):
        full_run.time_full_run("some.yaml", tmp_path / "run")


def test_the_sizes_are_those_that_were_asked_for() -> None:
    assert isinstance(training_step.NETWORKS[training_step.ALONE].backbone(), nn.Module)
    assert training_step.NETWORKS[training_step.ALONE].dim == 2048
    assert training_step.NETWORKS[training_step.RESNET].pixels == 64
    assert training_step.NETWORKS[training_step.RESNET].batch_size == 64


ERRORS = {
    "part": (["--parts", "everything"], "invalid choice: 'everything'"),
    "repeats": (["--repeats", "0"], "a whole number of at least 1, got '0'"),
    "workers": (["--workers", "-1"], "a whole number of at least 0, got '-1'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_give_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = ERRORS[case]
    with pytest.raises(SystemExit) as exit_:
        main(["pretrain", *arguments])
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_missing_images_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--quick", "--parts", "jobs", "--images", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["pretrain", *options]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
