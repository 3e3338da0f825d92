"""The comparison of `python -m experiments.recover`, from two trainings to table, figure and record."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from experiments.figures import recovery_figure, save_figure
from experiments.records.environment import typed_command
from experiments.records.record import Cell, Record, Table
from experiments.special_cases.findings import (
    Finding,
    ends_of_the_moving_average,
    power_spherical_is_not_simsiam,
    what_collapses,
)
from experiments.special_cases.methods import SIZES, Size, byol, simsiam, vi_simsiam
from experiments.special_cases.recovery import (
    TOLERANCES,
    Step,
    Training,
    digit_views,
    is_recovered,
    largest_differences,
    steps_of,
)

_HEADINGS = {
    "loss": "loss, every step",
    "gradient": "gradient, every step",
    "weights": "weights, every step",
    "buffers": "batch-normalisation buffers, every step",
}


@dataclass(frozen=True)
class Method:
    """A method that is recovered.

    Attributes:
        name: For people.
        affine_map: How the two losses are related.
        trainings: The pair's training and the published one.
        findings: What is measured afterwards, from a seed.
    """

    name: str
    affine_map: str
    trainings: Callable[[Size, int], tuple[Training, Training]]
    findings: Callable[[int], Sequence[Finding]] = lambda _: ()


METHODS = {
    "simsiam": Method(
        "SimSiam",
        "SimSiam's loss = objective / 2 + log C(1), an image",
        simsiam,
        lambda seed: [*power_spherical_is_not_simsiam(seed), *what_collapses()],
    ),
    "byol": Method("BYOL", "BYOL's loss = 2 × objective + 4 log C(1) + 4, an image", byol, ends_of_the_moving_average),
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
    batches = digit_views(options.steps, batch_size=size.batch_size, seed=options.seed, pixels=size.pixels)
    bar = tqdm(batches, total=options.steps, desc=method.name, unit="step")
    steps = list(steps_of(*method.trainings(size, options.seed), bar))
    table = difference_table(steps)
    print(f"\n{table.aligned()}\n")
    findings = list(method.findings(options.seed))
    for finding in findings:
        print(f"{'holds' if finding.holds else 'FAILS'}: {finding.statement}\n       {finding.measured}")
    recovered = is_recovered(steps)
    figure = recovery_figure(
        {
            f"{method.name}, pair under the KL objective": [step.ours for step in steps],
            f"{method.name}, published algorithm": [step.published for step in steps],
        },
        {name: [getattr(step, name) for step in steps] for name in TOLERANCES},
        TOLERANCES,
    )
    name = f"{options.method}_{options.backbone}"
    folder: Path = options.out
    typed = [options.method]
    for option in ("backbone", "steps", "seed"):
        typed += [f"--{option}", str(getattr(options, option))]
    record = Record(
        name,
        f"{method.name} recovered, {options.backbone}",
        typed_command("experiments.recover", [*typed, "--learning-rate", str(size.sgd.learning_rate)]),
        {"map": method.affine_map, "allowed": TOLERANCES},
        (options.seed,),
        (table,),
        figures=(f"{name}.png",),
        details={
            "recovered": recovered,
            "findings": [asdict(finding) for finding in findings],
            "steps": [asdict(step) for step in steps],
        },
    )
    print("Saved:", f"  {record.save(folder)}", f"  {save_figure(figure, folder / record.figures[0])}", sep="\n")
    print(f"\n{method.name} {'is' if recovered else 'is NOT'} recovered within the tolerances.")
    return 0 if recovered and all(finding.holds for finding in findings) else 1


def difference_table(steps: Sequence[Step]) -> Table:
    """The largest differences beside what is allowed."""
    rows = {
        _HEADINGS[name]: {
            "measured": Cell(value, form=".1e"),
            "allowed": Cell(TOLERANCES[name], form=".0e"),
            "verdict": Cell(text="agrees" if value <= TOLERANCES[name] else "DIFFERS"),
        }
        for name, value in largest_differences(steps).items()
    }
    return Table("Differences", ("measured", "allowed", "verdict"), rows, corner="largest absolute difference")
