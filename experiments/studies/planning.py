"""From rows, data sets and seeds to trainings, each with its configuration and its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.pretraining.configuration import PretrainConfig
from experiments.studies.rows import RECIPES, TUNED, Kind, Method, Row
from experiments.studies.scales import Scale
from inference.judging.linear_probe import ProbeSettings

TUNING_SEED = 1000
"""Apart from those of the table."""

HELD_OUT = 0.2
"""Of the training images of each class, for choosing a learning rate."""


@dataclass(frozen=True)
class Run:
    """A training that is judged.

    Attributes:
        key: `(data set, row, seed)`, or `(data set, method, rate)` while tuning.
        title: For people.
        config: Of the training; `config.out` is the folder.
        probe: Of the linear evaluation.
        kind: Whether there is a training.
    """

    key: tuple[str, str, float]
    title: str
    config: PretrainConfig
    probe: ProbeSettings
    kind: Kind = "trained"


@dataclass(frozen=True)
class Plan:
    """What a table is made of.

    Attributes:
        scale: Size of the trainings.
        rows: Rows of the table.
        sets: Data sets, each a name or a folder.
        seeds: Of the trainings of each row.
        out: Folder of the table.
        machine: Fields of the configuration that belong to the machine: folders of images, device, threads.
    """

    scale: Scale
    rows: tuple[Row, ...]
    sets: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    machine: Mapping[str, Any]

    def tuning(self) -> Iterator[Run]:
        """The trainings that choose the rates: as many for each method, on the training images alone."""
        methods = {row.rate for row in self.rows if row.rate is not None}
        for name in self.sets:
            for rate in self.scale.rates:  # by rates first, so that what fails soon fails for each method
                for method in RECIPES:
                    if method in methods:
                        changes = {
                            **TUNED,
                            "training.learning_rate": rate,
                            "training.epochs": self.scale.tuning_epochs,
                            "data.held_out": HELD_OUT,
                        }
                        folder = self.out / "tuning" / set_label(name) / method / f"{rate:g}"
                        config = self._config(name, method, changes, TUNING_SEED, folder)
                        title = f"{set_label(name)}, tuning {method} at {rate:g}"
                        yield Run((name, method, rate), title, config, self._probe(TUNING_SEED))

    def runs(self, rates: Mapping[tuple[str, Method], float]) -> Iterator[Run]:
        """The trainings of the table, seed after seed, so that a part of them is a table of fewer seeds.

        Args:
            rates: The chosen learning rate by data set and method. Rows whose rate is missing are left out.
        """
        for seed in self.seeds:
            for name in self.sets:
                for row in self.rows:
                    changes = dict(row.changes)
                    if row.rate is not None:
                        if (name, row.rate) not in rates:
                            continue
                        changes["training.learning_rate"] = rates[name, row.rate]
                    folder = self.out / "runs" / set_label(name) / row.key / f"seed_{seed}"
                    config = self._config(name, row.method, changes, seed, folder)
                    title = f"{set_label(name)}, {row.label}, seed {seed}"
                    yield Run((name, row.key, seed), title, config, self._probe(seed), row.kind)

    @property
    def count(self) -> int:
        """Number of runs, those of the tuning among them."""
        return sum(1 for _ in self.tuning()) + len(self.seeds) * len(self.sets) * len(self.rows)

    def settings(self) -> dict[str, Any]:
        """What must stay the same in a folder; rows, sets and seeds may be added."""
        return {
            "scale": self.scale.name,
            "base": dict(self.scale.base),
            "rates": list(self.scale.rates),
            "tuning_epochs": self.scale.tuning_epochs,
            "probe": {**asdict(self.scale.probe), "learning_rates": list(self.scale.probe.learning_rates)},
            "rows": {row.key: {**RECIPES[row.method], **row.changes, "rate of": row.rate} for row in self.rows},
        }

    def _probe(self, seed: int) -> ProbeSettings:
        return ProbeSettings(**{**asdict(self.scale.probe), "seed": seed})

    def _config(self, name: str, method: Method, changes: Mapping[str, Any], seed: int, folder: Path) -> PretrainConfig:
        fields = {"data.name": name, **self.scale.base, **self.machine, **RECIPES[method], **changes}
        return PretrainConfig.from_dict({**nested(fields), "seed": seed, "out": str(folder)})


def set_label(name: str) -> str:
    """Last part of a folder, or the name.

    Example:
        >>> set_label("path/of/flowers"), set_label("imagenette")
        ('flowers', 'imagenette')
    """
    return Path(name).name


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as dictionaries in one another, for `PretrainConfig.from_dict`.

    Example:
        >>> nested({"data.name": "digits", "data.channels": 1, "seed": 3})
        {'data': {'name': 'digits', 'channels': 1}, 'seed': 3}
    """
    made: dict[str, Any] = {}
    for name, value in dotted.items():
        *groups, last = name.split(".")
        place = made
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return made


def chosen_rate(accuracies: Mapping[float, float | None], grid: Sequence[float]) -> float | None:
    """The rate of the highest held-out accuracy, of equally good ones the smallest; `None` where all have failed.

    Example:
        >>> chosen_rate({0.1: 0.5, 0.3: None, 1.0: 0.5}, (0.1, 0.3, 1.0))
        0.1
    """
    known = [(rate, accuracy) for rate in grid if (accuracy := accuracies.get(rate)) is not None]
    return max(known, key=lambda pair: (pair[1], -pair[0]))[0] if known else None


def differing(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, a line each; rows that only one of them has do not count."""
    lines = []
    for name in sorted({*saved, *now}):
        before, after = saved.get(name), now.get(name)
        if name == "rows":
            both = set(saved[name]) & set(now[name])
            before, after = ({key: rows[key] for key in both} for rows in (saved[name], now[name]))
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [
                f"{name}.{entry} was {before.get(entry)!r}, now {after.get(entry)!r}"
                for entry in sorted({*before, *after})
                if before.get(entry) != after.get(entry)
            ]
        else:
            lines.append(f"{name} was {before!r}, now {after!r}")
    return lines
