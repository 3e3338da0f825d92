"""The trainings of a study: rows × data sets × seeds, each with its configuration and its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace

from experiments.pretraining.configuration import PretrainConfig
from experiments.studies.engine import Result, Run
from experiments.studies.options import ROWS, SCALES
from inference.judging.linear_probe import ProbeSettings

REFERENCE = "simsiam"
"""The row that the others are compared with."""

PLAIN = "vi_simsiam"
"""The row that the recipes change one thing of."""

TUNING_SEED = 1000
"""Apart from those of the table."""

HELD_OUT = 0.2
"""Of the training images of each class, for choosing a learning rate."""


@dataclass(frozen=True)
class Scale:
    """What the rows have in common; the fields are explained in scales.yaml."""

    name: str
    sets: Sequence[str]
    note: str
    base: Mapping[str, Any]
    rates: Sequence[float]
    tuning_epochs: int
    probe: Mapping[str, Any] = field(default_factory=dict)
    fixed_rates: Sequence[float] = ()
    rows: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str, epochs: int | None = None) -> Scale:
        """One of scales.yaml.

        Args:
            name: Which one.
            epochs: Of the trainings, instead of the scale's.
        """
        scale = cls(name, **SCALES[name])
        return scale if epochs is None else replace(scale, base={**scale.base, "training.epochs": epochs})


@dataclass(frozen=True)
class Row:
    """A row of a table; the fields are explained in rows.yaml."""

    key: str
    label: str
    method: str = "vi_simsiam"
    rate: str | None = "vi_simsiam"
    changes: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["trained", "untrained", "pixels"] = "trained"
    scale: str | None = None
    against: str = REFERENCE


def rows(study: str, base: Mapping[str, Any], fixed: Mapping[str, float] | None = None) -> tuple[Row, ...]:
    """All rows of a study.

    Args:
        study: `table1` or `recipes`.
        base: Of the scale: the dimension, and the size of the views.
        fixed: Learning rate of each method, where nothing is tuned.
    """
    size = base.get("views.size", 128)
    derived = {"dim - 1": float(base["method.dim"] - 1), "1/64 to 5/64 of the side": [size / 64, 5 * size / 64]}
    made = []
    for key, entries in ROWS[study].items():
        known = {"rate": None, **ROWS["table1"][key]} if key in ROWS["table1"] else {}
        row = Row(key, **{**known, **entries})
        changes = {name: derived.get(str(value), value) for name, value in row.changes.items()}
        if fixed is not None and row.rate is not None:
            changes["training.learning_rate"], row = fixed[row.rate], replace(row, rate=None)
        made.append(replace(row, changes=changes))
    return tuple(made)


@dataclass(frozen=True)
class Training(Run):
    """A training that is judged.

    Attributes:
        config: Of the training; `config.out` is the folder.
        probe: Of the linear evaluation.
        row: Its row, which is in no table where a rate is tuned.
    """

    config: PretrainConfig
    probe: ProbeSettings
    row: Row


@dataclass(frozen=True)
class Plan:
    """What a table is made of.

    Attributes:
        scale: Size of the trainings.
        rows: Rows of the table.
        sets: Data sets, each a name or a folder.
        seeds: Of the trainings of each row.
        out: Folder of the study.
        machine: Fields of the configuration that belong to the machine: folders of images, device, threads.
        tune_on: The set whose rates all sets take; each its own when not given.
    """

    scale: Scale
    rows: tuple[Row, ...]
    sets: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    machine: Mapping[str, Any]
    tune_on: str | None = None

    def tuning(self) -> Iterator[Training]:
        """The trainings that choose the rates: as many for each method, on the training images alone."""
        changes = {**ROWS["tuned"], "training.epochs": self.scale.tuning_epochs, "data.held_out": HELD_OUT}
        # By rates first, so that what fails soon fails for each method.
        for name, rate, method in product(self.tuned_sets, self.scale.rates, self.tuned_methods):
            label = f"tuning {method} at {rate:g}"
            row = Row("tuning", label, method, None, {**changes, "training.learning_rate": rate})
            yield self._training(tuning_name(name, method, rate), f"{set_label(name)}, {label}", name, row, TUNING_SEED)

    def runs(self, rates: Mapping[tuple[str, str], float]) -> Iterator[Training]:
        """The trainings of the table, seed after seed, so that a part of them is a table of fewer seeds.

        Args:
            rates: The chosen learning rate by data set and method. Rows whose rate is missing are left out.
        """
        for seed, name, row in product(self.seeds, self.sets, self.rows):
            if row.rate is None or (name, row.rate) in rates:
                changes = {} if row.rate is None else {"training.learning_rate": rates[name, row.rate]}
                changed = replace(row, changes={**row.changes, **changes})
                title = f"{set_label(name)}, {row.label}, seed {seed}"
                yield self._training(run_name(name, row.key, seed), title, name, changed, seed)

    def everything(self) -> list[Training]:
        """Tuning and table; where a rate is not chosen yet, with some rate of the grid."""
        any_rate = dict.fromkeys(product(self.sets, self.tuned_methods), self.scale.rates[0])
        return [*self.tuning(), *self.runs(any_rate)]

    def rates(self, results: Mapping[str, Result]) -> dict[tuple[str, str], float]:
        """The learning rate of each set and method: the best one of those that have been tried."""
        pairs = product(self.sets, self.tuned_methods)
        found = {(name, method): self.held_out(results, self.tune_on or name, method) for name, method in pairs}
        return {pair: best_rate(accuracies) for pair, accuracies in found.items() if accuracies}

    def held_out(self, results: Mapping[str, Result], name: str, method: str) -> dict[float, float]:
        """Accuracy on the held-out training images by rate, of those that have been tried and did not fail."""
        tried = {rate: results.get(tuning_name(name, method, rate)) for rate in self.scale.rates}
        return {rate: top1(result) for rate, result in tried.items() if result is not None}

    @property
    def tuned_sets(self) -> tuple[str, ...]:
        """Sets on which rates are chosen."""
        return self.sets if self.tune_on is None else (self.tune_on,)

    @property
    def tuned_methods(self) -> tuple[str, ...]:
        """Methods whose rate a row takes."""
        return tuple(method for method in ROWS["methods"] if any(row.rate == method for row in self.rows))

    def _training(self, run: str, title: str, name: str, row: Row, seed: int) -> Training:
        dotted = {"data.name": name, **self.scale.base, **self.machine, **ROWS["methods"][row.method], **row.changes}
        dotted |= {"seed": seed, "out": str(self.out / run)}
        config = PretrainConfig.from_dict(Namespace(dotted).as_dict())  # type: ignore[no-untyped-call]
        epochs = config.training.epochs if row.kind == "trained" else 0
        return Training(run, title, epochs, config, ProbeSettings(**self.scale.probe, seed=seed), row)


def run_name(name: str, row: str, seed: int) -> str:
    """Name of a training of the table, by which its result is found."""
    return f"runs/{set_label(name)}/{row}/seed_{seed}"


def tuning_name(name: str, method: str, rate: float) -> str:
    """Name of a training that helps to choose a rate."""
    return f"tuning/{set_label(name)}/{method}/{rate:g}"


def set_label(name: str) -> str:
    """Last part of a folder, of "." and ".." too, or the name.

    Example:
        >>> set_label("path/of/flowers"), set_label("imagenette")
        ('flowers', 'imagenette')
    """
    folder = Path(name)
    return (folder if folder.name.strip(".") else folder.resolve()).name


def best_rate(accuracies: Mapping[float, float]) -> float:
    """The rate of the highest held-out accuracy, of equally good ones the smallest.

    Example:
        >>> best_rate({0.1: 0.5, 0.3: 0.4, 1.0: 0.5})
        0.1
    """
    return max(accuracies, key=lambda rate: (accuracies[rate], -rate))


def top1(result: Result) -> float:
    """Linear evaluation."""
    return float(result["measures"]["linear"]["top1"])
