"""One training from its configuration to its measures, in its folder."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim.swa_utils import update_bn

from experiments.evaluation.encoding import training_recipe
from experiments.evaluation.measures import Encoded, Measures, collect, measure
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import ImageSet
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import DataConfig, PretrainConfig
from experiments.pretraining.export import CHECKPOINTS, load_pretrained
from experiments.pretraining.images import WatchedImages, open_part, resident, storage_size
from experiments.pretraining.side_by_side import PretrainingsSideBySide
from experiments.pretraining.training import pretrain
from experiments.studies.engine import Result, Study, attempt, keep, kept
from experiments.studies.plan import Plan, Training, top1
from inference.fitting.checkpointing import CheckpointError
from inference.fitting.cuda_graphs import RecordingError
from inference.judging.representation import Embedding, embed
from ssl_as_inference.sphere import normalize

_PIXELS = 16  # height and width of the images that are their own features

Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")
"""Images to train on, and those to judge by."""


def carry_out(run: Training) -> Result:
    """What `train_and_judge` does, with what would be printed in log.txt in the run's folder."""
    folder = Path(run.config.out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", 1, encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        return train_and_judge(run)


def train_and_judge(run: Training) -> Result:
    """Train, or go on with the training, and judge; the result is kept in the run's folder.

    The exported encoder stays, checkpoints do not.

    Raises:
        ValueError: If a setting or the images cannot be used.
        TrainingFailedError: If the loss is NaN or infinite.
        TrainingInterruptedError: If a signal stopped the training.
    """
    config, started = run.config, time.monotonic()
    if run.epochs:
        if config.engine.compile:
            # Each network is compiled anew; torch gives up after a few in one process unless it forgets the others.
            torch._dynamo.reset()  # noqa: SLF001
        pretrain(config, "auto")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    result = conclude(run, time.monotonic() - started)
    shutil.rmtree(Path(config.out) / CHECKPOINTS, ignore_errors=True)
    return result


def conclude(run: Training, seconds: float) -> Result:
    """Judge a run that has been trained, in so many seconds; the result is kept in the run's folder."""
    trained = time.monotonic()
    measures = judge(run)
    took = {"training": seconds, "judging": time.monotonic() - trained}
    result = {"config": run.config.to_dict(), "probe": _probe(run), "measures": measures, "seconds": took}
    result["images"] = {part: _opened(run.config.data, part).content for part in PARTS}
    return keep(Path(run.config.out), result)


def finished(run: Training) -> Result | None:
    """What an earlier start of the command has measured; `None` if it has not come so far.

    Raises:
        CheckpointError: If the folder holds a run of other settings.
    """

    def different(result: Result) -> list[str]:
        was = PretrainConfig.from_dict(result["config"])
        # The machine decides these two, and the record names each precision: a table is made anywhere.
        machines = ("engine.precision ", "engine.compile ")
        lines = [line for line in was.differences(run.config) if not line.startswith(machines)]
        if was.data.name != run.config.data.name:  # no part of the differences: a resumed run compares the images
            lines.append(f"data.name {was.data.name!r}, now {run.config.data.name!r}")
        probe = result.get("probe", _probe(run))  # older results do not say it
        return lines if probe == _probe(run) else [*lines, f"probe {probe}, now {_probe(run)}"]

    return kept(Path(run.config.out), different)


def trainings(
    plan: Plan,
    carry_out: Callable[[Training], Result] = carry_out,
    finished: Callable[[Training], Result | None] = finished,
) -> Study:
    """The runs of a plan: first what chooses the rates, then the table.

    Args:
        plan: The runs.
        carry_out: What is done with each.
        finished: How a result is read.
    """
    return Study(
        plan.everything(),
        (lambda _: plan.tuning(), lambda results: plan.runs(plan.rates(results))),
        carry_out,
        finished,
        lambda result: f"top-1 {top1(result):.1%}, kNN {result['measures']['knn']['accuracy']:.1%}",
    )


def train_side_by_side(plan: Plan, minutes: float, *, record: bool = True) -> tuple[Plan, Study]:
    """Train all runs of a plan whose rates are given, and judge them one after the other.

    Args:
        plan: Its number of epochs is the largest that is taken.
        minutes: For the trainings, their preparation included; the judging comes after.
        record: Whether a GPU records the steps.

    Returns:
        The plan with the number of epochs that fits, and what came of it.

    Raises:
        ValueError: If not even an epoch fits, the trainings do not go together, or a step cannot be recorded.
    """
    started = time.monotonic()
    configs = [run.config for run in plan.runs({}) if run.epochs]
    try:
        together = PretrainingsSideBySide(configs, record=record)
        epochs = together.fitting_epochs(60 * minutes - (time.monotonic() - started))
        plan = replace(plan, scale=replace(plan.scale, base={**plan.scale.base, "training.epochs": epochs}))
        study = trainings(plan)
        print(f"{len(configs)} trainings of {epochs} epochs side by side", flush=True)
        failures = together.train(epochs)
    except RecordingError as error:
        raise ValueError(f"{error}; with --eager nothing is recorded") from error
    seconds = (time.monotonic() - started) / len(configs)
    for run in study.everything:
        result, why = None, failures.get(run.config.out, "")
        if not why:
            result, why = attempt(partial(conclude, seconds=seconds if run.epochs else 0.0), run)
        if result is None:
            study.failures[run.name] = why
        else:
            study.results[run.name] = result
            print(f"{run.title}: {study.say(result)}", flush=True)
    return plan, study


def judge(run: Training) -> Measures:
    """Linear evaluation, neighbours and collapse of a run that has been trained, on what it holds out."""
    config, device = run.config, device_of(run.config)
    images = [decoded_images(config, part, device) for part in PARTS]
    if run.row.kind == "pixels":
        encoded = [_pixels(part, run) for part in images]
    else:
        pair = (load_pretrained(config.out).pair if run.epochs else build_pair(config)).to(device)
        if not run.epochs:
            update_bn(_views(images[0], config), pair.model.encoder)
        pair.eval()
        encoded = [
            collect(
                (embed(pair, views) for views in _views(part, config)),
                part.labels.cpu(),
                config.data.name,
                seed=run.probe.seed,
            )
            for part in images
        ]
    train, held_out = encoded
    return measure(train, held_out, run.probe, device=device)


def prepare(results: Mapping[str, Result], runs: Sequence[Training]) -> None:
    """Check and decode the images once, before several processes want them; says how many there are.

    Args:
        results: What is finished, by the name of the run.
        runs: Those that are to be done.

    Raises:
        ImageSetError: If images are missing, broken or too few.
        CheckpointError: If a result is of other images than there are now, or than another one.
    """
    contents = {}
    for run in {(run.config.data, run.config.views.size): run for run in runs}.values():
        config = run.config
        train, held_out = (open_part(config.data, part) for part in PARTS)
        least = config.training.batch_size
        train.require(f"a training with training.batch_size {least}", images=least, classes=2)
        held_out.require("linear evaluation", images=2, classes=1)
        for images in (train, held_out):
            resident(images, config.data, storage_size(config), torch.device("cpu"))
        print(f"{config.data.name}: {len(train):,} images to train on, {len(held_out):,} to judge by", flush=True)
        contents[config.data.name, config.data.held_out] = {"train": train.content, "val": held_out.content}
    for name, result in results.items():
        data, content = result["config"]["data"], result.get("images")  # older results do not say it
        if content and contents.setdefault((data["name"], data["held_out"]), content) != content:
            other = "there are now" if runs else "another result"
            raise CheckpointError(
                f"{name} is of other images of {data['name']} than {other}: put the same ones there, or give another "
                "--out"
            )


def _probe(run: Training) -> dict[str, Any]:
    return {**asdict(run.probe), "learning_rates": [*run.probe.learning_rates]}


def device_of(config: PretrainConfig) -> torch.device:
    """Where a run computes."""
    return torch.device("cuda" if config.engine.accelerator == "gpu" else "cpu")


def decoded_images(config: PretrainConfig, part: Part, device: torch.device) -> DeviceImages:
    """Images that stay decoded from one run to the next."""
    return _decoded(config.data, storage_size(config), part, device)


@lru_cache(maxsize=6)
def _decoded(data: DataConfig, size: int, part: Part, device: torch.device) -> DeviceImages:
    return resident(_opened(data, part), data, size, device)


@lru_cache(maxsize=6)
def _opened(data: DataConfig, part: Part) -> ImageSet:
    return open_part(data, part)


def _views(images: DeviceImages, config: PretrainConfig) -> WatchedImages:
    """The middle of each image, normalised."""
    return WatchedImages(images, torch.arange(len(images)), training_recipe(config))


def _pixels(images: DeviceImages, run: Training) -> Encoded:
    small = (adaptive_avg_pool2d(views, _PIXELS).flatten(1).cpu() for views in _views(images, run.config))
    parts = (Embedding(of, normalize(of), normalize(of), torch.ones(len(of))) for of in small)
    return collect(parts, images.labels.cpu(), run.config.data.name, seed=run.probe.seed)
