"""What makes κ trustworthy: accuracy and the tests of κ of every recipe, in the same rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from matplotlib.figure import Figure

from experiments.command_line.parser import require_different_names
from experiments.evaluation.uncertainty import measures as tests
from experiments.evaluation.uncertainty.measures import Measure
from experiments.evaluation.uncertainty.report import DEGRADED_BY
from experiments.evaluation.uncertainty.rivals import KAPPA, TWO_VIEWS
from experiments.figures.recipes import Column, recipes_figure
from experiments.records.record import Cell, Record, Table
from experiments.studies import looking
from experiments.studies.conducting import carry_through, planned, save
from experiments.studies.engine import Result
from experiments.studies.looking import EXCESS, FALL, MEAN, Questions
from experiments.studies.options import ROWS
from experiments.studies.plan import PLAIN, REFERENCE
from experiments.studies.tables import DIFFERENCE, ENCODERS, TOP1, Columns, Outcome, Read, about, measured, record_of
from experiments.studies.training import trainings
from inference.judging.collapse import has_collapsed
from inference.judging.resampling import Estimate

AIMS = "aims reached"
_NOTHING_KNOWN = {tests.CROP: 0.5, tests.R_AUROC: 0.5, tests.GAP: 0.1}  # of correlations 0
_MUCH = 0.3  # that κ promises too much: white in the figure
_TOP1 = measured("linear", "top1")


def asked(name: str, u: str | None = None) -> Read:
    """A test of an uncertainty; when not given, of κ, or where there is none of the cosine of two views."""

    def read(result: Result) -> float | None:
        own = KAPPA if KAPPA in result["tests"][tests.ALL_SEVERITIES] else TWO_VIEWS
        value: float | None = result["tests"].get(name, {}).get(own if u is None else u)
        return value

    return read


def predicting(name: str) -> Read:
    """What degraded images predict."""
    return lambda result: result["predicting"].get(name)


def short(name: str) -> str:
    """Number of a test, and the degradation.

    Example:
        >>> short("U1 Spearman with severity: blur"), short("U3 R-AUROC")
        ('U1 blur', 'U3')
    """
    return " ".join((name.split(maxsplit=1)[0], *name.partition(": ")[2:])).strip()


def run(options: argparse.Namespace) -> int:
    """Train and ask what is not finished, and save the tables; returns the exit status: 0 if every run ended well."""
    require_different_names("--foreign", options.foreign)
    questions = {"images": options.images, "foreign": options.foreign}
    plan, workers = planned(options, "recipes", tuned=False)
    asked_of = partial(partial, questions=questions)
    study = trainings(plan, asked_of(looking.carry_out), asked_of(looking.finished, ask_again=not options.table_only))
    carry_through(study, options, asked_of(looking.prepare), workers)
    outcome = Outcome(plan, study, plan.sets[0])
    made = recipes_record(options.record, outcome, questions, options.command, options.note)
    return save(*made, study, options, (2, 0))


def recipes_record(
    name: str, outcome: Outcome, questions: Questions, command: str, note: str = ""
) -> tuple[Record, Figure]:
    """All of it, ready to be saved.

    Args:
        name: Of the record.
        outcome: What came out; what is missing is a dash.
        questions: What all encoders were asked.
        command: What was typed.
        note: A sentence that belongs to the numbers.
    """
    plan, notes, results = outcome.plan, ROWS["notes"], outcome.study.results
    names, predicted = ({n: None for of in results.values() for n in of[part]} for part in ("tests", "predicting"))
    aimed = {test: aim for of in results.values() for test, aim in of["aims"].items()}
    aims = [Measure(test, *aim) for test, aim in aimed.items()]

    def table(title: str, columns: Columns, about_it: str) -> Table:
        return outcome.table(title, columns, f"{about(plan)} {about_it}", "recipe")

    rivals = {u: None for result in outcome.results(PLAIN) if result for u in result["tests"].get(tests.R_AUROC, {})}
    plain = [row for row in plan.rows if row.key == PLAIN]
    rows = {u: outcome.cells(row, {test: asked(test, u) for test in names}) for row in plain for u in rivals}
    tables = (
        main_table(outcome, aims),
        table("U1 to U8", {test: asked(test) for test in names}, notes["tests"]),
        table(
            "Should κ fall? What degraded images predict", {n: predicting(n) for n in predicted}, notes["predicting"]
        ),
        table("The encoders", {"kNN": measured("knn", "accuracy"), **ENCODERS}, notes["encoders"]),
        Table("What competes with κ", tuple(names), rows, notes["rivals"], "u"),
    )
    held_out = {run: result["measures"]["held_out"] for run, result in results.items()}
    fallen = [run for run, of in held_out.items() if has_collapsed(of["standard_deviation"], of["effective_rank"])]
    void = f"VOID, because the outputs have collapsed: {'; '.join(fallen)}." if fallen else ""
    more = {"questions": questions, "degradations": DEGRADED_BY}
    record = record_of(name, "What makes κ trustworthy", plan, outcome.study, command, tables, [note, void], more)
    points = {DIFFERENCE: (measured("linear", "top1", times=100), REFERENCE)}
    differences = {row.label: outcome.cells(row, points).get(DIFFERENCE, Cell()) for row in plan.rows}
    return record, recipes_figure(differences, columns_of(outcome, aims), "SimSiam")


def main_table(outcome: Outcome, aims: Iterable[Measure]) -> Table:
    """Accuracy and the tests that have an aim, in short."""
    u1 = asked(tests.ALL_SEVERITIES)
    columns: Columns = {
        TOP1: _TOP1,
        DIFFERENCE: (_TOP1, REFERENCE),
        "U1 mean": u1,
        "U1 mean, difference to VI-SimSiam": (u1, PLAIN),
        **{short(name): asked(name) for name in (tests.CROP, tests.R_AUROC, tests.GAP)},
        AIMS: u1,
        "U1 if κ knew": predicting(f"{MEAN}: {FALL}"),
        "degraded: ρ(κ) − cosine": predicting(f"{MEAN}: {EXCESS}"),
    }
    table = outcome.table("Accuracy, and the tests of κ", columns, "", "recipe")
    for row in outcome.plan.rows:
        cells = [(test, outcome.cells(row, {"": asked(test.name)})[""]) for test in aims]
        judged = [reaches(test, cell) for test, cell in cells if cell.value is not None]
        if judged:
            table.rows[row.label][AIMS] = Cell(text=f"{sum(judged)} of {len(judged)}")
    aimed = "; ".join(f"{short(test.name)} {test.aim_text}" for test in aims)
    note = f"{about(outcome.plan)} Aims, reached where the mean reaches them: {aimed}. {ROWS['notes']['main']}"
    return replace(table, note=f"{note} {ROWS['legends']['recipes']}")


def columns_of(outcome: Outcome, aims: Iterable[Measure]) -> dict[Column, dict[str, Cell]]:
    """What the figure shows: each test that has an aim, and what κ promises too much; cells by recipe."""

    def cells(read: Read) -> dict[str, Cell]:
        return {row.label: outcome.cells(row, {"": read})[""] for row in outcome.plan.rows}

    shown = {}
    for test in aims:
        nothing, aim = _NOTHING_KNOWN.get(test.name, 0.0), float(test.aim or 0)
        column = Column(short(test.name), test.aim_text, nothing, aim, reached=partial(reaches, test))
        shown[column] = cells(asked(test.name))
    shown[Column("degraded ρ(κ)−c", "0", _MUCH, 0.0, signed=False)] = cells(predicting(f"{MEAN}: {EXCESS}"))
    return shown


def reaches(test: Measure, cell: Cell) -> bool:
    """Whether the mean over seeds reaches the aim; what an interval has to lie beyond is the one over seeds."""
    if cell.value is None:
        return False
    low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
    return bool(test.met(Estimate(cell.value, low, high)))
