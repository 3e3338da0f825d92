"""A pretraining from its configuration to the exported encoder: what is written, watched, and what stops it."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch.nn.functional import cosine_similarity

from experiments.images.errors import ImageSetError
from experiments.pretraining.building import build_pair, build_schedule
from experiments.pretraining.configuration import (
    DataConfig,
    EngineConfig,
    MethodConfig,
    ObjectiveConfig,
    PretrainConfig,
    TrainingConfig,
    ViewsConfig,
)
from experiments.pretraining.export import EXPORTED, FORMAT, load_pretrained, save_pretrained
from experiments.pretraining.images import TrainingImages, view_groups
from experiments.pretraining.loop import PretrainingLoop
from experiments.pretraining.metrics import COLUMNS, history, read_rows, readable_loss
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import TrainingFailedError, TrainingInterruptedError, pretrain
from inference.fitting.checkpointing import CheckpointError, load_checkpoint
from inference.fitting.finiteness import StepRecord
from inference.fitting.kl_objective import KLObjective
from inference.fitting.schedule import CosineSchedule
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import StopGradientCopy
from ssl_as_inference.graphical_model import MultiViewPair

Make = Callable[..., PretrainConfig]
STEPS, STEPS_PER_EPOCH = 24, 3


@pytest.fixture(scope="module")
def run(configuration: Make, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """A run with everything that it writes."""
    config = configuration(tmp_path_factory.mktemp("whole") / "run")
    config = replace(config, monitor=replace(config.monitor, tensorboard=True, curves=True))
    pretrain(config)
    return config


def test_the_folder_of_a_run_holds_what_is_promised(run: PretrainConfig) -> None:
    folder = RunFolder(run.out)
    assert {path.name for path in folder.path.iterdir()} == {
        "config.yaml", "metrics.csv", "tensorboard", "checkpoints", EXPORTED, "training_curves.png",
    }  # fmt: skip
    assert {path.name for path in folder.last.parent.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_the_saved_configuration_is_complete_and_gives_itself_again(run: PretrainConfig) -> None:
    values = yaml.safe_load(RunFolder(run.out).config.read_text(encoding="utf-8"))
    assert values == run.to_dict()
    assert PretrainConfig.from_dict(values) == run


def test_the_table_has_the_rows_that_are_due(run: PretrainConfig) -> None:
    rows = read_rows(RunFolder(run.out).metrics)
    due = sorted({*range(2, STEPS + 1, 2), *range(STEPS_PER_EPOCH, STEPS + 1, STEPS_PER_EPOCH)})
    assert [row["step"] for row in rows] == due
    schedule = CosineSchedule(run.training.learning_rate, STEPS)
    for row in rows:
        assert row["epoch"] == row["step"] / STEPS_PER_EPOCH
        assert row["learning_rate"] == schedule(int(row["step"]) - 1)
        assert all(math.isfinite(value) for value in row.values())
        assert row["gradient_norm"] > 0
        assert row["images_per_second"] > 0
        assert ("knn" in row) == (row["step"] in {9, 18, 24})
    evaluated = [row for row in rows if "knn" in row]
    for row in evaluated:
        assert set(row) == set(COLUMNS)
        assert 0 <= row["knn"] <= 1
        assert 0 < row["standard_deviation"] <= 1
        assert 1 <= row["effective_rank"] <= 8
        assert 0 < row["kappa_q10"] <= row["kappa_q50"] <= row["kappa_q90"]
    assert set(history(rows, run)) >= {"loss", "kNN", "κ/q50"}


@pytest.mark.parametrize("over_views", ["sum", "mean"])
@pytest.mark.parametrize("nats_per", ["image", "dimension"])
def test_the_loss_of_simsiam_is_shown_as_the_cosine_that_it_consists_of(
    configuration: Make, tmp_path: Path, over_views: Any, nats_per: Any
) -> None:
    config = configuration(tmp_path / "run")
    config = replace(
        config,
        method=replace(config.method, name="simsiam", concentration=3.0),
        objective=ObjectiveConfig(over_views=over_views, nats_per=nats_per),
        views=replace(config.views, local_views=0),
    )
    pair = build_pair(config).double()
    views = [torch.rand(16, config.data.channels, *[config.views.size] * 2).double() for _ in range(2)]
    with torch.no_grad():
        z = [pair.model.encoder(view) for view in views]
        p = [pair.model.predictor.network(each) for each in z]  # type: ignore[operator]
        expected = (cosine_similarity(p[0], z[1]) + cosine_similarity(p[1], z[0])).mean() / 2
        units: Any = {"nats_per": nats_per, "over_views": over_views}
        learner = StepwiseLearner(pair, KLObjective(), StopGradientCopy(), schedule=lambda _: 0.1, **units)
        loss = float(learner(views))
    name, cosine = readable_loss(config, loss)
    assert name == "cosine"
    assert cosine == pytest.approx(expected.item(), abs=1e-12)
    multi_crop = replace(config, views=replace(config.views, local_views=2))
    assert readable_loss(multi_crop, 7.0) == ("loss", 7.0)
    assert readable_loss(replace(config, method=replace(config.method, name="byol")), 7.0) == ("loss", 7.0)


def test_tensorboard_shows_the_same_numbers(run: PretrainConfig) -> None:
    events = EventAccumulator(str(RunFolder(run.out).tensorboard))
    events.Reload()
    rows = read_rows(RunFolder(run.out).metrics)
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]


def test_the_exported_encoder_is_the_last_state_and_holds_each_tensor_once(run: PretrainConfig) -> None:
    exported = load_pretrained(run.out)
    assert exported.config == run
    assert not exported.pair.training
    assert exported.pair.guide.network is exported.pair.model.encoder
    from_checkpoint = load_pretrained(RunFolder(run.out).last)
    for name, tensor in exported.pair.state_dict().items():
        assert torch.equal(tensor, from_checkpoint.pair.state_dict()[name])
    parameters = sum(tensor.numel() for tensor in exported.pair.parameters())
    assert RunFolder(run.out).exported.stat().st_size < 4 * parameters * 1.2


@pytest.mark.parametrize("name", ["nothing", "empty", "text.safetensors", "other.safetensors", "text.ckpt"])
def test_what_holds_no_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.ckpt").write_text("hello")
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=name) as caught:
        load_pretrained(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_target_of_its_own_is_exported_too(configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path, "byol")
    pair = build_pair(config)
    with torch.no_grad():
        for parameter in pair.guide.network.parameters():
            parameter.add_(1.0)
    loaded = load_pretrained(save_pretrained(pair, config, tmp_path / EXPORTED)).pair
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in pair.state_dict().items())


def test_the_initial_weights_depend_on_the_seed_alone(configuration: Make, tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = build_pair(configuration(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    second = build_pair(configuration(tmp_path))
    assert all(torch.equal(*both) for both in zip(first.parameters(), second.parameters(), strict=True))


def test_global_views_come_first_and_the_guide_is_over_them(configuration: Make, tmp_path: Path) -> None:
    views = ViewsConfig(size=12, global_views=2, local_views=3, local_size=6)
    config = configuration(tmp_path, views=views)
    assert [(recipe.size, recipe.crop_scale, count) for recipe, count in view_groups(config)] == [
        (12, (0.2, 1.0), 2),
        (6, (0.05, 0.2), 3),
    ]
    assert build_pair(config).guide.views == 2
    images = TrainingImages.open(config, torch.device("cpu"))
    batch = next(iter(images.batches(images.order(), 0, 1)))
    assert [view.shape[-1] for view in batch] == [12, 12, 6, 6, 6]


def test_each_process_has_its_part_of_the_global_batch(configuration: Make, tmp_path: Path) -> None:
    images = TrainingImages.open(configuration(tmp_path), torch.device("cpu"), watch=False)
    assert images.held_out is None
    whole, parts = images.order().batch(4), [images.order(2, rank).batch(4) for rank in range(2)]
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    assert [len(part) for part in parts] == [4, 4]


def test_held_out_images_are_watched_where_there_are_any(configuration: Make, tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 4)):
        for number in range(count):
            place = tmp_path / "split" / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 10), (number, 0, 0)).save(place / f"{number}.png")
    config = configuration(tmp_path / "run", data=DataConfig(name=str(tmp_path / "split")))
    images = TrainingImages.open(config, torch.device("cpu"))
    assert len(images.images) == 10
    assert images.held_out is not None and images.neighbours is not None  # noqa: PT018
    assert len(images.held_out.labels) == 4
    assert len(images.neighbours.labels) == 8
    assert next(iter(images.held_out)).shape == (4, 3, 8, 8)


def test_images_without_labels_are_watched_without_neighbours(configuration: Make, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number in range(10):
        Image.new("RGB", (10, 10), (20 * number, 0, 0)).save(tmp_path / "flat" / f"{number}.png")
    config = configuration(
        tmp_path / "run",
        data=DataConfig(name=str(tmp_path / "flat")),
        training=TrainingConfig(epochs=1, batch_size=4),
    )
    pretrain(config)
    last = read_rows(RunFolder(config.out).metrics)[-1]
    assert "knn" not in last
    assert last["effective_rank"] > 0


def test_the_first_bad_step_stops_the_run_and_the_last_good_checkpoint_stays(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path / "run")
    config = replace(
        config,
        checkpoints=replace(config.checkpoints, every_steps=5, every_epochs=100),
        monitor=replace(config.monitor, every_steps=100, every_epochs=100),
    )
    batches = TrainingImages.batches

    def with_a_bad_image(self: TrainingImages, order: Any, start: int, stop: int, **options: Any) -> Any:
        for step, views in enumerate(batches(self, order, start, stop, **options), start=start):
            if step == 7:
                views[1][3] = math.inf
            yield views

    monkeypatch.setattr(TrainingImages, "batches", with_a_bad_image)
    with pytest.raises(TrainingFailedError, match=r"step 7: the loss is nan: the .* view 1") as caught:
        pretrain(config)
    assert "the last good checkpoint is" in str(caught.value)
    assert "last.ckpt (after step 5)" in str(caught.value)
    content = load_checkpoint(RunFolder(config.out).last, FORMAT)
    assert content["step"] == 5
    assert all(tensor.isfinite().all() for tensor in content["weights"].values())


def test_weights_that_are_bad_after_a_good_step_are_not_saved(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = StepwiseLearner._take_step

    def overflow_in_step_4(self: StepwiseLearner, *views: torch.Tensor) -> StepRecord:
        record = take(self, *views)
        if self.step == 4:
            with torch.no_grad():
                next(self.pair.parameters())[0] = math.inf
        return record

    monkeypatch.setattr(StepwiseLearner, "_take_step", overflow_in_step_4)
    config = configuration(tmp_path / "run")
    with pytest.raises(TrainingFailedError, match=r"step 4: the loss is finite, but model\.encoder.* holds NaN or inf"):
        pretrain(config)
    assert load_checkpoint(RunFolder(config.out).last, FORMAT)["step"] == 4


def test_a_rate_that_is_far_too_large_is_reported(configuration: Make, tmp_path: Path) -> None:
    huge = TrainingConfig(epochs=8, batch_size=8, learning_rate=1e38, gradient_clip=None)
    with pytest.raises(TrainingFailedError, match=r"step \d+: .* A smaller training.learning_rate"):
        pretrain(configuration(tmp_path / "run", training=huge))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ids=lambda s: s.name)
def test_a_signal_saves_the_state_and_says_how_to_go_on(
    number: signal.Signals, run: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(run, out=str(tmp_path / "a run"))
    config = replace(config, checkpoints=replace(config.checkpoints, every_steps=None, seconds_apart=1e6))
    before = signal.getsignal(number)
    start = PretrainingLoop.on_train_batch_start

    def signal_in_step_10(self: PretrainingLoop, *arguments: Any) -> None:
        if self.learner.step == 10:
            os.kill(os.getpid(), number)
        start(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingLoop, "on_train_batch_start", signal_in_step_10)
        with pytest.raises(TrainingInterruptedError, match=r"stopped after step 11 of 24, ") as stopped:
            pretrain(config)
    typed = shlex.split(str(stopped.value).partition("; go on with: ")[2])
    assert typed[1:] == ["-m", "experiments.pretrain", "--out", config.out, "--resume"]
    assert signal.getsignal(number) is before
    assert load_checkpoint(RunFolder(config.out).last, FORMAT)["step"] == 11
    assert not RunFolder(config.out).exported.exists()
    pretrain(config, "last")
    ended = load_checkpoint(RunFolder(config.out).last, FORMAT)["weights"]
    whole = load_checkpoint(RunFolder(run.out).last, FORMAT)["weights"]
    assert all(torch.equal(tensor, ended[name]) for name, tensor in whole.items())


def test_a_second_ctrl_c_stops_at_once(configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PretrainingLoop, "on_train_batch_start", twice)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            pretrain(configuration(tmp_path / "run"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_checkpoints_keep_their_distance(configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(RunFolder, "save", lambda _, content: saved.append(content["step"]))
    config = configuration(tmp_path / "run")
    pretrain(replace(config, checkpoints=replace(config.checkpoints, seconds_apart=1e6)))
    assert saved == [STEPS]  # the end is always saved
    saved.clear()
    config = replace(config, out=str(tmp_path / "other"))
    pretrain(replace(config, checkpoints=replace(config.checkpoints, every_steps=10, every_epochs=3)))
    assert saved == [9, 10, 18, 20, 24]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": EngineConfig(accelerator="cpu", threads=1, precision="bf16-mixed", channels_last=False)},
        {"method": MethodConfig("vi_simsiam", dim=8, hidden=8, concentration_map="softplus"),
         "objective": ObjectiveConfig(nats_per="image")},
        {"objective": ObjectiveConfig(pairs="all", normalized=True, over_views="mean"),
         "method": MethodConfig("simsiam", dim=8, hidden=8)},
        {"views": ViewsConfig(size=8, global_views=2, local_views=0)},
        {"method": MethodConfig("vi_simsiam", dim=8, hidden=8, concentration_map="constant", concentration=7.0)},
        {"objective": ObjectiveConfig(weight="pull", nats_per="image"),
         "method": MethodConfig("vi_simsiam", dim=8, hidden=8, concentration_gradient="head"),
         "training": TrainingConfig(epochs=1, batch_size=8, learning_rate=0.05, concentration_rate=5.0)},
        {"objective": ObjectiveConfig(weight="pull", nats_per="image"),
         "method": MethodConfig("simsiam", dim=8, hidden=8, concentration=5.0)},
        {"objective": ObjectiveConfig(weight="concentration", beta=0.3)},
    ],
    ids=["bf16", "as printed", "normalised", "two views", "constant κ", "pull, head and rate", "pull of simsiam", "β"],
)  # fmt: skip
def test_the_other_settings_train_too(changes: dict[str, Any], configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", **changes)
    config = replace(config, training=replace(config.training, epochs=1))
    pretrain(config)
    assert math.isfinite(read_rows(RunFolder(config.out).metrics)[-1]["loss"])


def test_too_few_images_and_wrong_channels_are_refused(configuration: Make, tmp_path: Path) -> None:
    config = configuration(tmp_path / "run")
    with pytest.raises(ImageSetError, match="needs at least 64 images"):
        pretrain(replace(config, training=TrainingConfig(epochs=1, batch_size=64)))
    with pytest.raises(ImageSetError, match=r"has 1 channel\(s\): set data.channels to 1"):
        pretrain(replace(config, data=replace(config.data, name="digits")))


def test_a_gpu_that_is_not_there_is_named(configuration: Make, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=r"engine\.accelerator is gpu, but torch sees none"):
        pretrain(configuration(tmp_path / "run", engine=EngineConfig(accelerator="gpu")))


def test_a_run_disturbs_no_global_setting(configuration: Make, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    level = lightning.pytorch.trainer.trainer.log.level
    config = configuration(tmp_path / "run", training=TrainingConfig(epochs=1, batch_size=8))
    pretrain(replace(config, engine=EngineConfig(accelerator="cpu", threads=None)))
    assert torch.get_num_threads() == threads
    assert lightning.pytorch.trainer.trainer.log.level == level


def test_the_pair_is_any_of_the_methods(configuration: Make, tmp_path: Path) -> None:
    names = {type(build_pair(configuration(tmp_path, name))).__name__ for name in ("simsiam", "byol", "vi_simsiam")}
    assert names == {"SimSiam", "BYOL", "VISimSiam"}
    assert isinstance(build_pair(configuration(tmp_path)), MultiViewPair)
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_a_warm_up_that_rounds_to_all_steps_leaves_one() -> None:
    config = PretrainConfig(training=TrainingConfig(epochs=1, warmup_epochs=0.9))
    schedule = build_schedule(config, steps=2, steps_per_epoch=2)
    assert schedule.warmup == 1
