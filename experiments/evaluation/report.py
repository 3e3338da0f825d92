"""The measures as tables to read and as plain values for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from experiments.evaluation.measures import Measures, SplitMeasures
from experiments.figures.concentration import format_concentration
from experiments.records.record import Cell, Table

_NAMES = {"0%": "smallest κ", "50%": "median of κ", "100%": "largest κ"}


def tables(measures: Measures) -> tuple[Table, Table]:
    """Accuracies on the held-out images, and what is measured on both parts without labels."""
    linear, parts = measures.linear, {"training": measures.train, "held out": measures.held_out}

    def row(show: Callable[[SplitMeasures], str]) -> dict[str, Cell]:
        return {name: Cell(text=show(part)) for name, part in parts.items()}

    percents = {
        "linear, top-1": linear.top1,
        "linear, top-5": linear.top5,
        f"{measures.neighbours} nearest neighbours": measures.knn,
    }
    accuracies = {
        name: {"accuracy": Cell(text="" if accuracy is None else f"{100 * accuracy:.1f} %")}
        for name, accuracy in percents.items()
    }
    rows = {
        "images": row(lambda part: f"{part.images:,}"),
        "standard deviation of outputs": row(lambda part: f"{part.standard_deviation:.3f}"),
        "effective rank of outputs": row(lambda part: f"{part.effective_rank:.1f}"),
    }
    names = {percent: _NAMES.get(percent, f"{percent} of κ below") for percent in measures.train.concentration}
    if all(part.concentration["0%"] == part.concentration["100%"] for part in parts.values()):
        names = {"0%": "κ, a constant of the method"}
    for percent, name in names.items():
        rows[name] = row(lambda part, percent=percent: format_concentration(part.concentration[percent]))  # type: ignore[misc]
    if measures.correctness_auroc is not None:
        rows["κ: AUROC of a right neighbour"] = {"held out": Cell(text=f"{measures.correctness_auroc:.3f}")}
    return Table("", ("accuracy",), accuracies, corner="held-out images"), Table("", tuple(parts), rows)


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
