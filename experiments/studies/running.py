"""One run from its configuration to its measures, in its folder; what is finished there is read."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim.swa_utils import update_bn

from experiments.evaluation.encoding import training_recipe
from experiments.evaluation.measures import Encoded, Measures, collect, measure
from experiments.evaluation.report import record
from experiments.images.augmentations.evaluation import center_view
from experiments.images.device_images import DeviceImages
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import CHECKPOINTS, load_pretrained
from experiments.pretraining.images import open_part
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import pretrain
from experiments.studies.planning import Run
from inference.fitting.checkpointing import CheckpointError, replace_file
from inference.judging.representation import embed
from ssl_as_inference.graphical_model import MultiViewPair
from ssl_as_inference.sphere import normalize

RESULT = "result.json"
_PIXELS = 16  # height and width of the images that are their own features
_BATCH = 256
_STEPS_TIMED = 8  # in each of three rows of metrics.csv, the first of which is not counted

Part = Literal["train", "val"]
Result = dict[str, Any]
PARTS: tuple[Part, ...] = ("train", "val")
"""Images to train on, and those to judge by."""


def finished(run: Run) -> Result | None:
    """What an earlier start of the command has measured; `None` if it has not come so far.

    Raises:
        CheckpointError: If the folder holds a run of other settings.
    """
    path = Path(run.config.out) / RESULT
    try:
        content: Result = json.loads(path.read_text(encoding="utf-8"))
        different = PretrainConfig.from_dict(content["config"]).differences(run.config)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it, or give another --out") from error
    if different:
        raise CheckpointError(
            f"{path} is of other settings: {'; '.join(different)}. Give the same ones, or another --out"
        )
    return content


def carry_out(run: Run) -> Result:
    """Train, or go on with the training, and judge; the outcome is kept in the run's folder.

    What would be printed goes to log.txt there. The exported encoder stays, checkpoints do not.

    Raises:
        ValueError: If a setting or the images cannot be used.
        TrainingFailedError: If the loss is NaN or infinite.
        TrainingInterruptedError: If a signal stopped the training.
    """
    folder = Path(run.config.out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        started = time.monotonic()
        if run.kind == "trained":
            train(run.config)
        trained = time.monotonic()
        content = {
            "config": run.config.to_dict(),
            "measures": record(judge(run)),
            "seconds": {"training": trained - started, "judging": time.monotonic() - trained},
        }
    replace_file(
        folder / RESULT, lambda path: _write(path, json.dumps(content, indent=1, ensure_ascii=False, default=str))
    )
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return content


def train(config: PretrainConfig) -> None:
    """Pretrain, from the last checkpoint if there is one."""
    if config.engine.compile:
        # Each network is compiled anew, and torch gives up after a few in one process unless it forgets the old ones.
        torch._dynamo.reset()  # noqa: SLF001
    pretrain(config, "auto")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def judge(run: Run) -> Measures:
    """Linear evaluation, neighbours and collapse of a run that has been trained, on what it holds out."""
    config = run.config
    device = torch.device("cuda" if config.engine.accelerator == "gpu" else "cpu")
    if run.kind == "pixels":
        train, held_out = (_pixels(decoded_images(config, part, device), config) for part in PARTS)
        return measure(train, held_out, run.probe, device=device)
    if run.kind == "trained":
        pair = load_pretrained(config.out).pair.to(device)
    else:
        pair = build_pair(config).to(device)
        update_bn(_views(decoded_images(config, "train", device), config), pair.model.encoder)
    train, held_out = (
        _encoded(pair.eval(), decoded_images(config, part, device), config, part, run.probe.seed) for part in PARTS
    )
    return measure(train, held_out, run.probe, device=device)


def calibrate(run: Run) -> Result:
    """Time a few steps of the training and a whole evaluation; nothing is kept.

    Returns:
        `step` and `judging`, in seconds.
    """
    out = Path(run.config.out)
    every, batch = _STEPS_TIMED, run.config.training.batch_size
    short = replace(
        run.config,
        data=replace(run.config.data, images=3 * every * batch, held_out=0.0),
        training=replace(run.config.training, epochs=1),
        monitor=replace(run.config.monitor, every_steps=every, images=2, neighbours=2, curves=False),
    )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        with (out / "log.txt").open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            train(short)
            rates = [row["images_per_second"] for row in read_rows(RunFolder(out).metrics)]
            begin = time.monotonic()
            judge(run)
        timed = rates[1:] or rates
        return {"step": batch * len(timed) / sum(timed), "judging": time.monotonic() - begin}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def prepare(run: Run) -> tuple[int, int]:
    """Check and decode a run's images, once for all runs where there is a cache; returns how many there are."""
    train, held_out = (open_part(run.config.data, part) for part in PARTS)
    train.require(f"a training with training.batch_size {run.config.training.batch_size}", classes=2)
    held_out.require("linear evaluation", images=2, classes=1)
    for images in (train, held_out):
        _load(images, run.config, torch.device("cpu"))
    return len(train), len(held_out)


def steps(run: Run, images: int) -> int:
    """Number of steps of a run on so many training images."""
    return run.config.training.epochs * (images // run.config.training.batch_size) if run.kind == "trained" else 0


@lru_cache(maxsize=4)
def _decoded(config: PretrainConfig, part: Part, device: torch.device) -> DeviceImages:
    return _load(open_part(config.data, part), config, device)


def decoded_images(config: PretrainConfig, part: Part, device: torch.device) -> DeviceImages:
    """Images that stay decoded from one run to the next; what they do not depend on is left out of the key."""
    return _decoded(PretrainConfig(data=config.data, views=config.views), part, device)


def _load(images: Any, config: PretrainConfig, device: torch.device) -> DeviceImages:
    return DeviceImages.load(
        images,
        device,
        storage_size=config.data.storage_size or round(config.views.size * 5 / 4),
        cache_folder=None if config.data.cache is None else Path(config.data.cache),
    )


def _views(images: DeviceImages, config: PretrainConfig) -> Iterator[Tensor]:
    """The middle of each image, normalised."""
    recipe = training_recipe(config)
    for chosen in torch.arange(len(images), device=images.device).split(_BATCH):
        yield center_view(images.canvas[chosen], images.sizes[chosen], recipe)


def _encoded(pair: MultiViewPair, images: DeviceImages, config: PretrainConfig, part: str, seed: int) -> Encoded:
    parts = (embed(pair, views) for views in _views(images, config))
    return collect(parts, images.labels.cpu(), f"{config.data.name} ({part})", seed=seed)


def _pixels(images: DeviceImages, config: PretrainConfig) -> Encoded:
    small = [adaptive_avg_pool2d(views, _PIXELS).flatten(1).cpu() for views in _views(images, config)]
    features = torch.cat(small)
    return Encoded(features, normalize(features)[:4000], torch.ones(len(features)), images.labels.cpu())


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
