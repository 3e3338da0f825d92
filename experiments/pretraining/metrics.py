"""What a run writes down: one table of numbers, which a resumed run continues without a gap or a row twice."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from experiments.pretraining.configuration import PretrainConfig
from inference.fitting.checkpointing import replace_text
from inference.fitting.finiteness import StepValues
from inference.fitting.stepwise import StepwiseLearner
from ssl_as_inference.special import von_mises_fisher_log_normalizer

_SHOWN: dict[str, str | None] = {
    "step": None,
    "epoch": None,
    "loss": "loss",
    "gradient_norm": "gradient norm",
    "learning_rate": None,
    "images_per_second": "images a second",
    "knn": "kNN",
    "standard_deviation": "standard deviation",
    "effective_rank": "effective rank",
    "kappa_q10": "κ/q10",
    "kappa_q50": "κ/q50",
    "kappa_q90": "κ/q90",
}
COLUMNS = tuple(_SHOWN)
"""Columns of metrics.csv; a row is written after `step` steps, and the evaluation's columns are empty in most rows."""

Row = dict[str, float]
History = dict[str, list[tuple[int, float]]]
"""Series name to its (epoch, value) pairs, in order."""


def step_row(learner: StepwiseLearner, read: Sequence[StepValues], steps_per_epoch: int, rate: float) -> Row:
    """The row after the learner's latest step, without an evaluation.

    Args:
        learner: What is trained.
        read: Of the steps since the last row.
        steps_per_epoch: Steps of an epoch.
        rate: Images a second.
    """
    return {
        "step": learner.step,
        "epoch": learner.step / steps_per_epoch,
        "loss": sum(values.loss for values in read) / len(read),
        "gradient_norm": sum(values.gradient_norm for values in read) / len(read),
        "learning_rate": learner.schedule(learner.step - 1),
        "images_per_second": rate,
    }


class MetricsTable:
    """metrics.csv: rows are appended, reach the disk when asked, and those after a checkpoint can be taken back.

    Args:
        path: The file.
        after_step: Rows of later steps are removed: the run goes on from there. 0 empties the table.

    Raises:
        ValueError: If the file is there, and is no such table.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        with _naming(path):
            kept = [line for line in _whole_lines(path)[1:] if float(line.split(",")[0]) <= after_step]
        replace_text(path, "".join([",".join(COLUMNS) + "\n", *kept]))
        self._file = path.open("a", encoding="utf-8", newline="")

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; it can be read at once."""
        csv.DictWriter(self._file, COLUMNS, lineterminator="\n").writerow(row)
        self._file.flush()

    def to_disk(self) -> None:
        """Wait until every row is safe: before a checkpoint that counts on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more rows."""
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """The whole rows of a metrics.csv, without a last one that a crash cut off; none where there is no file.

    Raises:
        ValueError: If the file is no such table.
    """
    with _naming(path):
        rows = csv.DictReader(_whole_lines(path))
        return [{name: float(value) for name, value in cells.items() if value} for cells in rows]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the table of a run: {error}") from error


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def history(rows: list[Row], config: PretrainConfig) -> History:
    """Series of a table by the names that figures show, over epochs."""
    series: History = {}
    for name, shown in {**_SHOWN, "loss": readable_loss(config, 0.0)[0]}.items():
        pairs: list[Any] = [(row["epoch"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        if name == "loss":
            pairs = [(epoch, readable_loss(config, loss)[1]) for epoch, loss in pairs]
        if shown is not None and pairs:
            series[shown] = pairs
    return series


def readable_loss(config: PretrainConfig, loss: float) -> tuple[str, float]:
    """Name and value to show: of SimSiam with two views the mean cosine between prediction and target, else the loss.

    That loss is −κ·cosine − log C(κ) a view (C9), whose large constant would hide the cosine.
    """
    method, objective, views = config.method, config.objective, config.views.count
    plain = objective.pairs == "cross" and objective.weight == "one" and not objective.normalized
    if method.name != "simsiam" or views != 2 or not plain:
        return "loss", loss
    nats = loss * (method.dim - 1 if objective.nats_per == "dimension" else 1)
    a_view = nats / (views if objective.over_views == "sum" else 1)
    log_c = von_mises_fisher_log_normalizer(method.dim, torch.tensor(method.concentration, dtype=torch.float64))
    return "cosine", -(a_view + float(log_c)) / method.concentration
