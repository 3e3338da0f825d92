"""The measurements of a pretraining as Markdown tables and as a record that can be read by a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from experiments.benchmarks import end_to_end, full_run, training_step
from experiments.benchmarks.peers import Skipped
from experiments.benchmarks.report import markdown_table
from experiments.benchmarks.timing import Times


def _with_quartiles(times: Times) -> str:
    first, third = times.quartiles
    return f"{times.median * 1e3:.4g} ({first * 1e3:.4g}–{third * 1e3:.4g})"


def step_table(rows: Sequence[training_step.Row]) -> str:
    """A row for each network and method: times, their ratio and difference, memory."""
    times = ["Pyro, ms (quartiles)", "plain, ms (quartiles)", "ratio", "more, ms", "fastest, ms more"]
    header = ["step", "network", *times, "memory", "holds"]
    shown = [
        [
            row.method,
            row.network,
            _with_quartiles(row.ours),
            _with_quartiles(row.plain),
            f"{row.ours.ratio_to(row.plain):.3f}",
            f"{row.ours.difference_to(row.plain) * 1e3:+.2f}",
            f"{(min(row.ours.measured) - min(row.plain.measured)) * 1e3:+.2f}",
            f"{row.our_memory / row.plain_memory:.3f}",
            "yes" if row.holds else "**no**",
        ]
        for row in rows
    ]
    return markdown_table(header, shown)


def job_table(rows: Sequence[end_to_end.Row]) -> str:
    """A row for each contestant: images a second, and in relation to lightly and to the bare networks."""
    by_name = {row.name: row.times for row in rows}
    shown = []
    for row in rows:
        related = [
            f"{1 / row.times.ratio_to(by_name[name]):.2f}" if name in by_name else "–"
            for name in (end_to_end.LIGHTLY, end_to_end.BARE)
        ]
        shown.append([row.name, f"{row.rate:.4g}", _with_quartiles(row.times), *related])
    return markdown_table(["job", "images/s", "step, ms (quartiles)", "× lightly", "× bare networks"], shown)


def as_markdown(
    steps: Sequence[training_step.Row],
    jobs: Sequence[end_to_end.Row],
    run: full_run.FullRun | None,
    skipped: Sequence[Skipped],
    setting: dict[str, Any],
) -> str:
    """Everything as one page."""
    installed = ", ".join(f"{name} {number}" for name, number in setting["versions"].items())
    quick = "Tiny sizes (--quick): the times mean nothing. " if setting["quick"] else ""
    circumstances = (
        "# Pretraining, side by side\n\n"
        f"{quick}{setting['device']}, threads: {setting['threads']}, commit {setting['commit']}, seed "
        f"{setting['seed']}. Medians of measurements in turns, {setting['clock']}. {installed}."
    )
    parts = [circumstances]
    if steps:
        introduction = (
            "**One training step** (forward, objective, backward, optimiser, target) through the Pyro pair and the KL "
            "objective, and in plain PyTorch. Ratio and difference are medians over the rounds; the difference of the "
            "fastest rounds is what other work on the machine disturbs least. Memory is the ratio of the peaks. "
            f"Required: ratio ≤ {training_step.MOST_RATIO} and memory ≤ {training_step.MOST_MEMORY} with ResNet-18; at "
            f"most {training_step.MOST_DIFFERENCE * 1e3:g} ms more, which shows without a backbone: what surrounds the "
            "networks costs the same before any of them."
        )
        parts += [introduction, step_table(steps)]
    if jobs:
        introduction = (
            f"**SimSiam with ResNet-18, data included**: {setting['view']} pixels, batches of {setting['batch']} "
            f"images with two views, {setting['workers']} loading processes. Images: {setting['images']}."
        )
        parts += [introduction, job_table(jobs)]
    if run is not None:
        knn = "not evaluated" if run.knn is None else f"{run.knn:.1f} %"
        introduction = (
            f"**A whole run** (`{run.command}`): {run.minutes:.1f} minutes, kNN {knn}. Published by lightly for "
            f"SimSiam on ImageNette after 200 epochs: {full_run.LIGHTLYS_MINUTES:g} minutes on an A6000, "
            f"{full_run.LIGHTLYS_KNN} %."
        )
        parts.append(introduction)
    parts += [f"Left out: {peer.name}: {peer.reason}." for peer in skipped]
    return "\n\n".join(parts)


def as_record(
    steps: Sequence[training_step.Row],
    jobs: Sequence[end_to_end.Row],
    run: full_run.FullRun | None,
    skipped: Sequence[Skipped],
    setting: dict[str, Any],
) -> dict[str, Any]:
    """Everything as plain values, with every single measurement."""
    return {
        "setting": setting,
        "steps": [
            {
                **asdict(row),
                "ratio": row.ours.ratio_to(row.plain),
                "difference": row.ours.difference_to(row.plain),
                "holds": row.holds,
            }
            for row in steps
        ],
        "jobs": [{**asdict(row), "images_per_second": row.rate} for row in jobs],
        "run": None if run is None else asdict(run),
        "left out": [asdict(peer) for peer in skipped],
    }
