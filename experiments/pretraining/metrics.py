"""What a run writes down: one table of numbers, which a resumed run continues without a gap or a row twice."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.pretraining.configuration import PretrainConfig
from inference.fitting.checkpointing import replace_text
from inference.fitting.monitoring import History
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


class MetricsTable:
    """metrics.csv: rows are appended, reach the disk when asked, and those after a checkpoint can be taken back.

    Args:
        path: The file.
        after_step: Rows of later steps are removed: the run goes on from there. 0 empties the table.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        kept = [row for row in read_rows(path) if row["step"] <= after_step] if after_step else []
        lines = [",".join(COLUMNS), *(_line(row) for row in kept), ""]
        replace_text(path, "\n".join(lines))
        self._file = path.open("a", encoding="utf-8", newline="")

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; it can be read at once."""
        self._file.write(_line(row) + "\n")
        self._file.flush()

    def to_disk(self) -> None:
        """Wait until every row is safe: before a checkpoint that counts on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more rows."""
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """The whole rows of a metrics.csv, without a last one that a crash cut off; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = csv.DictReader(line for line in lines if line.endswith("\n"))
    return [{name: float(value) for name, value in cells.items() if value} for cells in whole]


def history(rows: list[Row], config: PretrainConfig) -> History:
    """Series of a table by the names that figures show, over epochs."""
    series: History = {}
    for name, shown in _SHOWN.items():
        pairs: list[Any] = [(row["epoch"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        if name == "loss":
            said = [(epoch, *readable_loss(config, loss)) for epoch, loss in pairs]
            series |= {shown: [(epoch, value) for epoch, _, value in said] for _, shown, _ in said[:1]}
        elif shown is not None and pairs:
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


def _line(row: Mapping[str, float]) -> str:
    assert row.keys() <= _SHOWN.keys(), row  # noqa: S101  # our own rows
    return ",".join(_number(row[name]) if name in row else "" for name in COLUMNS)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
