"""Repeat the quickstart's trainings over seeds, learning rates and ablations, and say how much the numbers vary.

Without options: five seeds of each method at its recipe. `--tune` compares learning rates on images held out from the
training set, never on the test images. `--ablate` trains VI-SimSiam without the pieces of its recipe, one at a time.
Every finished training is appended to OUT/runs.csv at once; a training that is there already is not run again.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.nn.functional import softplus

from experiments.command_line.parser import (
    CommandLineParser,
    whole_number,
    writable_folder,
)
from experiments.command_line.progress import quiet_lightning_on_one_thread
from experiments.images.digits import LabelledImages, hold_out, load
from experiments.studies.digits import HEADINGS, RECIPES, Measures, Recipe, train_and_measure
from models.vi_simsiam import VISimSiam

LEARNING_RATES = (0.05, 0.1, 0.2)


def scaled_softplus(raw: Tensor, dim: int) -> Tensor:
    """κ = (d − 1)·softplus(raw): the scale without the slow tail; what does the trap at zero cost?"""
    return (dim - 1) * softplus(raw)


def plain_softplus(raw: Tensor, dim: int) -> Tensor:  # noqa: ARG001
    """κ = softplus(raw), the first thing one would try: what is the scale for?"""
    return softplus(raw)


MAPS = {"κ = (d−1)·softplus(raw)": scaled_softplus, "κ = softplus(raw)": plain_softplus}


@dataclass(frozen=True)
class Run:
    """One training of the sweep."""

    label: str
    method: str
    recipe: Recipe
    seed: int
    defects: float = 0.25


def plan(seeds: int, *, tune: bool, ablate: bool) -> Iterator[Run]:
    """The trainings to do."""
    for seed in range(seeds):
        for method, recipe in RECIPES.items():
            if tune:
                for rate in LEARNING_RATES:
                    yield Run(f"{method}, learning rate {rate}", method, replace(recipe, learning_rate=rate), seed)
            elif not ablate:
                yield Run(method, method, recipe, seed)
        if ablate:
            vi = RECIPES["VI-SimSiam"]
            yield Run("as the quickstart", "VI-SimSiam", vi, seed)
            for label, concentration_map in MAPS.items():
                pair = partial(VISimSiam, concentration_map=concentration_map)
                yield Run(label, "VI-SimSiam", replace(vi, pair=pair), seed)
            yield Run("no gradient clipping", "VI-SimSiam", replace(vi, gradient_clip=None), seed)
            yield Run("no defects among the views", "VI-SimSiam", vi, seed, defects=0.0)
            yield Run("defects in half of the views", "VI-SimSiam", vi, seed, defects=0.5)
            softplus_pair = replace(vi, pair=partial(VISimSiam, concentration_map=scaled_softplus))
            yield Run("the same, κ = (d−1)·softplus(raw)", "VI-SimSiam", softplus_pair, seed, defects=0.5)
            yield Run("SimSiam, no defects among the views", "SimSiam", RECIPES["SimSiam"], seed, defects=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.digits_sweep", description=__doc__)
    parser.add_argument("--seeds", type=whole_number(1), default=5, help="number of seeds, counted from 0")
    parser.add_argument("--epochs", type=whole_number(1), default=60, help="passes over the training images")
    parser.add_argument("--tune", action="store_true", help="compare learning rates on a part of the training images")
    parser.add_argument("--ablate", action="store_true", help="take VI-SimSiam's recipe apart")
    parser.add_argument("--out", type=writable_folder, default="runs/digits_sweep", help="folder for runs.csv")
    options = parser.parse_args(arguments)
    if options.tune and options.ablate:
        parser.error("--tune and --ablate are two different sweeps: give one of them")
    train, test = load()
    if options.tune:
        train, test = hold_out(train, 0.25)  # the test images play no part in choosing a learning rate
    runs = list(plan(options.seeds, tune=options.tune, ablate=options.ablate))
    record = options.out / "runs.csv"
    done = _read(record)
    for number, run in enumerate(runs, start=1):
        key = _key(run, options.epochs, tune=options.tune)
        if key not in done:
            print(f"[{number}/{len(runs)}] {run.label}, seed {run.seed}")
            with quiet_lightning_on_one_thread():
                done[key] = _measure(run, train, test, options.epochs)
            _append(record, key, done[key])
    print(f"\n{_summary(runs, lambda run: done[_key(run, options.epochs, tune=options.tune)])}\n")
    print(f"Mean (smallest to largest) of {options.seeds} seed(s), {options.epochs} epochs. Every run: {record}")
    return 0


def _measure(run: Run, train: LabelledImages, test: LabelledImages, epochs: int) -> Measures:
    return train_and_measure(
        run.method,
        train,
        test,
        epochs=epochs,
        seed=run.seed,
        recipe=run.recipe,
        defects=run.defects,
        online_every=epochs,
    ).measures


def _key(run: Run, epochs: int, *, tune: bool) -> str:
    """What a training depends on, as a text that identifies its row."""
    recipe = {**asdict(run.recipe), "pair": _name(run.recipe.pair)}
    settings = {
        "label": run.label,
        **recipe,
        "defects": run.defects,
        "epochs": epochs,
        "seed": run.seed,
        "held_out_of_train": tune,
    }
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def _name(pair: Callable[..., object]) -> str:
    if isinstance(pair, partial):
        return f"{_name(pair.func)}({', '.join(f'{key}={_name(value)}' for key, value in pair.keywords.items())})"
    return pair.__name__


def _read(record: Path) -> dict[str, Measures]:
    if not record.exists():
        return {}
    with record.open(newline="", encoding="utf-8") as file:
        return {
            row["settings"]: Measures(**{field.name: float(row[field.name]) for field in fields(Measures)})
            for row in csv.DictReader(file)
        }


def _append(record: Path, key: str, measures: Measures) -> None:
    names = ["settings", *(field.name for field in fields(Measures))]
    is_new = not record.exists()
    with record.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        if is_new:
            writer.writeheader()
        writer.writerow({"settings": key, **asdict(measures)})


def _summary(runs: Sequence[Run], measures_of: Callable[[Run], Measures]) -> str:
    """A Markdown table: a row a label, mean and range over its seeds."""
    lines = ["| | " + " | ".join(HEADINGS) + " |", "|---" * (len(HEADINGS) + 1) + "|"]
    for label in dict.fromkeys(run.label for run in runs):
        rows = [measures_of(run) for run in runs if run.label == label]
        cells = [_spread([getattr(row, field.name) for row in rows]) for field in fields(Measures)]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    return f"{statistics.fmean(known):.3f} ({min(known):.3f} to {max(known):.3f})"


if __name__ == "__main__":
    raise SystemExit(main())
