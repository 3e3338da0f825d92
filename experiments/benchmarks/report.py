"""The measurements as Markdown tables and as a record that can be read by a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median_high
from typing import Any

from experiments.benchmarks import log_prob_speed, sampling_speed
from experiments.benchmarks.accuracy import COLUMNS, Cell
from experiments.benchmarks.peers import Skipped
from experiments.benchmarks.peers.compiled import COMPILED
from experiments.benchmarks.timing import Times

PACKAGES = (
    "ssl-as-inference",
    "torch",
    "pyro-ppl",
    "numpy",
    "scipy",
    "mpmath",
    "jax",
    "tensorflow-probability",
    "power-spherical",
)
"""What the measured times and errors depend on."""

_NOTHING = "–"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its first column to the left and all others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    return "\n".join([*lines, *["| " + " | ".join(row) + " |" for row in rows]])


def milliseconds(times: Times) -> str:
    """Median of the times with three digits."""
    value = times.median * 1e3
    return f"{value:.3g}" if value < 1e3 else f"{value:.0f}"


def _number(value: float, form: str) -> str:
    return _NOTHING if math.isnan(value) else format(value, form)


def log_prob_table(rows: Sequence[log_prob_speed.Row]) -> str:
    """Columns: time and ratio to the bare dot product for each dimension, largest error of a value over them."""
    dims = sorted({row.dim for row in rows})
    settings = list(dict.fromkeys((row.family, row.library, row.per_sample) for row in rows))
    shown = []
    for family, library, per_sample in settings:
        cells = [library, family or _NOTHING, "one per point, ∂κ" if per_sample else "constant"]
        errors = []
        for dim in dims:
            setting = {row.library + row.family: row for row in rows if (row.dim, row.per_sample) == (dim, per_sample)}
            row, baseline = setting[library + family], setting[log_prob_speed.DOT_PRODUCT]
            if row.times is None or baseline.times is None:
                break
            cells += [milliseconds(row.times), f"{row.times.ratio_to(baseline.times):.2f}"]
            errors.append(row.error)
        else:
            shown.append([*cells, _number(max(errors), ".0e")])
    header = [text for dim in dims for text in (f"d = {dim}, ms", "ratio")]
    return markdown_table(["forward and backward of log_prob", "law", "κ", *header, "error"], shown)


def sampling_table(rows: Sequence[sampling_speed.Row]) -> str:
    """Columns: time and z-score of the mean for each dimension, largest deviation of a length from 1 over them."""
    dims = sorted({row.dim for row in rows})
    shown = []
    for family, library in dict.fromkeys((row.family, row.library) for row in rows):
        mine = {row.dim: row for row in rows if (row.family, row.library) == (family, library)}
        cells = [library, family]
        for dim in dims:
            times = mine[dim].times
            if times is None:
                break
            z_score = f"{mine[dim].z_score:+.1f}"
            cells += [milliseconds(times), z_score if mine[dim].correct else f"**{z_score}, wrong**"]
        else:
            shown.append([*cells, f"{max(row.off_sphere for row in mine.values()):.0e}"])
    header = [text for dim in dims for text in (f"d = {dim}, ms", "z-score")]
    return markdown_table(["sampling", "law", *header, "off the sphere"], shown)


def accuracy_table(cells: dict[tuple[str, str], dict[str, Cell]]) -> str:
    """A row for each law and library, the columns of `accuracy.COLUMNS`."""
    shown = [
        [library, family, *[str(row.get(title, _NOTHING)) for title in COLUMNS]]
        for (library, family), row in cells.items()
    ]
    return markdown_table(["largest error", "law", *COLUMNS], shown)


def relative_accuracy_table(cells: dict[tuple[str, str], dict[str, Cell]]) -> str:
    """The quantities that are small with κ, their errors relative to themselves."""
    titles = ("−(log C)′", "−(log C)″", "KL to uniform")
    shown = [
        [library, family, *[row[title].show(row[title].relative) for title in titles]]
        for (library, family), row in cells.items()
        if set(titles) <= set(row)
    ]
    return markdown_table(["largest relative error", "law", *titles], shown)


def summary_table(
    log_prob: Sequence[log_prob_speed.Row],
    sampling: Sequence[sampling_speed.Row],
    cells: dict[tuple[str, str], dict[str, Cell]],
) -> str:
    """What matters of the three tables, a row for each law and library: first and last dimension, one κ per point."""
    densities = {(row.library, row.family, row.dim): row.times for row in log_prob if row.per_sample}
    draws = {(row.library, row.family, row.dim): row.times for row in sampling if row.correct}
    low, high = min(row.dim for row in log_prob), max(row.dim for row in log_prob)
    middle = median_high({row.dim for row in sampling})
    baseline = densities[log_prob_speed.DOT_PRODUCT, "", high]
    accuracies = ("log C, float64", "log C, float32", "KL to uniform")

    def ratio(times: Times | None) -> str:
        return f"{times.ratio_to(baseline):.2f}" if times and baseline else _NOTHING

    def duration(times: Times | None) -> str:
        return milliseconds(times) if times else _NOTHING

    shown = []
    for (library, family), row in cells.items():
        variants = [library, f"{library}{COMPILED}"]
        columns = [duration(densities.get((variant, family, low))) for variant in variants]
        columns += [ratio(densities.get((variant, family, high))) for variant in variants]
        columns += [duration(draws.get((library, family, middle)))]
        shown.append([library, family, *columns, *[str(row.get(title, _NOTHING)) for title in accuracies]])
    header = [f"log p and slopes, d = {low}, ms", "compiled", f"÷ dot product, d = {high}", "compiled"]
    return markdown_table(["", "law", *header, f"draws, d = {middle}, ms", *accuracies], shown)


def left_out(skipped: Sequence[Skipped], rows: Sequence[log_prob_speed.Row | sampling_speed.Row]) -> list[str]:
    """A line for each peer that took no part, or not in everything."""
    names = {log_prob_speed.Row: "log_prob", sampling_speed.Row: "sampling"}
    lines = [f"{peer.name}: {peer.reason}" for peer in skipped]
    lines += [f"{row.library} ({row.family}) in {names[type(row)]}: {row.remark}" for row in rows if row.remark]
    return [*dict.fromkeys(lines)]


def record(row: log_prob_speed.Row | sampling_speed.Row | Cell) -> dict[str, Any]:
    """A row or cell as plain values; what is not a number becomes null."""
    plain = asdict(row)
    if "times" in plain:
        times = plain.pop("times")
        plain["seconds"] = times and list(times["seconds"])
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in plain.items()}
