"""What the three recover commands share: options, the run with its progress bar, table, figure and record."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyro
import torch
from tqdm import tqdm

import ssl_as_inference
from experiments.command_line.parser import CommandLineParser, positive_number, whole_number, writable_folder
from experiments.figures import recovery_figure, save_figure
from experiments.special_cases.methods import SIZES, Size
from experiments.special_cases.recovery import (
    TOLERANCES,
    Step,
    Training,
    digit_views,
    is_recovered,
    largest_differences,
    steps_of,
)

HEADINGS = {
    "loss": "loss, every step",
    "gradient": "gradient, every step",
    "weights": "weights, every step",
    "buffers": "batch-normalisation buffers, every step",
}


@dataclass(frozen=True)
class Options:
    """What the command line of a recover command gives."""

    backbone: str
    steps: int
    seed: int
    out: Path
    learning_rate: float | None

    @property
    def size(self) -> Size:
        """The networks of the comparison, with the learning rate that is asked for."""
        size = SIZES[self.backbone]
        return (
            size
            if self.learning_rate is None
            else replace(size, sgd=replace(size.sgd, learning_rate=self.learning_rate))
        )


@dataclass(frozen=True)
class Finding:
    """A negative result or a limit: what was expected, what was measured, and whether they agree."""

    statement: str
    measured: str
    holds: bool


def parse(name: str, description: str | None, arguments: Sequence[str] | None) -> Options:
    """Options of `python -m experiments.NAME`."""
    parser = CommandLineParser(prog=f"python -m experiments.{name}", description=description)
    parser.add_argument("--backbone", choices=list(SIZES), default="small", help="resnet18 takes minutes")
    parser.add_argument("--steps", type=whole_number(1), default=100, help="steps of momentum SGD")
    parser.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="of weights and views")
    parser.add_argument(
        "--learning-rate",
        type=positive_number,
        help="of momentum SGD; without it 0.05 for the small network and SimSiam's 0.05 × batch / 256 for resnet18",
    )
    parser.add_argument("--out", type=writable_folder, default=f"runs/{name}", help="folder for what is saved")
    options = parser.parse_args(arguments)
    return Options(options.backbone, options.steps, options.seed, options.out, options.learning_rate)


def run(
    name: str,
    method: str,
    affine_map: str,
    make: Callable[[Size, int], tuple[Training, Training]],
    options: Options,
    findings: Callable[[Options], Sequence[Finding]] = lambda _: (),
) -> int:
    """Train both, report, and return the exit status: 0 if everything agrees, 1 if not."""
    size = options.size
    print(
        f"{method} as a model/guide pair, and as published: {options.backbone} backbone, {options.steps} steps of "
        f"{size.batch_size} digits, float64"
    )
    print(f"Compared after the map {affine_map}\n")
    ours, published = make(size, options.seed)
    batches = digit_views(options.steps, batch_size=size.batch_size, seed=options.seed, pixels=size.pixels)
    steps = list(steps_of(ours, published, tqdm(batches, total=options.steps, desc=method, unit="step")))
    table = difference_table(steps)
    print(f"\n{table}\n")
    found = list(findings(options))
    for finding in found:
        print(f"{'holds' if finding.holds else 'FAILS'}: {finding.statement}\n       {finding.measured}")
    saved = _save(name, method, affine_map, steps, found, options)
    print("Saved:", *(f"  {path}" for path in saved), sep="\n")
    good = is_recovered(steps) and all(finding.holds for finding in found)
    print(f"\n{method} {'is' if is_recovered(steps) else 'is NOT'} recovered within the tolerances.")
    return 0 if good else 1


def difference_table(steps: Sequence[Step]) -> str:
    """The largest differences beside what is allowed, as a Markdown table."""
    rows = [("largest absolute difference", "measured", "allowed", "verdict")]
    for quantity, value in largest_differences(steps).items():
        allowed = TOLERANCES[quantity]
        verdict = "agrees" if value <= allowed else "DIFFERS"
        rows.append((HEADINGS[quantity], f"{value:.1e}", f"{allowed:.0e}", verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _save(
    name: str, method: str, affine_map: str, steps: Sequence[Step], findings: Sequence[Finding], options: Options
) -> list[Path]:
    record = {
        "command": f"python -m experiments.{name} --backbone {options.backbone} --steps {options.steps} "
        f"--seed {options.seed} --learning-rate {options.size.sgd.learning_rate}",
        "versions": {
            "ssl-as-inference": ssl_as_inference.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pyro-ppl": pyro.__version__,
        },
        "map": affine_map,
        "largest differences": largest_differences(steps),
        "allowed": TOLERANCES,
        "recovered": is_recovered(steps),
        "findings": [asdict(finding) for finding in findings],
        "steps": [asdict(step) for step in steps],
    }
    numbers = options.out / f"{options.backbone}.json"
    numbers.write_text(json.dumps(record, indent=1), encoding="utf-8")
    differences: Mapping[str, Sequence[float]] = {key: [asdict(step)[key] for step in steps] for key in TOLERANCES}
    losses = {
        f"{method}, pair under the KL objective": [step.ours for step in steps],
        f"{method}, published algorithm": [step.published for step in steps],
    }
    figure = recovery_figure(losses, differences, TOLERANCES)
    return [numbers, save_figure(figure, options.out / f"{options.backbone}.png")]
