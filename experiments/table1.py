"""Table 1 of the paper with the controls that separate causes: SimSiam and VI-SimSiam under linear evaluation.

Each method takes the learning rate that does best on held-out training images; every row is trained with several seeds
and judged once, after its last epoch, on the validation images. The folder --out holds every run: a command that was
stopped goes on where it was when it is given again, and rows, sets and seeds can be added. It begins by timing a few
steps and says how long it will take. --scale full is the size of the paper and wants a GPU; --scale small gives a
complete small table on a CPU.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.accuracy_table.planning import Plan, Run, differing, set_label
from experiments.accuracy_table.rows import rows
from experiments.accuracy_table.scales import SCALES
from experiments.accuracy_table.timing import Expected, words
from experiments.command_line import CommandLineParser, positive_number, whole_number, writable_folder
from experiments.environment import typed_command
from experiments.record import FOLDER

_PROGRAM = "python -m experiments.table1"
_SETTINGS = "settings.json"
_RUNS_A_GPU = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    try:
        plan = _plan(options)
        with _alone(options.out), _terminated_like_interrupted():
            _keep_settings(plan)
            return _run(plan, options, typed_command("experiments.table1", given))
    except (ValueError, OSError) as error:
        return parser.fail(error)
    except KeyboardInterrupt:
        print(f"\n{_PROGRAM}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def _parser() -> CommandLineParser:
    parser = CommandLineParser(prog=_PROGRAM, description=__doc__)
    keys = [row.key for row in rows(2)]
    parser.add_argument("--scale", choices=[*SCALES], default="full", help="size of the trainings; tiny is for tests")
    parser.add_argument(
        "--data", nargs="+", metavar="SET", help="names or folders; default: imagenette imagewoof, or cifar10 if small"
    )
    parser.add_argument("--root", default="data", help="folder of the named sets")
    parser.add_argument("--download", action="store_true", help="fetch a named set that is missing")
    parser.add_argument("--rows", nargs="+", choices=keys, metavar="ROW", help=f"some of {', '.join(keys)}")
    parser.add_argument("--seeds", type=whole_number(1), default=3, help="number of seeds, counted from 0")
    parser.add_argument(
        "--rates", nargs="+", type=positive_number, help="learning rates that each method chooses among"
    )
    parser.add_argument("--epochs", type=whole_number(1), help="instead of the scale's")
    parser.add_argument("--tuning-epochs", type=whole_number(1), help="of the trainings that choose, likewise")
    parser.add_argument(
        "--jobs", type=whole_number(1), help=f"runs at once; default: one a core, or {_RUNS_A_GPU} a GPU"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto", help="auto: a GPU if there is one")
    parser.add_argument("--note", default="", help="a sentence that belongs to the numbers, such as how a set was made")
    parser.add_argument("--name", help="of the record; default: table1, with the scale where it is not full")
    parser.add_argument("--publish", action="store_true", help="put record and figure in experiments/results as well")
    parser.add_argument("--table-only", action="store_true", help="run nothing: the table of what is finished in --out")
    parser.add_argument("--out", type=writable_folder, default="runs/table1", help="folder of all runs and the record")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    scale = SCALES[options.scale]
    base: dict[str, Any] = dict(scale.base)
    if options.epochs is not None:
        base["training.epochs"] = options.epochs
    scale = replace(
        scale,
        base=base,
        rates=tuple(sorted(set(options.rates))) if options.rates else scale.rates,
        tuning_epochs=options.tuning_epochs or min(scale.tuning_epochs, base["training.epochs"]),
    )
    sets = tuple(dict.fromkeys(options.data or scale.sets))
    if len({set_label(name) for name in sets}) < len(sets):
        raise ValueError(f"--data must name sets whose folders have different names, got {', '.join(sets)}")
    chosen = tuple(row for row in rows(base["method.dim"]) if options.rows is None or row.key in options.rows)
    on_gpu = options.device == "gpu" or (options.device == "auto" and _gpus() > 0)
    if on_gpu and not _gpus():
        raise ValueError("--device gpu: PyTorch sees none here")
    machine = {
        "data.root": options.root,
        "data.download": options.download,
        "data.cache": str(options.out / "cache"),
        "engine.accelerator": "gpu" if on_gpu else "cpu",
        "engine.threads": _threads(options, on_gpu=on_gpu),
        "checkpoints.every_steps": None,
    }
    if on_gpu:  # as in experiments/configs/changes/gpu.yaml
        machine |= {"engine.precision": "bf16-mixed", "engine.compile": True}
    return Plan(scale, chosen, sets, tuple(range(options.seeds)), options.out, machine)


def _run(plan: Plan, options: argparse.Namespace, command: str) -> int:
    # Its imports take seconds, which a mistake need not wait for.
    from experiments.accuracy_table.conducting import Conductor  # noqa: PLC0415
    from experiments.accuracy_table.report import make_record  # noqa: PLC0415

    conductor = Conductor(plan)
    if not options.table_only:
        _say_what_is_left(plan, conductor.left())
        jobs = _jobs(options, on_gpu=plan.machine["engine.accelerator"] == "gpu")
        began = time.monotonic()
        with conductor.working(jobs, threads=plan.machine["engine.threads"], gpus=_gpus()) as expected:
            if expected is not None:
                print(_forecast(expected, jobs), flush=True)
            conductor.work()
        print(f"Done in {words(time.monotonic() - began)}")
    name = options.name or ("table1" if plan.scale.name == "full" else f"table1_{plan.scale.name}")
    record = make_record(name, plan, conductor.outcomes, command, [options.note] if options.note else [])
    _save(record, plan, options)
    failures = conductor.outcomes.failures
    for key, why in failures.items():
        print(f"{_PROGRAM}: {set_label(key[0])}, {key[1]}, {key[2]:g} failed: {why}", file=sys.stderr)
    return 1 if failures else 0


def _save(record: Any, plan: Plan, options: argparse.Namespace) -> None:
    from experiments.accuracy_table.report import TOP1  # noqa: PLC0415
    from experiments.figures import save_figure  # noqa: PLC0415
    from experiments.figures.accuracies import accuracies_figure  # noqa: PLC0415

    main_table = record.tables[0]
    for note in record.notes:
        print(f"\n{note}")
    for table in record.tables:
        print(f"\n{table.title}\n\n{table.markdown()}\n\n{table.note}")
    columns = [column for column in main_table.columns if TOP1 in column]
    panels = {
        set_label(group): {label: cells[column] for label, cells in main_table.rows.items()}
        for group, column in zip(plan.sets, columns, strict=True)
    }
    saved = []
    for folder in [options.out, *([FOLDER] if options.publish else [])]:
        saved.append(save_figure(accuracies_figure(panels, "SimSiam"), folder / record.figures[0]))
        saved.append(record.save(folder))
    print("\nSaved " + ", ".join(str(path) for path in saved))
    if options.publish:
        print("Next: python -m experiments.results")


def _say_what_is_left(plan: Plan, left: Sequence[Run]) -> None:
    print(
        f"{', '.join(set_label(name) for name in plan.sets)}: {len(plan.rows)} rows × {len(plan.seeds)} seeds and the "
        f"choice of the learning rates are {plan.count} runs, of which {plan.count - len(left)} are finished",
        flush=True,
    )


def _forecast(expected: Expected, jobs: int) -> str:
    if expected.seconds is None:
        return f"{expected.runs} runs to do, {jobs} at once; how long they will take is not known: {expected.source}"
    return (
        f"{expected.runs} runs to do, {jobs} at once: about {words(expected.seconds / jobs)} "
        f"({words(expected.seconds / max(expected.runs, 1))} a run, by {expected.source})"
    )


def _keep_settings(plan: Plan) -> None:
    path = plan.out / _SETTINGS
    now = json.loads(json.dumps(plan.settings()))
    if path.exists():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            different = differing(saved, now)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error}): give another --out") from error
        if different:
            raise ValueError(
                f"{plan.out} holds runs of other settings: {'; '.join(different)}. Give the same ones, or another --out"
            )
        now["rows"] = {**saved["rows"], **now["rows"]}
    path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second command out of the folder."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another {_PROGRAM} is at work in {folder}") from error
        yield


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the workers as Ctrl-C does, with the state of their trainings saved."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _gpus() -> int:
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jobs(options: argparse.Namespace, *, on_gpu: bool) -> int:
    return int(options.jobs or (_RUNS_A_GPU * _gpus() if on_gpu else _cores()))


def _threads(options: argparse.Namespace, *, on_gpu: bool) -> int:
    """Threads of each run: more than one on a CPU is slower for networks as small as those that suit it."""
    return max(1, _cores() // _jobs(options, on_gpu=on_gpu)) if on_gpu else 1


if __name__ == "__main__":
    raise SystemExit(main())
