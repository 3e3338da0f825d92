"""The comparison of `python -m experiments.recover`, from two trainings to table, figure and record."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from experiments.figures import recovery_figure, save_figure
from experiments.records.record import Cell, Record, Table
from experiments.special_cases.methods import SIZES, Size, byol, simsiam, vi_simsiam
from experiments.special_cases.negative_results import compared
from experiments.special_cases.recovery import TOLERANCES, Step, Training, is_recovered, largest_differences
from experiments.verification import ledger, trajectories
from experiments.verification.lab import Lab
from experiments.verification.report import plain


@dataclass(frozen=True)
class Method:
    """A method that is recovered.

    Attributes:
        name: For people.
        affine_map: How the two losses are related.
        trainings: The pair's training and the published one.
        limits: Numbers of the claims about what it is not and what breaks it, which are checked afterwards.
    """

    name: str
    affine_map: str
    trainings: Callable[[Size, int], tuple[Training, Training]]
    limits: tuple[str, ...] = ()


METHODS = {
    "simsiam": Method("SimSiam", "SimSiam's loss = objective / 2 + log C(1), an image", simsiam, ("C11", "C28")),
    "byol": Method("BYOL", "BYOL's loss = 2 × objective + 4 log C(1) + 4, an image", byol, ("C26",)),
    "vi_simsiam": Method("VI-SimSiam", "Algorithm 1 = objective, an image; both divided by d - 1", vi_simsiam),
}
"""By their names on the command line."""


def run(options: argparse.Namespace) -> int:
    """Train both, report, and return the exit status: 0 if everything agrees, 1 if not."""
    method, size = METHODS[options.method], SIZES[options.backbone]
    if options.learning_rate is not None:
        size = replace(size, sgd=replace(size.sgd, learning_rate=options.learning_rate))
    print(
        f"{method.name} as a model/guide pair, and as published: {options.backbone} backbone, {options.steps} steps of "
        f"{size.batch_size} digits, float64\nCompared after the map {method.affine_map}\n"
    )
    steps = compared(method.trainings(size, options.seed), size, options.steps, options.seed, method.name)
    table = difference_table(steps)
    print(f"\n{table.aligned()}\n")
    lab = Lab(seed=options.seed)
    limits = [ledger.run(claim, lab) for claim in ledger.claims_of(trajectories) if claim.id in method.limits]
    for limit in limits:
        verdict = "holds" if limit.passed else "FAILS"
        print(f"{verdict}: {limit.claim.id} {plain(limit.claim.statement, 200)}\n       {limit.outcome.detail}")
    recovered = is_recovered(steps)
    figure = recovery_figure(
        {
            f"{method.name}, pair under the KL objective": [step.ours for step in steps],
            f"{method.name}, published algorithm": [step.published for step in steps],
        },
        {name: [getattr(step, name) for step in steps] for name in TOLERANCES},
        TOLERANCES,
    )
    name, folder = f"{options.method}_{options.backbone}", options.out
    record = Record(
        name,
        f"{method.name} recovered, {options.backbone}",
        options.command,
        {"map": method.affine_map, "allowed": TOLERANCES, "learning rate": size.sgd.learning_rate},
        (options.seed,),
        (table,),
        figures=(f"{name}.png",),
        details={
            "recovered": recovered,
            "limits": [{"claim": one.claim.id, "holds": one.passed, **asdict(one.outcome)} for one in limits],
            "steps": [asdict(step) for step in steps],
        },
    )
    print("Saved:", record.save(folder), save_figure(figure, folder / record.figures[0]), sep="\n  ")
    print(f"\n{method.name} {'is' if recovered else 'is NOT'} recovered within the tolerances.")
    return 0 if recovered and all(limit.passed for limit in limits) else 1


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
