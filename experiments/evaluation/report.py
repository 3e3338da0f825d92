"""What the commands print: the measures of `experiments.evaluate` as lines, and a record with its tables."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.evaluation.measures import Measures
from experiments.figures.concentration import format_concentration
from experiments.records.record import Record

_NAMES = {"0%": "smallest κ", "50%": "median of κ", "100%": "largest κ"}


Lines = list[list[str]]


def tables(measures: Measures) -> tuple[Lines, Lines]:
    """Accuracies on the held-out images, and what is measured on both parts without labels; lines of text."""
    linear, knn, parts = measures["linear"], measures["knn"], (measures["train"], measures["held_out"])
    accuracies = {
        "held-out images": "accuracy",
        "linear, top-1": f"{100 * linear['top1']:.1f} %",
        "linear, top-5": "–" if linear["top5"] is None else f"{100 * linear['top5']:.1f} %",
        f"{knn['k']} nearest neighbours": f"{100 * knn['accuracy']:.1f} %",
    }
    rows = [
        ["", "training", "held out"],
        ["images", *(f"{part['images']:,}" for part in parts)],
        ["standard deviation of outputs", *(f"{part['standard_deviation']:.3f}" for part in parts)],
        ["effective rank of outputs", *(f"{part['effective_rank']:.1f}" for part in parts)],
    ]
    kappa = [part["concentration"] for part in parts]
    names = {percent: _NAMES.get(percent, f"{percent} of κ below") for percent in kappa[0]}
    if all(of["0%"] == of["100%"] for of in kappa):
        names = {"0%": "κ, a constant of the method"}
    rows += [[name, *(format_concentration(of[percent]) for of in kappa)] for percent, name in names.items()]
    if measures["correctness_auroc"] is not None:
        rows.append(["κ: AUROC of a right neighbour", "–", f"{measures['correctness_auroc']:.3f}"])
    return [list(row) for row in accuracies.items()], rows


def require_no_other_record(options: Namespace, about: Mapping[str, Any]) -> None:
    """Refuse to write over a record of something else, before it takes hours.

    Args:
        options: Folder and name of the record.
        about: Of its configuration, as plain JSON, what may not differ: encoders and images.

    Raises:
        ValueError: If there is one, or something that is none.
    """
    file = options.out / f"{options.name}.json"
    if not file.exists():
        return
    known = Record.load(file)
    if any(known.configuration.get(name) != value for name, value in about.items()):
        raise ValueError(
            f"{file} holds what another encoder or other images gave (`{known.command}`): give another --name or --out"
        )


def publish(record: Record, saved: Sequence[Path], started: float) -> int:
    """Print what a record says, where it was saved and how long all took; returns the exit status of success."""
    for text in record.notes:
        print(f"\n{text}")
    for table in record.tables:
        print(f"\n{table.title}\n\n{table.aligned(2)}\n\n{table.note}")
    print(f"\nSaved {', '.join(map(str, saved))}\nDone in {time.monotonic() - started:.0f} s")
    return 0
