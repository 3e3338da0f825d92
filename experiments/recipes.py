"""What makes κ trustworthy, and what does not: recipes of VI-SimSiam, each with its accuracy and the tests of its κ.

Every recipe changes one thing of VI-SimSiam: how κ is made positive, the unit of the loss, what weighs the terms, how
κ's own row learns, which defects are among the views. Each is trained with several seeds as a row of table 1 is, and
judged twice: by linear evaluation, and by the tests U1 to U8 of `experiments.uncertainty` on the frozen encoder.
Nothing is tuned: --rates are what `experiments.table1` has chosen. The folder --out holds every run: a command that was
stopped goes on where it was, rows and seeds can be added, and runs of `experiments.table1` of the same settings that
lie there are taken as they are. It begins by timing a few steps and says how long it will take.

  first, in seconds:      python -m experiments.recipes --scale tiny --rows simsiam vi_simsiam defects --out runs/tiny
  the whole study:        python -m experiments.recipes --foreign data/imagenette2-160 data/imagewoof2-160 --publish
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.command_line.parser import CommandLineParser, positive_number, whole_number, writable_folder
from experiments.records.environment import typed_command
from experiments.records.record import FOLDER, Cell
from experiments.studies.at_work import alone, carried_through, forecast, keep_settings
from experiments.studies.machine import add_machine_options, gpus, jobs, machine_fields
from experiments.studies.planning import Plan, set_label
from experiments.studies.recipes.rows import KEYS, recipes
from experiments.studies.scales import SCALES
from experiments.studies.timing import words

_PROGRAM = "python -m experiments.recipes"
_SETTINGS = "recipes.json"
_RATES = {"small": (0.1, 0.1), "tiny": (0.1, 0.1)}  # the small ones are those of experiments/results/table1_small.json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)

    def work() -> int:
        plan = _plan(options)
        with alone(options.out, _PROGRAM):
            kept = {name: value for name, value in plan.settings().items() if name not in {"rates", "tuning_epochs"}}
            keep_settings(plan.out / _SETTINGS, {**kept, "set": plan.sets[0]})
            return _run(plan, options, typed_command("experiments.recipes", given))

    return carried_through(parser, work)


def _parser() -> CommandLineParser:
    parser = CommandLineParser(prog=_PROGRAM, description=__doc__)
    parser.formatter_class = _Help
    parser.add_argument("--scale", choices=[*SCALES], default="small", help="size of the trainings; tiny is for tests")
    parser.add_argument("--data", metavar="SET", help="a name or a folder; default: the first of the scale's")
    parser.add_argument(
        "--rates",
        nargs=2,
        type=positive_number,
        metavar=("SIMSIAM", "VI_SIMSIAM"),
        help="learning rate of SimSiam and of VI-SimSiam; default: what table 1 chose at the small scale, 0.1 for both",
    )
    parser.add_argument("--rows", nargs="+", choices=[*KEYS], metavar="ROW", help=f"some of {', '.join(KEYS)}")
    parser.add_argument("--seeds", type=whole_number(1), default=3, help="number of seeds, counted from 0")
    parser.add_argument("--epochs", type=whole_number(1), help="instead of the scale's")
    parser.add_argument(
        "--images", type=whole_number(2), default=1000, help="validation images, and of each foreign set, for U1 to U8"
    )
    parser.add_argument("--foreign", nargs="+", default=[], metavar="SET", help="other sets, for U5")
    add_machine_options(parser)
    parser.add_argument("--note", default="", help="a sentence that belongs to the numbers, such as how a set was made")
    parser.add_argument("--name", help="of the record; default: recipes, with the scale where it is not full")
    parser.add_argument("--publish", action="store_true", help="put record and figure in experiments/results as well")
    parser.add_argument(
        "--table-only", action="store_true", help="run nothing: the tables of what is finished in --out"
    )
    parser.add_argument("--out", type=writable_folder, default="runs/recipes", help="folder of all runs and the record")
    return parser


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of the description, examples among them."""


