"""One training of the recipes: trained and judged as a row of table 1, then the tests of its κ.

κ is trained to say how well one view predicts another. Whether it should fall with a degradation is therefore no
matter of opinion: it should where the mean direction μ of the degraded image's expert lies further from what the
encoder makes of other views of the image. Where it does not, a κ that does not fall is right, and what misleads is to
expect of it that it sees the degradation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.measures import measure, measures
from experiments.evaluation.uncertainty.observations import FreshViews, Observations, chosen_images, look_at
from experiments.evaluation.uncertainty.rivals import KAPPA, Rivals
from experiments.evaluation.uncertainty.subject import BATCH, Subject, fresh_generator, middles, random_view
from experiments.images.degradations import DEGRADATIONS
from experiments.images.device_images import DeviceImages
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.images import open_part
from experiments.studies import training
from experiments.studies.engine import Result, keep
from experiments.studies.plan import PLAIN, Training
from inference.fitting.checkpointing import CheckpointError
from inference.judging.uncertainty import severity_correlations, spearman

VIEWS = 4
_STREAM = 20
MEAN, UNTOUCHED = "mean", "untouched"
FALL, AGREEMENT, EXCESS = "fall of the cosine", "κ with the cosine", "ρ(κ) − cosine"

Questions = Mapping[str, Any]
"""How many `images` of each set are looked at, at most, and the `foreign` sets, names or folders, for U5."""


def carry_out(run: Training, *, questions: Questions) -> Result:
    """Train and judge as table 1 does, unless that is finished, and add the tests of κ to what is kept."""
    result, began = training.finished(run) or training.carry_out(run), time.monotonic()
    looked = _look(run, questions)
    seconds = {**result["seconds"], "observing": time.monotonic() - began}
    return keep(Path(run.config.out), {**result, **looked, "questions": questions, "seconds": seconds})


def finished(run: Training, *, questions: Questions, ask_again: bool = True) -> Result | None:
    """The kept result with its tests; `None` if there is none, or other questions were asked.

    Raises:
        CheckpointError: If the run is of other settings; if other questions were asked, unless `ask_again`.
    """
    result = training.finished(run)
    asked = None if result is None else result.get("questions")
    if asked == questions:
        return result
    if asked is not None and not ask_again:
        raise CheckpointError(
            f"{run.config.out} was asked with {asked}, not {questions}: give the same --images and --foreign, or leave "
            "--table-only out to ask again"
        )
    return None


def prepare(results: Mapping[str, Result], runs: Sequence[Training], questions: Questions) -> None:
    """Open all sets before the trainings start.

    Raises:
        ImageSetError: If one is missing, or a foreign one has other channels than the encoders take.
        CheckpointError: If a result is of other images.
    """
    for name in questions["foreign"] if runs else ():
        open_part(_other_set(runs[0].config, name).data, "val")
    training.prepare(results, runs)


def predictions(observations: Observations, predicted: Mapping[str, Tensor]) -> dict[str, float]:
    """How well degraded images predict their views, and how well κ predicts that.

    Args:
        observations: Of the encoder.
        predicted: Cosines by degradation, `(levels, images)`.
    """
    found = {f"{name}: {FALL}": float(severity_correlations(-cosines).mean()) for name, cosines in predicted.items()}
    if KAPPA in observations.names:
        for name, cosines in predicted.items():
            u = observations.degraded[name][KAPPA]
            found[f"{name}: {AGREEMENT}"] = spearman(u.flatten(), -cosines.flatten())
            excess = promised_too_much(observations.fresh, -u, cosines)
            found[f"{name}: {EXCESS}"] = float(excess[-1])
            found.setdefault(f"{UNTOUCHED}: {EXCESS}", float(excess[0]))
    for what in (FALL, AGREEMENT, EXCESS):
        each = [found[f"{name}: {what}"] for name in predicted if f"{name}: {what}" in found]
        if each:
            found[f"{MEAN}: {what}"] = sum(each) / len(each)
    return found


def promised_too_much(fresh: FreshViews, concentration: Tensor, cosines: Tensor) -> Tensor:
    """Mean over images of ρ(κ) − cosine, one number for each level; 0 for a calibrated κ.

    Args:
        fresh: From which family and dimension of the experts are known.
        concentration: κ, `(levels, images)`.
        cosines: What it predicts, `(levels, images)`.
    """
    pole = torch.eye(fresh.dim, dtype=torch.float64)[0].expand(*concentration.shape, fresh.dim)
    expert = fresh.law(pole, concentration.double(), validate_args=False)
    excess: Tensor = (expert.mean_resultant_length - cosines).mean(1)
    return excess


def _look(run: Training, questions: Questions) -> Result:
    config, device = run.config, training.device_of(run.config)
    train, test = (training.decoded_images(config, part, device) for part in training.PARTS)
    foreign = {
        Path(name).name: training.decoded_images(_other_set(config, name), "val", device)
        for name in questions["foreign"]
    }
    subject, images = Subject.of(load_pretrained(config.out).pair, config, device), questions["images"]
    # Where there is no κ the cosine of two views takes its place; beside κ it is shown once.
    two_views = not config.method.predicts_concentration or run.row.key == PLAIN
    seen = look_at(Rivals.fit(subject, train, two_views=two_views), test, foreign, images=images, progress=False)
    # One resample, whose interval nobody reads: intervals are those over seeds.
    found = measure(seen, resamples=1)
    return {
        "tests": {name: {u: estimate.value for u, estimate in of.items()} for name, of in found.items()},
        "predicting": predictions(seen, predicted_cosines(subject, test, chosen_images(len(test), images, 0))),
        "aims": {
            one.name: (one.aim, one.at_most, one.interval_beyond) for one in measures(seen) if one.aim is not None
        },
    }


def _other_set(config: PretrainConfig, name: str) -> PretrainConfig:
    return replace(config, data=replace(config.data, name=name, images=None, held_out=0.0))


@torch.no_grad()
def predicted_cosines(subject: Subject, images: DeviceImages, chosen: Tensor) -> dict[str, Tensor]:
    """Cosines of what degraded images predict and what their views, not degraded but by the recipe, turn out to be.

    Args:
        subject: The frozen pair.
        images: Among which the chosen ones are.
        chosen: Their numbers.

    Returns:
        For each degradation the mean over `VIEWS` random views of μ(degraded)ᵀf(view), float64, `(levels, images)`. The
        views are the same for every level.
    """
    pixels = middles(images, subject.recipe, chosen)

    def view(generator: torch.Generator) -> Tensor:
        batches = chosen.to(images.device).split(BATCH)
        seen = [random_view(images.canvas[rows], images.sizes[rows], subject, generator).outputs for rows in batches]
        return torch.cat(seen).double().cpu()

    mean = torch.stack([view(fresh_generator(0, _STREAM + number)) for number in range(VIEWS)]).mean(0)

    def cosine(degraded: Tensor) -> Tensor:
        directions = [subject.look(batch).mean_direction.double().cpu() for batch in degraded.split(BATCH)]
        return (torch.cat(directions) * mean).sum(-1)

    return {
        series.name: torch.stack([cosine(series(pixels, level)) for level in range(len(series))])
        for series in DEGRADATIONS
    }
