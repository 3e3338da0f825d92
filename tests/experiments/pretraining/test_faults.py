"""What users, disks and files do wrong: each in one line, with the last good state kept."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from experiments import pretrain as command
from experiments.images.errors import ImageSetError
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import DataConfig, MethodConfig, PretrainConfig, TrainingConfig, ViewsConfig
from experiments.pretraining.export import EXPORT_FORMAT, FORMAT, load_pretrained, save_pretrained, weights
from experiments.pretraining.images import collapse_warning, open_part
from experiments.pretraining.loop import PretrainingLoop
from experiments.pretraining.metrics import MetricsTable, read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import TrainingFailedError, pretrain
from inference.fitting.checkpointing import CheckpointError, load_checkpoint, save_checkpoint
from inference.fitting.stepwise import StepwiseLearner

ROOT = Path(__file__).parents[3]
Make = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def ended(configuration: Make, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    config = configuration(tmp_path_factory.mktemp("run"), training=TrainingConfig(epochs=2, batch_size=8))
    pretrain(config)
    return config


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = RunFolder.save

    def save_on_a_full_disk(self: RunFolder, content: dict[str, Any]) -> None:
        # The limit holds for this write alone: pytest's own output may go to a long file.
        with nullcontext() if content["step"] <= 3 else files_of_at_most(2000):
            save(self, content)

    monkeypatch.setattr(RunFolder, "save", save_on_a_full_disk)
    config = configuration(tmp_path / "run")
    with pytest.raises(
        TrainingFailedError, match=r"cannot write the run in .*: File too large; the last good check"
    ) as caught:
        pretrain(config)
    assert "last.ckpt (after step 3). Go on with --resume" in str(caught.value)
    assert load_checkpoint(RunFolder(config.out).last, FORMAT)["step"] == 3


def test_a_gpu_without_enough_memory_is_named_and_the_last_checkpoint_stays(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, message = StepwiseLearner.training_step, "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB."

    def too_large(self: StepwiseLearner, batch: Any, batch_idx: int) -> Any:
        if self.step == 4:
            raise torch.OutOfMemoryError(message)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(StepwiseLearner, "training_step", too_large)
    config = configuration(tmp_path / "run")
    with pytest.raises(
        TrainingFailedError, match=r"^CUDA out of memory\. Tried to allocate 2\.00 GiB\. A smaller training\.batch_size"
    ) as caught:
        pretrain(config)
    assert str(caught.value).endswith("last.ckpt (after step 4)")


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ("1,2,3,4,5,6,7,8,9,10,11,12,13\n", read_rows),
        ("one\n", read_rows),
        ("\udcff1,2\n", read_rows),
        ("one\n", partial(MetricsTable, after_step=9)),
        ("\n", partial(MetricsTable, after_step=9)),
        ("\udcff1,2\n", partial(MetricsTable, after_step=9)),
    ],
)
def test_a_table_that_somebody_has_changed_is_named(
    row: str, read: Callable[[Path], object], ended: PretrainConfig, tmp_path: Path
) -> None:
    text = RunFolder(ended.out).metrics.read_text("utf-8") + row
    (tmp_path / "metrics.csv").write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(ValueError, match=r"metrics\.csv is not the table of a run: "):
        read(tmp_path / "metrics.csv")


def flipped(file: Path, target: Path, bit: int) -> Path:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("left", [None, "", "step,epoch,loss\n"])
def test_a_run_that_has_ended_and_lost_its_table_is_resumed_without_curves(
    left: str | None, ended: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(ended.out, folder.path)
    folder.metrics.unlink()
    if left is not None:
        folder.metrics.write_text(left)
    assert command.main(["--resume", "--out", str(folder.path), "--monitor.curves", "true"]) == 0
    printed = capsys.readouterr()
    assert f"{folder.metrics} holds no rows: no curves are drawn" in printed.err
    beside = "" if left is None else " and, beside it, metrics.csv"
    assert printed.out.splitlines()[-2] == f"Saved {folder.exported}{beside}. Next:"


def test_of_an_exported_encoder_every_flipped_bit_is_noticed(ended: PretrainConfig, tmp_path: Path) -> None:
    file = RunFolder(ended.out).exported
    assert len(load_pretrained(file).pair.state_dict()) > 0
    header = 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    draw = np.random.default_rng(0)
    size = file.stat().st_size
    for bit in [*draw.integers(8 * header, 8 * size, 40), *draw.integers(0, 8 * header, 40)]:
        with pytest.raises(CheckpointError):
            load_pretrained(flipped(file, tmp_path / "flipped.safetensors", int(bit)))


def test_weights_of_another_type_or_that_are_not_finite_are_refused(ended: PretrainConfig, tmp_path: Path) -> None:
    file = RunFolder(ended.out).exported
    with safe_open(file, framework="pt") as opened:
        config = opened.metadata()["config"]
    state = load_file(file)
    name = "model.encoder.backbone.0.weight"
    for change, message in (
        (state[name].to(torch.int8), "does not hold the weights of its own configuration: model.encoder.backbone.0"),
        (state[name] * float("nan"), "holds NaN or infinity in model.encoder.backbone.0.weight"),
    ):
        save_file({**state, name: change}, tmp_path / "a.safetensors", {"format": FORMAT, "config": config})
        with pytest.raises(CheckpointError, match=message):
            load_pretrained(tmp_path / "a.safetensors")


def test_an_encoder_of_before_the_checksums_is_read(ended: PretrainConfig, tmp_path: Path) -> None:
    file = RunFolder(ended.out).exported
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == EXPORT_FORMAT
    save_file(load_file(file), tmp_path / "old.safetensors", {"format": FORMAT, "config": metadata["config"]})
    assert load_pretrained(tmp_path / "old.safetensors").config == load_pretrained(file).config


def test_a_file_decides_neither_where_something_is_written_nor_that_it_is_fetched(
    ended: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(ended, data=replace(ended.data, cache=str(tmp_path / "evil"), download=True))
    loaded = load_pretrained(save_pretrained(build_pair(ended), config, tmp_path / "a.safetensors")).config
    assert (loaded.data.cache, loaded.data.download) == (None, False)


@pytest.mark.parametrize("change", ["half exchanged", "all others"])
def test_a_run_does_not_go_on_with_other_images_of_the_same_number(
    change: str, configuration: Make, image_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(image_folder, tmp_path / "images")
    config = configuration(tmp_path / "run", data=DataConfig(name=str(tmp_path / "images")))
    config = replace(config, training=TrainingConfig(epochs=1, batch_size=8))
    pretrain(config)
    files = sorted((tmp_path / "images").rglob("*.png"))
    if change == "half exchanged":
        for one, other in zip(files[:6], files[-6:], strict=True):
            content = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(content)
    else:
        for number, file in enumerate(files):
            Image.new("RGB", (10, 10), (number, 7, 7)).save(file)
    with pytest.raises(CheckpointError, match=r"the run in .* was of other images than .* now has: put the"):
        pretrain(config, "last")


def test_the_same_images_may_lie_elsewhere(configuration: Make, image_folder: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", training=TrainingConfig(epochs=1, batch_size=8))
    pretrain(config)
    shutil.copytree(image_folder, tmp_path / "copy")
    pretrain(replace(config, data=DataConfig(name=str(tmp_path / "copy"))), "last")


def test_a_checkpoint_without_a_hash_of_its_images_goes_by_their_name(ended: PretrainConfig, tmp_path: Path) -> None:
    shutil.copytree(ended.out, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    content = load_checkpoint(folder.last, FORMAT)
    del content["content"]
    save_checkpoint(content, folder.last, FORMAT)
    config = replace(ended, out=str(folder.path))
    pretrain(config, "last")
    with pytest.raises(CheckpointError, match=r"data\.name .*, now 'elsewhere'"):
        pretrain(replace(config, data=DataConfig(name="elsewhere")), "last")


def test_a_tilde_is_the_home_folder(
    configuration: Make, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(image_folder, tmp_path / "images")
    config = configuration("~/run", data=DataConfig(name="~/images", cache="~/cache"))
    pretrain(replace(config, training=TrainingConfig(epochs=1, batch_size=8)))
    assert {path.name for path in tmp_path.iterdir()} == {"run", "images", "cache"}


def test_grey_images_and_one_number_for_all_channels_are_taken(
    configuration: Make, image_folder: Path, tmp_path: Path
) -> None:
    grey = ViewsConfig(size=8, local_views=0, mean=0.5, std=0.25)
    config = configuration(tmp_path / "run", data=DataConfig(name=str(image_folder), channels=1), views=grey)
    images = open_part(config.data, "train")
    assert (images.channels, images.read(0).mode) == (1, "L")
    config = replace(config, training=TrainingConfig(epochs=1, batch_size=8))
    pretrain(config)
    assert load_pretrained(config.out).config == config
    with pytest.raises(ImageSetError, match=r"digits \(train\) has 1 channel\(s\): set data.channels to 1"):
        open_part(DataConfig(name="digits"), "train")


def test_a_collapse_is_warned_of_early_and_said_at_the_end(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = PretrainingLoop.on_train_batch_start

    def collapse(self: PretrainingLoop, *arguments: Any) -> None:
        start(self, *arguments)
        with torch.no_grad():  # all outputs are the last layer's bias
            for name, tensor in self.learner.pair.model.encoder.named_parameters():
                if "projector" in name:
                    tensor.fill_(1.0 if name.endswith("bias") else 0.0)

    monkeypatch.setattr(PretrainingLoop, "on_train_batch_start", collapse)
    config = configuration(tmp_path / "run")
    pretrain(replace(config, monitor=replace(config.monitor, every_epochs=100)))
    lines = [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line]
    assert [line.split(" the outputs")[0] for line in lines] == ["warning: after epoch 1", "warning: at the end"]
    assert "standard deviation 0 (evenly spread directions have 1), effective rank 0.0 of 8" in lines[1]


def test_what_has_not_collapsed_is_not_said_to(ended: PretrainConfig) -> None:
    last = read_rows(RunFolder(ended.out).metrics)[-1]
    assert collapse_warning(last, 8) is None
    assert collapse_warning({}, 8) is None
    assert collapse_warning({**last, "effective_rank": 1.1}, 8) is not None


def test_a_second_ctrl_c_has_a_word_and_the_status_of_a_signal(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PretrainingLoop, "on_train_batch_start", twice)
    config = configuration(tmp_path / "run")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert command.main(["--config", str(tmp_path / "config.json")]) == 130
    assert "stopped; go on from the last checkpoint" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "expected a configuration in YAML"),
        (b"a: &a [1, 2]\nb: [*a, *a]\n", r"fields and values without aliases \(\*name\), got others"),
        (b"a: [1, 2\n", "expected a configuration in YAML"),
        (b"- 3\n", "config.yaml: expected a configuration in YAML, fields and values"),
    ],
    ids=["binary", "aliases", "cut", "a list"],
)
def test_a_file_that_is_no_configuration_gets_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    for arguments in (["--config", str(tmp_path / "config.yaml")], ["--out", str(tmp_path), "--resume"]):
        with pytest.raises(SystemExit) as exit_:
            command.main(arguments)
        assert exit_.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert re.search(message, line), line


@pytest.mark.parametrize("dim", [pytest.param(10**7, marks=pytest.mark.slow), 2**62])
def test_networks_that_no_memory_holds_get_one_line(dim: int, configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", method=MethodConfig("simsiam", dim=dim))
    with pytest.raises(ValueError, match=rf"cannot make small_convolutional with method\.dim {dim} and .*: ") as caught:
        pretrain(config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / ".lock").exists()


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    program = (
        "import sys\nfrom experiments import pretrain\n"
        "try:\n    pretrain.main(sys.argv[1:])\n"
        "except SystemExit:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    for arguments in (["--help"], ["--training.epochs", "0"], ["--nothing"]):
        ended = subprocess.run(  # noqa: S603  # ours
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert ended.stderr.splitlines()[-1] == "False"


def test_a_run_starts_from_the_weights_of_another(ended: PretrainConfig, configuration: Make, tmp_path: Path) -> None:
    given = weights(load_pretrained(ended.out).pair)
    still = TrainingConfig(epochs=1, batch_size=8, learning_rate=1e-30, weight_decay=0)
    config = replace(configuration(tmp_path / "run", training=still), init_from=ended.out, seed=5)
    pretrain(config)
    started = weights(load_pretrained(config.out).pair)
    for name, tensor in given.items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(tensor, started[name]), name
    pretrain(config, "last")


def test_other_networks_to_start_from_are_named(ended: PretrainConfig, configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", method=MethodConfig("vi_simsiam", dim=16, hidden=8))
    with pytest.raises(CheckpointError, match=r"holds other networks than this run is to have: method\.dim 8, now 16"):
        pretrain(replace(config, init_from=ended.out))
    assert command.parse(["--from", "runs/a"])[0].init_from == "runs/a"


@pytest.mark.parametrize(
    ("option", "message"), [("--out", "out must be a folder, got ''"), ("--from", "init_from must be a run's folder")]
)
def test_no_folder_is_no_place_for_a_run_and_no_start(option: str, message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        command.main([option, ""])
    assert message in capsys.readouterr().err
