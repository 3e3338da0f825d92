"""Every checkpoint of a run is a place to go on from, with the same end; what is none is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.pretraining.configuration import BackboneConfig, DataConfig, PretrainConfig, TrainingConfig
from experiments.pretraining.export import FORMAT, load_pretrained
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import Resume, RunFolder
from experiments.pretraining.training import pretrain
from inference.fitting.checkpointing import CheckpointError, load_checkpoint, save_checkpoint

STEPS = 24
Make = Callable[..., PretrainConfig]


def run_keeping_checkpoints(config: PretrainConfig, at: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run to the end, with copies of the checkpoints of some steps as STEP.ckpt and of the table as STEP.csv."""
    save = RunFolder.save

    def save_and_copy(self: RunFolder, content: dict[str, Any]) -> None:
        save(self, content)
        if content["step"] in at:
            shutil.copy(self.last, self.path / f"{content['step']}.ckpt")
            shutil.copy(self.metrics, self.path / f"{content['step']}.csv")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", save_and_copy)
        pretrain(config)


def take_up(config: PretrainConfig, step: int, out: Path) -> PretrainConfig:
    """Make a folder as a crash after that checkpoint leaves it: with rows of later steps and half a row."""
    killed, run = RunFolder(out), RunFolder(config.out)
    killed.last.parent.mkdir(parents=True)
    shutil.copy(run.path / f"{step}.ckpt", killed.last)
    shutil.copy(run.config, killed.config)
    killed.metrics.write_text(run.metrics.read_text() + "25,8.3,1.0,0.")
    return replace(config, out=str(out))


def assert_same_end(first: PretrainConfig, second: PretrainConfig) -> None:
    ours, theirs = (load_checkpoint(RunFolder(config.out).last, FORMAT) for config in (first, second))
    assert ours["step"] == theirs["step"]
    for name, tensor in ours["weights"].items():
        assert torch.equal(tensor, theirs["weights"][name]), name
    for number, entry in ours["optimizer"].items():
        assert torch.equal(entry["momentum_buffer"], theirs["optimizer"][number]["momentum_buffer"])
    rows = [read_rows(RunFolder(config.out).metrics) for config in (first, second)]
    for row in (*rows[0], *rows[1]):
        del row["images_per_second"]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == sorted({row["step"] for row in rows[0]})