def _plan(options: argparse.Namespace) -> Plan:
    scale = SCALES[options.scale]
    if options.rates is None and options.scale not in _RATES:
        raise ValueError(f"--scale {options.scale} needs --rates: those that python -m experiments.table1 has chosen")
    simsiam, vi_simsiam = options.rates or _RATES[options.scale]
    base: dict[str, Any] = dict(scale.base)
    if options.epochs is not None:
        base["training.epochs"] = options.epochs
    rows = recipes(base, {"simsiam": simsiam, "vi_simsiam": vi_simsiam})
    chosen = tuple(row for row in rows if options.rows is None or row.key in options.rows)
    sets = (options.data or scale.sets[0],)
    return Plan(
        replace(scale, base=base), chosen, sets, tuple(range(options.seeds)), options.out, machine_fields(options)
    )


def _run(plan: Plan, options: argparse.Namespace, command: str) -> int:
    # Its imports take seconds, which a mistake need not wait for.
    from experiments.studies.conducting import Conductor  # noqa: PLC0415
    from experiments.studies.recipes.examining import Questions, check_foreign, work  # noqa: PLC0415
    from experiments.studies.recipes.findings import Findings  # noqa: PLC0415
    from experiments.studies.recipes.report import make_record  # noqa: PLC0415

    questions = Questions(options.images, tuple(options.foreign))
    conductor = Conductor(plan, work(questions))
    left = conductor.left()
    if left and not options.table_only:
        check_foreign(questions, left[0].config)
        print(
            f"{set_label(plan.sets[0])}: {len(plan.rows)} recipes × {len(plan.seeds)} seeds are {plan.count} runs, of "
            f"which {plan.count - len(left)} are finished",
            flush=True,
        )
        at_once, began = jobs(options, plan.machine), time.monotonic()
        with conductor.working(at_once, threads=plan.machine["engine.threads"], gpus=gpus()) as expected:
            if expected is not None:
                print(forecast(expected, at_once), flush=True)
            conductor.work()
        print(f"Done in {words(time.monotonic() - began)}")
    if not conductor.outcomes.runs:
        raise ValueError(f"{plan.out} holds no finished run to make a table of{_first(conductor.outcomes.failures)}")
    findings = Findings.of(plan, conductor.outcomes)
    name = options.name or ("recipes" if plan.scale.name == "full" else f"recipes_{plan.scale.name}")
    _save(make_record(name, findings, questions, command, [options.note] if options.note else []), findings, options)
    for key, why in conductor.outcomes.failures.items():
        print(f"{_PROGRAM}: {key[1]}, seed {key[2]:g} failed: {why}", file=sys.stderr)
    return 1 if conductor.outcomes.failures else 0


def _first(failures: Mapping[Any, str]) -> str:
    return f": {next(iter(failures.values()))}" if failures else ""


def _save(record: Any, findings: Any, options: argparse.Namespace) -> None:
    from experiments.figures import save_figure  # noqa: PLC0415
    from experiments.figures.recipes import recipes_figure  # noqa: PLC0415
    from experiments.studies.recipes.report import columns_of  # noqa: PLC0415
    from experiments.studies.report import DIFFERENCE  # noqa: PLC0415

    for note in record.notes:
        print(f"\n{note}")
    for table in record.tables:
        print(f"\n{table.title}\n\n{table.aligned(2 if table is record.tables[0] else 0)}\n\n{table.note}")
    differences = {label: _percent(cells.get(DIFFERENCE, Cell())) for label, cells in record.tables[0].rows.items()}
    saved = []
    for folder in [options.out, *([FOLDER] if options.publish else [])]:
        saved.append(
            save_figure(recipes_figure(differences, columns_of(findings), "SimSiam"), folder / record.figures[0])
        )
        saved.append(record.save(folder))
    print("\nSaved " + ", ".join(str(path) for path in saved))
    if options.publish:
        print("Next: python -m experiments.results")


def _percent(cell: Cell) -> Cell:
    value, low, high = (None if number is None else 100 * number for number in (cell.value, cell.low, cell.high))
    return Cell(value, low, high, tuple(None if each is None else 100 * each for each in cell.each), cell.text)


if __name__ == "__main__":
    raise SystemExit(main())
