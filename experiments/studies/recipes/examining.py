"""One run of the study: trained and judged as a row of table 1, then looked at by `uncertainty_study`, and kept."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import FreshViews, Observations, chosen_images, observe
from experiments.evaluation.uncertainty.subject import Subject
from experiments.images.device_images import DeviceImages
from experiments.images.errors import ImageSetError
from experiments.images.opening import open_images
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import load_pretrained
from experiments.studies import running
from experiments.studies.conducting import Work
from experiments.studies.planning import Run
from experiments.studies.recipes.foretelling import foretold
from experiments.studies.recipes.rows import PLAIN
from experiments.studies.running import Result
from inference.fitting.checkpointing import CheckpointError, replace_file
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewPair

OBSERVATIONS = "observations.pt"
"""File in a run's folder."""

_LAWS = {law.__name__: law for law in (PowerSpherical, VonMisesFisher)}


@dataclass(frozen=True)
class Questions:
    """What every encoder is asked.

    Attributes:
        images: Of the validation images and of each foreign set, at most; the same for every encoder.
        foreign: Other sets, names or folders, for U5.
        seed: Of the choice of images, the degradations and the views.
    """

    images: int = 1000
    foreign: tuple[str, ...] = ()
    seed: int = 0


def work(questions: Questions) -> Work:
    """What a conductor does with a run of the study: what table 1 does, and the questions."""
    return Work(
        partial(_carry_out, questions=questions),
        partial(_finished, questions=questions),
        partial(_calibrate, questions=questions),
    )


def check_foreign(questions: Questions, config: PretrainConfig) -> None:
    """Open the foreign sets, before hours are spent.

    Raises:
        ImageSetError: If one is missing or has other channels than the encoders take.
    """
    for name in questions.foreign:
        images = open_images(name, config.data.root, "val")
        if images.channels != config.data.channels:
            raise ImageSetError(f"{name} has {images.channels} channel(s), the encoders take {config.data.channels}")


def seen_of(run: Run) -> tuple[Observations, dict[str, Tensor]]:
    """What was seen of a run that is finished: observations, and what degraded images foretell."""
    content = _content(run)
    if content is None:
        raise ValueError(f"run must be finished, got {run.title}, which has no {OBSERVATIONS}")
    return _unpacked(content["observations"]), content["foretold"]


def _finished(run: Run, *, questions: Questions) -> Result | None:
    result, content = running.finished(run), _content(run)
    if result is None or content is None or content["questions"] != _plain(questions):
        return None
    return _together(result, content["seconds"])


def _carry_out(run: Run, *, questions: Questions) -> Result:
    result = running.finished(run) or running.carry_out(run)
    began = time.monotonic()
    seen = _look(load_pretrained(run.config.out).pair, run, questions)
    seconds = time.monotonic() - began
    content = {"questions": _plain(questions), "seconds": seconds, **seen}
    replace_file(Path(run.config.out) / OBSERVATIONS, lambda path: torch.save(content, path))
    return _together(result, seconds)


def _calibrate(run: Run, *, questions: Questions) -> Result:
    timed = running.calibrate(run)
    began = time.monotonic()
    _look(build_pair(run.config), run, questions)
    return {**timed, "judging": timed["judging"] + time.monotonic() - began}


def _together(result: Result, seconds: float) -> Result:
    return {**result, "seconds": {**result["seconds"], "observing": seconds}}


def _content(run: Run) -> dict[str, Any] | None:
    path = Path(run.config.out) / OBSERVATIONS
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        _ = content["questions"], content["seconds"], content["observations"], content["foretold"]
    except (RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it, or give another --out") from error
    return content


def _look(pair: MultiViewPair, run: Run, questions: Questions) -> dict[str, Any]:
    config = run.config
    device = torch.device("cuda" if config.engine.accelerator == "gpu" else "cpu")
    train, test = (running.decoded_images(config, part, device) for part in running.PARTS)
    subject = Subject.of(pair, config, device)
    observations = observe(
        subject,
        train,
        test,
        {Path(name).name: _foreign(config.data.root, name, config.views.size, config.data.cache, device)
         for name in questions.foreign},
        images=questions.images,
        seed=questions.seed,
        progress=False,
        # Where there is no κ it takes κ's place; beside κ it is shown once.
        two_views=not config.method.predicts_concentration or run.key[1] == PLAIN,
    )  # fmt: skip
    chosen = chosen_images(len(test), questions.images, questions.seed)
    return {
        "observations": _packed(observations),
        "foretold": foretold(subject, test, chosen, seed=questions.seed),
    }


@lru_cache(maxsize=4)
def _foreign(root: str, name: str, size: int, cache: str | None, device: torch.device) -> DeviceImages:
    images = open_images(name, root, "val")
    folder = None if cache is None else Path(cache)
    return DeviceImages.load(images, device, storage_size=round(size * 5 / 4), cache_folder=folder)


def _plain(questions: Questions) -> dict[str, Any]:
    return {**asdict(questions), "foreign": list(questions.foreign)}


def _packed(observations: Observations) -> dict[str, Any]:
    """Tensors and plain values alone, which can be read without running what a file says."""
    packed = {field.name: getattr(observations, field.name) for field in fields(observations)}
    fresh = {field.name: getattr(observations.fresh, field.name) for field in fields(FreshViews)}
    return {**packed, "fresh": {**fresh, "law": observations.fresh.law.__name__}}


def _unpacked(packed: Mapping[str, Any]) -> Observations:
    fresh = FreshViews(**{**packed["fresh"], "law": _LAWS[packed["fresh"]["law"]]})
    return Observations(**{**packed, "fresh": fresh})
