"""The comparison of `python -m experiments.recover`, from two trainings to table, figure and record."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

import torch

from experiments.figures import save_figure
from experiments.figures.recovery import recovery_figure
from experiments.records.environment import describe_device
from experiments.records.record import Cell, Record, Table
from experiments.special_cases.methods import SIZES, byol, simsiam, vi_simsiam
from experiments.special_cases.negative_results import compared
from experiments.special_cases.recovery import TOLERANCES, Step, is_recovered, largest_differences

METHODS = {
    "simsiam": ("SimSiam", "SimSiam's loss = objective / 2 + log C(1), an image", simsiam),
    "byol": ("BYOL", "BYOL's loss = 2 × objective + 4 log C(1) + 4, an image", byol),
    "vi_simsiam": ("VI-SimSiam", "Algorithm 1 = objective, an image; both divided by d - 1", vi_simsiam),
}
"""By their names on the command line: the name for people, how the two losses are related, the two trainings."""


def run(options: argparse.Namespace) -> int:
    """Train both, report, and return the exit status: 0 if everything agrees, 1 if not."""
    (method, affine_map, trainings), size = METHODS[options.method], SIZES[options.backbone]
    print(
        f"{method} as a model/guide pair, and as published: {options.backbone} backbone, {options.steps} steps of "
        f"{size.batch_size} digits, float64\nCompared after the map {affine_map}\n"
    )
    steps = compared(trainings(size, options.seed), size, options.steps, options.seed, method)
    table, recovered = difference_table(steps), is_recovered(steps)
    print(f"\n{table.aligned()}\n")
    name, folder = f"{options.method}_{options.backbone}", options.out
    record = Record(
        name,
        f"{method} recovered, {options.backbone}",
        options.command,
        {"map": affine_map, "allowed": TOLERANCES, "learning rate": size.sgd.learning_rate},
        (options.seed,),
        (table,),
        figures=(f"{name}.png",),
        device=describe_device(torch.device("cpu")),
        details={"recovered": recovered, "steps": [asdict(step) for step in steps]},
    )
    print(
        "Saved:",
        record.save(folder),
        save_figure(recovery_figure(method, steps), folder / record.figures[0]),
        sep="\n  ",
    )
    print(f"\n{method} {'is' if recovered else 'is NOT'} recovered within the tolerances.")
    return 0 if recovered else 1


def difference_table(steps: Sequence[Step]) -> Table:
    """The largest differences beside what is allowed."""
    rows = {
        f"{name}, every step": {
            "measured": Cell(value, form=".1e"),
            "allowed": Cell(TOLERANCES[name], form=".0e"),
            "verdict": Cell(text="agrees" if value <= TOLERANCES[name] else "DIFFERS"),
        }
        for name, value in largest_differences(steps).items()
    }
    return Table("Differences", ("measured", "allowed", "verdict"), rows, corner="largest absolute difference")
