"""Table 1 as a command: it goes on where it was killed, reports what failed, and says what is wrong in a line."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import table1
from experiments.images.errors import ImageSetError
from experiments.images.opening import open_images
from experiments.pretraining import images as pretraining_images
from experiments.records.record import Record
from experiments.studies.conducting import planned
from experiments.studies.engine import keep
from experiments.studies.plan import Plan, Scale, Training, rows
from experiments.studies.training import carry_out, finished, prepare
from inference.fitting.checkpointing import CheckpointError

TINY = ["--scale", "tiny", "--rates", "0.1", "--seeds", "2", "--jobs", "1", "--rows", "pixels", "untrained", "simsiam"]


def first_tuning(out: Path, scale: str = "tiny") -> Training:
    size = Scale.named(scale)
    chosen = tuple(row for row in rows("table1", size.base) if row.key == "simsiam")
    return next(Plan(size, chosen, ("digits",), (0,), out, {"engine.accelerator": "cpu"}).tuning())


def tables(out: Path) -> list[str]:
    return [table.markdown() for table in Record.load(out / "table1_tiny.json").tables]


@pytest.mark.slow
def test_a_command_that_was_killed_goes_on_and_gives_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert table1.main([*TINY, "--out", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "7 runs, of which 0 are finished" in said
    assert "7 runs to do, 1 at once\n" in said
    assert re.search(r"\[1/7\] digits, tuning simsiam at 0.1: top-1 .*%, kNN .*%, \d\d:\d\d", said)

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
    assert table1.main([*TINY, "--out", str(killed), "--table-only"]) == 0
    assert tables(killed) == tables(whole)
    assert table1.main([*TINY, "--out", str(killed), "--epochs", "3"]) == 2
    assert "result.json is of other settings: training.epochs 2, now 3" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scale", "tiny", "--rates", "1e30", "--seeds", "1", "--jobs", "1", "--rows", "pixels", "simsiam"]
    assert table1.main([*options, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "tuning/digits/simsiam/1e+30 failed: step 1: the loss is" in said.err
    record = Record.load(tmp_path / "table1_tiny.json")
    main = record.tables[0]
    column = main.columns[0]
    assert main.rows["SimSiam"][column].text == "failed"
    assert main.rows["raw pixels, 16 × 16"][column].value is not None
    # The record keeps all that was measured, for when the folder is gone.
    pixels = "runs/digits/pixels/seed_0"
    kept = json.loads((tmp_path / pixels / "result.json").read_text(encoding="utf-8"))
    assert record.details == {"measures": {pixels: kept["measures"]}}
    assert len({*kept["images"].values()}) == 2  # two hashes, of the images to train on and of those to judge by


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
    with pytest.raises(CheckpointError, match=r"of other settings: .*Give the same ones, or another --out"):
        finished(replace(run, config=replace(first_tuning(tmp_path, "small").config, out=run.config.out)))
    elsewhere = replace(run.config.engine, precision="bf16-mixed", compile=True)
    assert finished(replace(run, config=replace(run.config, engine=elsewhere))) is not None  # as of another machine
    with pytest.raises(CheckpointError, match=r"of other settings: probe .*'epochs': 5.*now .*'epochs': 6"):
        finished(replace(run, probe=replace(run.probe, epochs=6)))
    # Results of before the probe was among them are read.
    path = Path(run.config.out) / "result.json"
    content = json.loads(path.read_text("utf-8"))
    del content["probe"]
    path.write_text(json.dumps(content), "utf-8")
    assert finished(run) == content


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scale", "small", "--root", "{}/nowhere"], "cifar10: expected the folder"),
        (["--scale", "tiny", "--data", "a/digits", "b/digits"], "whose folders have different names"),
        (["--scale", "tiny", "--rows", "none"], "invalid choice: 'none'"),
        (["--scale", "tiny", "--rates", "-1"], "expected a positive number"),
        (["--scale", "tiny", "--minutes", "1", "--rates", "1"], "must be 2 numbers, of simsiam and vi_simsiam, got 1"),
        (["--scale", "tiny", "--minutes", "1", "--table-only"], "--table-only does not go with --minutes"),
        (["--scale", "tiny", "--minutes", "1", "--tune-on", "digits"], "--tune-on does not go with --minutes"),
        (["--scale", "tiny", "--minutes", "1", "--data", "a", "b"], "--minutes trains on one set, got a b as --data"),
        (
            ["--scale", "tiny", "--minutes", "1", "--rows", "pixels"],
            "needs a row that is trained, got pixels as --rows",
        ),
        (["--scale", "tiny", "--eager"], "--eager belongs to --minutes"),
        (["--scale", "tiny", "--name", "Mine"], "--name: expected lower-case letters, digits and underscores"),
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


def test_a_result_of_images_of_the_same_name_that_lie_elsewhere_is_not_taken(tmp_path: Path) -> None:
    run = first_tuning(tmp_path)
    probe = {**asdict(run.probe), "learning_rates": [*run.probe.learning_rates]}
    keep(Path(run.config.out), {"config": run.config.to_dict(), "probe": probe, "measures": {}})
    assert finished(run) is not None
    elsewhere = replace(run, config=replace(run.config, data=replace(run.config.data, name="elsewhere/digits")))
    with pytest.raises(CheckpointError, match=r"data\.name 'digits', now 'elsewhere/digits'"):
        finished(elsewhere)


def test_too_few_images_for_a_batch_are_said_before_the_trainings(tmp_path: Path) -> None:
    run = first_tuning(tmp_path)
    huge = replace(run, config=replace(run.config, training=replace(run.config.training, batch_size=100_000)))
    with pytest.raises(ImageSetError, match=r"training\.batch_size 100000 needs at least 100000 images; .* has "):
        prepare({}, [huge])


def test_results_of_other_images_do_not_go_into_one_table(tmp_path: Path) -> None:
    run = first_tuning(tmp_path)
    prepare({}, [run])
    now = {part: open_images("digits", "data", part).content for part in ("train", "train")}
    now["val"] = now["train"]  # a part of the training images is held out

    def result(**images: str) -> dict[str, Any]:
        return {"config": run.config.to_dict(), "images": now | images}

    old = {"config": run.config.to_dict()}  # says nothing of its images
    prepare({"a": result(), "b": result(), "c": old}, [run])
    prepare({"a": result(val="others"), "b": result(val="others")}, [])
    with pytest.raises(CheckpointError, match="b is of other images of digits than another result"):
        prepare({"a": result(), "b": result(train="others")}, [])
    with pytest.raises(CheckpointError, match=r"a is of other images of digits than there are now: put the same ones"):
        prepare({"a": result(val="others")}, [run])


def test_workers_of_a_cluster_take_the_gpus_that_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    given: dict[str, object] = {
        "scale": "tiny",
        "epochs": None,
        "name": None,
        "data": None,
        "tune_on": None,
    }
    given |= {"rates": None, "rows": ["simsiam"], "seeds": 1, "out": tmp_path, "device": "gpu", "root": "data"}
    options = argparse.Namespace(**given, jobs=None, download=False, scheduler=None)
    here = planned(options)[1]
    options.scheduler = "tcp://127.0.0.1:8786"
    there = planned(options)[1]
    assert [(workers.jobs, workers.gpus) for workers in (here, there)] == [(8, 2), (None, 0)]
    options.device = "auto"
    planned(options)
    assert not capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert planned(options)[0].machine["engine.accelerator"] == "cpu"
    assert capsys.readouterr().out.startswith("This machine has no GPU: all workers train on their CPUs")


def test_a_table_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table1.main([*TINY, "--table-only", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("holds no finished run to make a table of\n")


def test_a_processor_without_bfloat16_computes_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = argparse.Namespace(
        scale="two_cores",
        epochs=None,
        name=None,
        data=None,
        tune_on=None,
        rates=None,
        device="cpu",
        jobs=None,
        scheduler=None,
        root="data",
        download=False,
        out=tmp_path,
        rows=["simsiam"],
        seeds=1,
    )
    for has_it, precision in ((True, "bf16-mixed"), (False, "32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        plan, _ = planned(options)
        assert {run.config.engine.precision for run in plan.everything()} == {precision}
