"""What a run writes down: one table of numbers, which a resumed run continues without a gap or a row twice."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.fitting.checkpointing import replace_file
from inference.fitting.monitoring import History

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "gradient_norm",
    "learning_rate",
    "images_per_second",
    "knn",
    "standard_deviation",
    "effective_rank",
    "kappa_q10",
    "kappa_q50",
    "kappa_q90",
)
"""Columns of metrics.csv; a row is written after `step` steps, and the evaluation's columns are empty in most rows."""

_NAMES_IN_FIGURES = {
    "loss": "loss",
    "knn": "kNN",
    "standard_deviation": "standard deviation",
    "effective_rank": "effective rank",
    "kappa_q10": "κ/q10",
    "kappa_q50": "κ/q50",
    "kappa_q90": "κ/q90",
    "gradient_norm": "gradient norm",
    "images_per_second": "images a second",
}

Row = dict[str, float]


class MetricsTable:
    """metrics.csv: rows are appended, reach the disk when asked, and those after a checkpoint can be taken back.

    Args:
        path: The file.
        after_step: Rows of later steps are removed: the run goes on from there. 0 empties the table.
    """

    def __init__(self, path: Path, after_step: int) -> None:
        self.path = path
        kept = [row for row in read_rows(path) if row["step"] <= after_step] if after_step else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in kept)
        replace_file(path, lambda temporary: _write(temporary, text.getvalue()))
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; it can be read at once."""
        self._writer.writerow(_cells(row))
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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    rows = []
    for cells in csv.DictReader(io.StringIO(whole)):
        row = {name: float(value) for name, value in cells.items() if value}
        rows.append(row)
    return rows


def history(rows: list[Row]) -> History:
    """Series of a table by the names that figures show, over epochs."""
    series: History = {}
    for name, shown in _NAMES_IN_FIGURES.items():
        pairs: list[Any] = [(row["epoch"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        if pairs:
            series[shown] = pairs
    return series


def _cells(row: Mapping[str, float]) -> list[str]:
    unknown = set(row) - set(COLUMNS)
    assert not unknown, unknown  # noqa: S101  # our own rows
    return [_number(row[name]) if name in row else "" for name in COLUMNS]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
