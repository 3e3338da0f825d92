"""Table 1 of the paper with the controls that separate causes: SimSiam and VI-SimSiam under linear evaluation.

Each method takes the learning rate that does best on held-out training images; every row is trained with several seeds
and judged once, after its last epoch, on the validation images. The folder --out holds every run: a command that was
stopped goes on where it was when it is given again, and rows, sets and seeds can be added. It begins by timing a few
steps and says how long it will take. --scale full is the size of the paper and wants a GPU; --scale two_cores trains
a ResNet-18 on photographs of 64 pixels in some ten hours of a CPU; --scale small gives a small table in an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experiments.command_line.parser import CommandLineParser, positive_number, whole_number, writable_folder
from experiments.records.environment import typed_command
from experiments.records.record import FOLDER
from experiments.studies.at_work import alone, carried_through, forecast, keep_settings
from experiments.studies.machine import add_machine_options, gpus, jobs, machine_fields
from experiments.studies.planning import Plan, Run, set_label
from experiments.studies.rows import rows
from experiments.studies.scales import SCALES
from experiments.studies.timing import words

_PROGRAM = "python -m experiments.table1"
_SETTINGS = "settings.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)

    def work() -> int:
        plan = _plan(options)
        with alone(options.out, _PROGRAM):
            keep_settings(plan.out / _SETTINGS, plan.settings())
            return _run(plan, options, typed_command("experiments.table1", given))

    return carried_through(parser, work)


def _parser() -> CommandLineParser:
    parser = CommandLineParser(prog=_PROGRAM, description=__doc__)
    keys = [row.key for row in rows(2)]
    parser.add_argument("--scale", choices=[*SCALES], default="full", help="size of the trainings; tiny is for tests")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="SET",
        help="names or folders; default: imagenette imagewoof, or what the scale names",
    )
    parser.add_argument("--rows", nargs="+", choices=keys, metavar="ROW", help=f"some of {', '.join(keys)}")
    parser.add_argument("--seeds", type=whole_number(1), default=3, help="number of seeds, counted from 0")
    parser.add_argument(
        "--rates", nargs="+", type=positive_number, help="learning rates that each method chooses among"
    )
    parser.add_argument("--epochs", type=whole_number(1), help="instead of the scale's")
    parser.add_argument("--tuning-epochs", type=whole_number(1), help="of the trainings that choose, likewise")
    add_machine_options(parser)
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
    return Plan(scale, chosen, sets, tuple(range(options.seeds)), options.out, machine_fields(options))


def _run(plan: Plan, options: argparse.Namespace, command: str) -> int:
    # Its imports take seconds, which a mistake need not wait for.
    from experiments.studies.conducting import Conductor  # noqa: PLC0415
    from experiments.studies.report import make_record  # noqa: PLC0415

    conductor = Conductor(plan)
    if not options.table_only:
        _say_what_is_left(plan, conductor.left())
        at_once = jobs(options, plan.machine)
        began = time.monotonic()
        with conductor.working(at_once, threads=plan.machine["engine.threads"], gpus=gpus()) as expected:
            if expected is not None:
                print(forecast(expected, at_once), flush=True)
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
    from experiments.figures import save_figure  # noqa: PLC0415
    from experiments.figures.accuracies import accuracies_figure  # noqa: PLC0415
    from experiments.studies.report import TOP1  # noqa: PLC0415

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


if __name__ == "__main__":
    raise SystemExit(main())
