"""The engine: what fails or dies stops nothing else, what is finished is read, a command that is stopped says so."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import LocalCluster

from experiments.studies.engine import Result, Run, Study, Workers, keep, kept
from inference.fitting.checkpointing import CheckpointError


def nothing() -> None:
    """For a child process."""


def carry_out(run: Run) -> Result:
    """What a run's name asks for."""
    if run.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if run.name == "fails":
        raise ValueError("a setting\nis wrong")
    if run.name == "stumbles":
        raise KeyError("x")
    if run.name == "has a child":
        child = multiprocessing.get_context("spawn").Process(target=nothing)
        child.start()
        child.join()
        assert child.exitcode == 0
    np.ones(6 * 2**20)  # 48 MiB, at least 24 pages, which are taken anew the second time only if they were not kept
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(6 * 2**20)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    measures = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"), "faults": faults}
    return {"measures": measures, "seconds": {"all": 2.0}}


def study_of(*stages: list[str], read: Mapping[str, Result] | None = None) -> Study:
    runs = [[Run(name, name, 10) for name in stage] for stage in stages]
    return Study(
        [run for stage in runs for run in stage],
        [lambda _, stage=stage: stage for stage in runs],  # type: ignore[misc]
        carry_out,
        lambda run: (read or {}).get(run.name),
        lambda result: f"{len(result['measures'])} measures",
    )


@pytest.mark.slow
def test_what_fails_or_dies_is_reported_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    read = {"read": {"measures": {}, "seconds": {"all": 20.0}}}
    study = study_of(["read", "dies", "fails", "stumbles"], ["has a child", "last"], read=read)
    assert [run.name for run in study.read()] == ["dies", "fails", "stumbles", "has a child", "last"]
    study.work(Workers(1, None, threads=3))
    assert study.failures == {"dies": "its worker died", "fails": "a setting is wrong", "stumbles": "KeyError: 'x'"}
    assert list(study.results) == ["read", "has a child", "last"]
    measures = study.results["last"]["measures"]
    assert measures["OMP_NUM_THREADS"] == "3"
    assert measures["faults"] < 12 or platform.libc_ver()[0] != "glibc"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "5 runs to do, 1 at once"
    assert "[2/6] dies: FAILED: its worker died" in said
    assert said[-1] == "[6/6] last: 2 measures, 00:02"


def test_a_later_stage_is_told_the_results_of_those_before() -> None:
    first, second = Run("first", "first", 1), Run("second", "second", 1)
    told: list[list[str]] = []

    def later(results: Mapping[str, Result]) -> list[Run]:
        told.append(list(results))
        return [second]

    results: dict[str, Result] = {"first": {"measures": {}}, "second": {"measures": {}}}
    study = Study([first, second], (lambda _: [first], later), carry_out, lambda run: results.get(run.name), str)
    assert study.read() == []
    assert told == [["first"]]


def test_a_run_that_a_stage_before_has_changed_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that is chosen anew: what was trained with another one is not this run."""
    tried, trained = Run("tried", "tried", 1), Run("trained", "trained", 1)
    results: dict[str, Result] = {"trained": {"measures": {}, "seconds": {}}}

    def finished(run: Run) -> Result | None:
        if run is trained and "tried" in study.results:
            raise CheckpointError("runs/trained is of other settings")
        return results.get(run.name)

    study = Study([tried, trained], (lambda _: [tried], lambda _: [trained]), carry_out, finished, lambda _: "")
    assert [run.name for run in study.read()] == ["tried"]
    monkeypatch.setattr(Study, "_do", lambda _, _client, runs, *_more: study.results.update({r.name: {} for r in runs}))
    monkeypatch.setattr(
        "experiments.studies.engine._cluster", lambda *_: nullcontext(SimpleNamespace(register_plugin=str))
    )
    with pytest.raises(CheckpointError, match="of other settings"):
        study.work(Workers(1, None))


@contextmanager
def cluster(threads: int) -> Iterator[str]:
    """A cluster that is there already, with one worker."""
    options = {"n_workers": 1, "threads_per_worker": threads, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options, protocol="tcp") as made:
        yield made.scheduler_address


def test_a_cluster_that_is_there_does_the_runs() -> None:
    with cluster(1) as address:
        study = study_of(["one", "two"])
        study.work(Workers(None, address))
    assert list(study.results) == ["one", "two"]


def test_a_worker_of_several_threads_is_refused() -> None:
    with cluster(2) as address, pytest.raises(ValueError, match="each worker must have 1 thread, got 2"):
        study_of(["one"]).work(Workers(None, address))


def test_a_result_is_kept_in_one_piece_and_named_where_it_does_not_fit(tmp_path: Path) -> None:
    def different(result: Result) -> list[str]:
        return [] if result["rate"] == 1 else [f"rate {result['rate']}, now 1"]

    assert kept(tmp_path / "new", different) is None
    keep(tmp_path / "new", {"rate": 1})
    assert kept(tmp_path / "new", different) == {"rate": 1}
    keep(tmp_path / "new", {"rate": 2})
    with pytest.raises(CheckpointError, match=r"is of other settings: rate 2, now 1\. Give the same ones, or another"):
        kept(tmp_path / "new", different)
    (tmp_path / "new" / "result.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="cannot be read"):
        kept(tmp_path / "new", different)


@pytest.mark.slow
def test_a_command_that_is_told_to_stop_saves_its_trainings_and_says_how_to_go_on(tmp_path: Path) -> None:
    options = [
        "--scale",
        "tiny",
        "--rates",
        "0.1",
        "--seeds",
        "1",
        "--epochs",
        "4000",
        "--jobs",
        "1",
        "--device",
        "cpu",
    ]
    command = [sys.executable, "-m", "experiments.table1", *options, "--rows", "simsiam_printed_rate"]
    folder = tmp_path / "runs" / "digits" / "simsiam_printed_rate" / "seed_0"
    with subprocess.Popen(  # noqa: S603
        [*command, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until = time.monotonic() + 120
        while not (folder / "metrics.csv").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    # Not the last line of a busy machine: Python warns of what a worker that was ended late has left.
    assert "python -m experiments.table1: stopped; the same command goes on where it was" in said.splitlines()
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert not (folder / "result.json").exists()