@pytest.mark.parametrize(
    ("method", "changes", "steps"),
    [
        # After a row of the table and after none, within an epoch and at the end of one.
        ("vi_simsiam", {}, (1, 5, 12, 23)),
        ("byol", {"training": TrainingConfig(epochs=8, batch_size=8, learning_rate=0.05, warmup_epochs=2)}, (5, 12)),
        # Its classifier, without the last layer, has dropout, and therefore random numbers of its own.
        pytest.param("simsiam", {"backbone": BackboneConfig("mobilenet_v3_small")}, (14,), marks=pytest.mark.slow),
        ("vi_simsiam", {"streamed": True}, (10,)),
    ],
    ids=["vi_simsiam", "byol with a warm-up", "dropout", "streamed"],
)
def test_every_checkpoint_leads_to_the_same_end(
    method: str,
    changes: dict[str, Any],
    steps: tuple[int, ...],
    configuration: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configuration(tmp_path / "whole", method, **{k: v for k, v in changes.items() if k != "streamed"})
    if "streamed" in changes:
        config = replace(config, data=replace(config.data, path="streamed", workers=0))
    run_keeping_checkpoints(config, set(steps), monkeypatch)
    for step in steps:
        resumed = take_up(config, step, tmp_path / str(step))
        pretrain(resumed, "last")
        assert_same_end(config, resumed)


def test_nothing_outside_the_run_makes_a_difference(configuration: Make, tmp_path: Path) -> None:
    first, second = configuration(tmp_path / "1", "simsiam"), configuration(tmp_path / "2", "simsiam")
    pretrain(first)
    torch.manual_seed(77)
    torch.rand(5)
    pretrain(second)
    assert_same_end(first, second)


def test_the_seed_makes_a_difference(configuration: Make, tmp_path: Path) -> None:
    weights = []
    for seed in (0, 1):
        config = configuration(tmp_path / str(seed), seed=seed, training=TrainingConfig(epochs=1, batch_size=8))
        pretrain(config)
        weights.append(load_pretrained(config.out).pair.state_dict())
    assert not torch.equal(weights[0]["model.encoder.backbone.0.weight"], weights[1]["model.encoder.backbone.0.weight"])


@pytest.fixture(scope="module")
def ended(configuration: Make, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    config = configuration(tmp_path_factory.mktemp("run"))
    pretrain(config)
    return config


@pytest.fixture
def run(ended: PretrainConfig, tmp_path: Path) -> PretrainConfig:
    """A copy of a run that has ended."""
    shutil.copytree(ended.out, tmp_path / "run")
    return replace(ended, out=str(tmp_path / "run"))


def test_a_run_that_has_ended_is_left_alone_when_resumed(run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    before = [path.read_bytes() for path in (folder.last, folder.previous, folder.metrics)]
    weights = load_pretrained(folder.exported).pair.state_dict()
    pretrain(run, "last")
    assert [path.read_bytes() for path in (folder.last, folder.previous, folder.metrics)] == before
    for name, tensor in load_pretrained(folder.exported).pair.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_the_previous_checkpoint_leads_to_the_same_end(ended: PretrainConfig, run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    assert load_checkpoint(folder.previous, FORMAT)["step"] == STEPS - 1
    folder.last.write_bytes(folder.last.read_bytes()[:-1000])
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt is damaged .*; go on from .*previous\.ckpt by --resume prev"
    ):
        pretrain(run, "last")
    pretrain(run, "previous")
    assert_same_end(ended, run)


def test_a_flipped_bit_is_noticed(run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    weights = load_checkpoint(folder.last, FORMAT)["weights"]["model.encoder.backbone.1.running_mean"].numpy().tobytes()
    damaged = bytearray(folder.last.read_bytes())
    damaged[damaged.index(weights) + 3] ^= 1
    folder.last.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="its content does not match its checksum; go on from"):
        pretrain(run, "last")


def test_a_foreign_checkpoint_is_refused(run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    folder.previous.unlink()
    torch.save({"state_dict": {}}, folder.last)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is foreign: .*; start a run in another folder with --out"):
        pretrain(run, "last")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, r"other settings: seed 0, now 5; go on with the same ones, or start a run in another folder"),
        ({"backbone": BackboneConfig("resnet18")}, "backbone.name 'small_convolutional', now 'resnet18'"),
        ({"training": TrainingConfig(epochs=9, batch_size=8, learning_rate=0.1)}, r"epochs 8, now 9 \(and 1 more\)"),
    ],
    ids=["seed", "backbone", "two fields"],
)
def test_a_checkpoint_of_other_settings_is_refused(change: dict[str, Any], message: str, run: PretrainConfig) -> None:
    with pytest.raises(CheckpointError, match=message):
        pretrain(replace(run, **change), "last")


def test_what_does_not_change_the_weights_may_change(run: PretrainConfig) -> None:
    monitor = replace(run.monitor, every_steps=7)
    pretrain(replace(run, monitor=monitor, engine=replace(run.engine, threads=None)), "last")


def test_a_set_that_has_changed_is_noticed(run: PretrainConfig, image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "fewer")
    next((tmp_path / "fewer" / "even").iterdir()).unlink()
    content = load_checkpoint(RunFolder(run.out).last, FORMAT)
    moved = replace(run, data=DataConfig(name=str(tmp_path / "fewer")))
    save_checkpoint({**content, "config": json.dumps(moved.to_dict())}, RunFolder(run.out).last, FORMAT)
    with pytest.raises(CheckpointError, match=r"was of 26 images, and .* now has 25"):
        pretrain(moved, "last")


RESUMES: tuple[Resume, ...] = ("last", "auto")


def test_a_folder_with_a_run_is_not_overwritten(run: PretrainConfig) -> None:
    with pytest.raises(CheckpointError, match="holds a run already: give another folder as --out, or --resume it"):
        pretrain(run)


def test_there_must_be_something_to_resume(configuration: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run to go on with: start one without --resume"):
        pretrain(configuration(tmp_path / "none"), "last")


def test_a_run_that_has_ended_without_checkpoints_is_not_trained_anew(ended: PretrainConfig, tmp_path: Path) -> None:
    config = replace(ended, out=str(tmp_path / "run"))
    shutil.copytree(ended.out, config.out, ignore=shutil.ignore_patterns("checkpoints"))
    before = RunFolder(config.out).metrics.read_bytes()
    for resume in RESUMES:
        with pytest.raises(CheckpointError, match="holds a run that has ended and no checkpoint of it"):
            pretrain(config, resume)
    assert RunFolder(config.out).metrics.read_bytes() == before


def test_a_previous_checkpoint_alone_is_not_trained_over(run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    folder.last.replace(folder.previous)
    folder.exported.unlink(missing_ok=True)
    kept = folder.previous.read_bytes(), folder.metrics.read_bytes()
    for resume in RESUMES:
        with pytest.raises(
            CheckpointError, match=r"last\.ckpt is missing: go on from .*previous\.ckpt by --resume prev"
        ):
            pretrain(run, resume)
    with pytest.raises(CheckpointError, match="holds a run already"):
        pretrain(run)
    assert (folder.previous.read_bytes(), folder.metrics.read_bytes()) == kept
    assert pretrain(run, "previous") == folder.exported


def test_what_a_run_started_from_is_not_rewritten(run: PretrainConfig) -> None:
    before = RunFolder(run.out).config.read_bytes()
    with pytest.raises(CheckpointError, match="of a run with other settings: init_from None, now 'elsewhere'"):
        pretrain(replace(run, init_from="elsewhere"), "last")
    assert RunFolder(run.out).config.read_bytes() == before


def test_auto_starts_a_run_and_goes_on_with_it(configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", training=TrainingConfig(epochs=1, batch_size=8))
    pretrain(config, "auto")
    pretrain(config, "auto")
    assert load_checkpoint(RunFolder(config.out).last, FORMAT)["step"] == 3
