"""What a newcomer runs first: two methods and two baselines on real digits, with their table, figures and weights."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.subject import Subject, middles
from experiments.figures import concentration_figure, loss_surface_figure, save_figure, training_curves_figure
from experiments.images.degradations import DEGRADATIONS, DegradationSeries
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.metrics import History, history, read_rows
from experiments.records.record import Record
from experiments.studies.options import ROWS
from experiments.studies.plan import PLAIN, Plan, Scale, Training, rows
from experiments.studies.tables import Columns, Outcome, measured
from experiments.studies.training import decoded_images, finished, train_and_judge, trainings
from inference.judging.uncertainty import degradation_spearman

_FOLLOWED = ("noise", "occlusion")  # the defects that are among the views
_COLUMNS: Columns = {
    "kNN": measured("knn", "accuracy"),
    "linear": measured("linear", "top1"),
    "std of outputs": measured("held_out", "standard_deviation"),
    "effective rank": measured("held_out", "effective_rank"),
    "κ: AUROC of correctness": measured("correctness_auroc"),
    **{f"κ: Spearman, {name}": measured("severity", name) for name in _FOLLOWED},
}
_NOTE = (
    "kNN and linear: accuracy of nearest neighbours and of a linear classifier on the features. The outputs' standard "
    "deviation is 1 for the uniform distribution and 0 at a collapse. κ: how well it predicts whether the nearest "
    "neighbour has the right class (½ is chance), and how it falls as an image is degraded."
)


def run(options: argparse.Namespace) -> int:
    """Train, measure, save and say what to look at; returns the exit status.

    Raises:
        ValueError: If the folder holds runs of other settings.
    """
    seed, out = options.seed, options.out
    started = time.monotonic()
    # More threads than one would wait for one another longer than they compute.
    machine = {"engine.accelerator": "gpu" if torch.cuda.is_available() else "cpu", "engine.threads": 1}
    plan = digits_plan(seed, options.epochs, out, {**machine, "monitor.progress": True})
    study = trainings(plan)
    runs = {}
    for row, run in zip(plan.rows, plan.runs({}), strict=True):
        print(f"\n{run.title}", flush=True)
        result = finished(run) or train_and_judge(run)
        result["measures"]["severity"] = dict.fromkeys(_FOLLOWED)
        study.results[run.name], runs[row.key] = result, run
    kappa, images, falls = _look(runs[PLAIN])
    study.results[runs[PLAIN].name]["measures"]["severity"] = falls
    trained = {row.label: runs[row.key].config for row in plan.rows if row.kind == "trained"}
    histories = {label: _curves(config) for label, config in trained.items()}
    figures = {
        "training_curves.png": training_curves_figure(histories),
        "loss_surface.png": loss_surface_figure(runs[PLAIN].config.method.dim),
        "concentration.png": concentration_figure(kappa, images.__getitem__),
    }
    record = Record(
        "quickstart",
        "Quickstart",
        options.command,
        asdict(plan.scale),
        (seed,),
        (Outcome(plan, study, "digits").table("450 held-out digits", _COLUMNS, _NOTE),),
        figures=tuple(figures),
        details={
            "measures": {key: study.results[run.name]["measures"] for key, run in runs.items()},
            "history": histories,
        },
    )
    print(f"\n{record.tables[0].title}, seed {seed}:\n\n{record.tables[0].aligned()}\n\nSaved:")
    saved = [save_figure(figure, out / name) for name, figure in figures.items()] + record.save_page(out)
    for path in [*saved, *(config.out for config in trained.values())]:
        print(f"  {path}")
    print(f"\nDone in {time.monotonic() - started:.0f} s. Next:")
    print(f"  look at {out / 'concentration.png'}: which digits does the model find uncertain, and are you surprised?")
    print("  python -m experiments.quickstart --seed 1         how much does the table change with the seed?")
    print("  python -m experiments.table1 --scale digits       more seeds, other learning rates")
    print("  python -m experiments.recipes --scale digits      what makes κ trustworthy: recipes taken apart")
    print("  python -m experiments.verify                      every equation of the paper, checked")
    print("  read ssl_as_inference/graphical_model.py          the model and the guide that were just fitted")
    return 0


def digits_plan(seed: int, epochs: int, out: Path, machine: Mapping[str, Any]) -> Plan:
    """Two baselines, SimSiam and VI-SimSiam on digits, at the learning rates of the scale."""
    scale = Scale.named("digits", epochs)
    fixed = dict(zip(ROWS["methods"], scale.fixed_rates, strict=True))
    chosen = tuple(row for row in rows("table1", scale.base, fixed) if row.key in scale.rows["table1"])
    return Plan(scale, chosen, ("digits",), (seed,), out, machine)


def _curves(config: PretrainConfig) -> History:
    """What was watched and says something of the method."""
    hidden = ("images", "gradient", *(() if config.method.predicts_concentration else ("κ",)))
    watched = history(read_rows(Path(config.out) / "metrics.csv"), config)
    return {name: series for name, series in watched.items() if not name.startswith(hidden)}


def _look(run: Training) -> tuple[Tensor, Tensor, dict[str, float]]:
    """κ of the held-out images, the images, and by degradation how κ falls as it grows."""
    held_out = decoded_images(run.config, "val", torch.device("cpu"))
    subject = Subject.of(load_pretrained(run.config.out).pair, run.config, torch.device("cpu"))
    pixels = middles(held_out, subject.recipe, torch.arange(len(held_out)))

    def fall(series: DegradationSeries) -> float:
        levels = [subject.look(series(pixels, level)).concentration for level in range(len(series))]
        return degradation_spearman(torch.stack(levels))

    falls = {series.name: fall(series) for series in DEGRADATIONS if series.name in _FOLLOWED}
    return subject.look(pixels).concentration, pixels, falls
