"""Table 1 as a command: it goes on where it was killed, reports what failed, and says what is wrong in a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import table1
from experiments.images.opening import open_images
from experiments.pretraining import images as pretraining_images
from experiments.records.record import Record
from experiments.studies.at_work import alone
from experiments.studies.planning import Plan, Run
from experiments.studies.rows import rows
from experiments.studies.running import carry_out, finished
from experiments.studies.scales import SCALES
from experiments.studies.workers import Workers
from inference.fitting.checkpointing import CheckpointError

TINY = ["--scale", "tiny", "--rates", "0.1", "--seeds", "2", "--jobs", "1", "--rows", "pixels", "untrained", "simsiam"]


def plan_of(row: str, out: Path, scale: str = "tiny") -> Plan:
    chosen = tuple(each for each in rows(16) if each.key == row)
    return Plan(SCALES[scale], chosen, ("digits",), (0,), out, {"engine.accelerator": "cpu"})


def first_tuning(out: Path, scale: str = "tiny") -> Run:
    return next(plan_of("simsiam", out, scale).tuning())


def tables(out: Path) -> list[str]:
    return [table.markdown() for table in Record.load(out / "table1_tiny.json").tables]


def test_a_command_that_was_killed_goes_on_and_gives_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert table1.main([*TINY, "--out", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "3 rows × 2 seeds and the choice of the learning rates are 7 runs, of which 0 are finished" in said
    assert "7 runs to do, 1 at once: about" in said

    first = killed / "runs" / "digits" / "pixels" / "seed_0" / "result.json"
    command = [sys.executable, "-m", "experiments.table1", *TINY, "--out", str(killed)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        deadline = time.monotonic() + 120
        while not first.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "table1_tiny.json").exists()
    written = first.stat().st_mtime_ns
    time.sleep(0.5)  # its worker ends by itself
    assert table1.main([*TINY, "--out", str(killed)]) == 0
    assert "of which 0 are finished" not in capsys.readouterr().out
    assert first.stat().st_mtime_ns == written
    assert tables(killed) == tables(whole)
    assert (killed / "runs" / "digits" / "simsiam" / "seed_1" / "encoder.safetensors").exists()
    assert (killed / "table1_tiny.png").exists()

    # Nothing is left: the table is made of what is there, without a process.
    assert table1.main([*TINY, "--out", str(killed)]) == 0
    assert "of which 7 are finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        table1.main([*TINY, "--out", str(killed), "--seeds", "none"])
    assert table1.main([*TINY, "--out", str(killed), "--epochs", "3"]) == 2
    assert "base.training.epochs was 2, now 3" in capsys.readouterr().err


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scale", "tiny", "--rates", "1e30", "--seeds", "1", "--jobs", "1", "--rows", "pixels", "simsiam"]
    assert table1.main([*options, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "digits, simsiam, 1e+30 failed: step 1: the loss is" in said.err
    main = Record.load(tmp_path / "table1_tiny.json").tables[0]
    column = main.columns[0]
    assert main.rows["SimSiam"][column].text == "failed"
    assert main.rows["raw pixels, 16 × 16"][column].value is not None


def test_a_process_that_dies_is_a_failed_run(tmp_path: Path) -> None:
    run = next(plan_of("pixels", tmp_path).runs({}))
    workers = Workers(1, threads=1)
    try:
        process = workers._members[0][0]
        threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
        outcome = next(workers.do(carry_out, [run]))
    finally:
        workers.close()
    assert outcome.result is None
    assert outcome.failure == "its process ended with status -9"


def test_tuning_opens_no_validation_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noted(name: str, root: str, split: str, **options: object) -> object:
        opened.append(split)
        return open_images(name, root, split, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pretraining_images, "open_images", noted)
    run = first_tuning(tmp_path)
    assert carry_out(run)["measures"]["held_out"]["images"] == 40
    assert set(opened) == {"train"}
    log = (Path(run.config.out) / "log.txt").read_text("utf-8")
    assert "160 images" in log
    assert finished(run) is not None
    other = first_tuning(tmp_path, "small")
    path = Path(run.config.out) / "result.json"
    Path(other.config.out).mkdir(parents=True, exist_ok=True)
    (Path(other.config.out) / "result.json").write_text(path.read_text("utf-8"), "utf-8")
    with pytest.raises(CheckpointError, match=r"of other settings: .*Give the same ones, or another --out"):
        finished(other)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scale", "small", "--root", "{}/nowhere"], "cifar10: expected the folder"),
        (["--scale", "tiny", "--data", "a/digits", "b/digits"], "whose folders have different names"),
        (["--scale", "tiny", "--rows", "none"], "invalid choice: 'none'"),
        (["--scale", "tiny", "--rates", "-1"], "expected a positive number"),
        (["--scale", "tiny", "--seeds", "0"], "whole number of at least 1"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option.format(tmp_path) for option in [*options, "--out", str(tmp_path), "--device", "cpu"]]
    given = given if "--rows" in given else [*given, "--rows", "simsiam"]
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(table1.main(given))
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_a_second_command_is_kept_out_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(tmp_path, "it"):
        assert table1.main([*TINY, "--out", str(tmp_path)]) == 2
    assert "is at work" in capsys.readouterr().err


def test_a_damaged_settings_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.json").write_text(json.dumps([1]))
    assert table1.main([*TINY, "--out", str(tmp_path)]) == 2
    assert "settings.json cannot be read" in capsys.readouterr().err
