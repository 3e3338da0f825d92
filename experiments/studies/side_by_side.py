"""The trainings of a table in one process, side by side, as long as there is time for: for a GPU that is lent."""

from __future__ import annotations

import time
from dataclasses import replace

from experiments.pretraining.side_by_side import PretrainingsSideBySide
from experiments.studies.engine import Study
from experiments.studies.plan import Plan
from experiments.studies.training import conclude, trainings
from inference.fitting.cuda_graphs import RecordingError


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
        if run.config.out in failures:
            study.failures[run.name] = failures[run.config.out]
        else:
            study.results[run.name] = conclude(run, seconds if run.epochs else 0.0)
            print(f"{run.title}: {study.say(study.results[run.name])}", flush=True)
    return plan, study
