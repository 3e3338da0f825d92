"""From the options of a command to its runs, and from the runs to a record that is saved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from joblib import cpu_count
from matplotlib.figure import Figure

from experiments.command_line.lock import alone
from experiments.command_line.parser import require_different_names
from experiments.figures import save_figure
from experiments.records.record import FOLDER, Record
from experiments.studies.engine import Result, Study, Workers
from experiments.studies.options import ROWS, RUNS_A_GPU
from experiments.studies.plan import Plan, Scale, rows


def carry_through(
    study: Study,
    options: argparse.Namespace,
    prepare: Callable[[Mapping[str, Result], Sequence[Any]], object],
    workers: Workers,
) -> None:
    """Read what is finished, and do the rest.

    Args:
        study: The runs.
        options: What `StudyParser` has parsed.
        prepare: Checks, before processes start, that the finished results go together, and what the runs that are to
            be done need.
        workers: Where they are done.

    Raises:
        ValueError: If nothing is finished in the end.
    """
    with alone(options.out):
        left, count = study.read(), len(study.everything)
        print(f"{count} runs, of which {count - len(left)} are finished", flush=True)
        to_do = [] if options.table_only else left
        prepare(study.results, to_do)
        if to_do:
            study.work(workers)
    if not study.results:
        why = "".join(f": {failure}" for failure in [*study.failures.values()][:1])
        raise ValueError(f"{options.out} holds no finished run to make a table of{why}")


def planned(options: argparse.Namespace, study: str = "table1", *, tuned: bool = True) -> tuple[Plan, Workers]:
    """The plan that the options ask for, and who does it.

    The precision is bfloat16 on a GPU, and on a CPU where the scale asks for it and the processor computes with it.

    Args:
        options: What `StudyParser` has parsed; gets `record`, the name of the record.
        study: Whose rows.
        tuned: Whether the learning rates are chosen; otherwise they are given.

    Raises:
        ValueError: If sets share a name, rates are missing or too many, or a GPU is requested and there is none.
    """
    scale = Scale.named(options.scale, options.epochs)
    options.record = options.name or (study if scale.name == "full" else f"{study}_{scale.name}")
    sets, fixed, tune_on = tuple(dict.fromkeys(options.data or scale.sets[: None if tuned else 1])), None, None
    require_different_names("--data", sets)
    if tuned:
        tune_on = options.tune_on
        epochs = min(scale.tuning_epochs, scale.base["training.epochs"])
        scale = replace(scale, rates=sorted(set(options.rates or scale.rates)), tuning_epochs=epochs)
    else:
        rates = options.rates or scale.fixed_rates
        if not rates:
            raise ValueError(f"--scale {scale.name} needs --rates: those that python -m experiments.table1 has chosen")
        methods = ROWS["methods"]
        if len(rates) != len(methods):
            raise ValueError(f"--rates must be {len(methods)} numbers, of {' and '.join(methods)}, got {len(rates)}")
        fixed = dict(zip(methods, rates, strict=True))
    machine, workers = _machine(options)
    every = rows(study, scale.base, fixed)
    wanted = options.rows or scale.rows.get(study) or [row.key for row in every if row.scale is None]
    chosen = tuple(row for row in every if row.key in wanted)
    return Plan(scale, chosen, sets, tuple(range(options.seeds)), options.out, machine, tune_on), workers


def _machine(options: argparse.Namespace) -> tuple[dict[str, Any], Workers]:
    gpus = torch.cuda.device_count() if options.device != "cpu" else 0
    if options.device == "gpu" and not gpus:
        raise ValueError("--device gpu: PyTorch sees none here")
    if options.scheduler and options.device == "auto" and not gpus:
        print("This machine has no GPU: all workers train on their CPUs (--device gpu refuses that)")
    here = 0 if options.scheduler else gpus  # that this command shares among its processes
    processors: int = cpu_count()  # type: ignore[no-untyped-call]
    jobs = options.jobs or RUNS_A_GPU * here or (None if options.scheduler else processors)
    # More than one thread on a CPU is slower for networks as small as those that suit it.
    threads = max(1, processors // jobs) if gpus and jobs else 1
    machine = {
        "data.root": options.root,
        "data.download": options.download,
        "data.cache": str(options.out / "cache"),
        "engine.accelerator": "gpu" if gpus else "cpu",
        "engine.threads": threads,
        "checkpoints.every_steps": None,
    }
    if gpus:  # as in experiments/configs/changes/gpu.yaml
        machine |= {"engine.precision": "bf16-mixed", "engine.compile": True}
    elif not torch.cpu._is_avx512_bf16_supported():  # noqa: SLF001  # and there is no public question
        machine |= {"engine.precision": "32"}
    return machine, Workers(jobs, options.scheduler, threads, here)


def save(
    record: Record, figure: Figure, study: Study, options: argparse.Namespace, wide: tuple[int | None, int | None]
) -> int:
    """Print the tables, save record and figure, and name what failed.

    Args:
        record: What came out.
        figure: Its first one.
        study: The runs.
        options: What `StudyParser` has parsed.
        wide: Columns that show their intervals on the terminal: of the first table, of the others; `None` for all.

    Returns:
        The exit status: 0 if every run ended well.
    """
    for note in record.notes:
        print(f"\n{note}")
    for number, table in enumerate(record.tables):
        print(f"\n{table.title}\n\n{table.aligned(wide[number > 0])}\n\n{table.note}")
    saved = []
    for folder in [options.out, *([FOLDER] if options.publish else [])]:
        saved += [save_figure(figure, folder / record.figures[0]), record.save(folder)]
    print("\nSaved " + ", ".join(str(path) for path in saved))
    if options.publish:
        print("Next: python -m experiments.results")
    for name, why in study.failures.items():
        print(f"error: {name} failed: {why}", file=sys.stderr)
    return 1 if study.failures else 0
