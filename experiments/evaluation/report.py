"""The measures as tables to read and as a record for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from experiments.evaluation.measures import Measures, SplitMeasures
from experiments.figures.concentration import format_concentration

_NOTHING = "–"


def format_measures(measures: Measures) -> str:
    """Two Markdown tables: accuracies on the held-out images, and what is measured on both parts without labels."""
    linear = measures.linear
    accuracies = [
        ["held-out images", "accuracy"],
        ["linear, top-1", _percent(linear.top1)],
        ["linear, top-5", _NOTHING if linear.top5 is None else _percent(linear.top5)],
        [f"{measures.neighbours} nearest neighbours", _percent(measures.knn)],
    ]
    splits = (measures.train, measures.held_out)
    parts = [
        ["", "training", "held out"],
        ["images", *(f"{split.images:,}" for split in splits)],
        ["standard deviation of outputs", *(f"{split.standard_deviation:.3f}" for split in splits)],
        ["effective rank of outputs", *(f"{split.effective_rank:.1f}" for split in splits)],
        *_concentrations(splits),
    ]
    if measures.correctness_auroc is not None:
        parts.append(["κ: AUROC of a right neighbour", _NOTHING, f"{measures.correctness_auroc:.3f}"])
    return f"{_table(accuracies)}\n\n{_table(parts)}"


def record(measures: Measures) -> dict[str, Any]:
    """The measures as plain values."""
    linear = measures.linear
    return {
        "linear": {
            "top1": linear.top1,
            "top5": linear.top5,
            "learning_rate": linear.learning_rate,
            "held_out_accuracy": {str(rate): accuracy for rate, accuracy in linear.held_out_accuracy.items()},
        },
        "knn": {"k": measures.neighbours, "temperature": 0.07, "accuracy": measures.knn},
        "correctness_auroc": measures.correctness_auroc,
        "train": asdict(measures.train),
        "held_out": asdict(measures.held_out),
    }


def _concentrations(splits: tuple[SplitMeasures, SplitMeasures]) -> list[list[str]]:
    if all(split.concentration["0%"] == split.concentration["100%"] for split in splits):
        return [["κ, a constant of the method", *(format_concentration(split.concentration["0%"]) for split in splits)]]
    names = {"0%": "smallest κ", "50%": "median of κ", "100%": "largest κ"}
    return [
        [names.get(percent, f"{percent} of κ below"), *(format_concentration(s.concentration[percent]) for s in splits)]
        for percent in splits[0].concentration
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    lines.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    return "\n".join(lines)
