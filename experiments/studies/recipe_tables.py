"""What makes κ trustworthy: accuracy and the tests of κ of every recipe, in the same rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial

from matplotlib.figure import Figure

from experiments.evaluation.uncertainty import measures as tests
from experiments.evaluation.uncertainty.ensemble import ensemble_name
from experiments.evaluation.uncertainty.measures import Measure, foreign_name, severity_name
from experiments.evaluation.uncertainty.rivals import KAPPA, TWO_VIEWS
from experiments.figures.recipes import Column, recipes_figure
from experiments.images.degradations import DEGRADATIONS
from experiments.records.record import Cell, Record, Table
from experiments.studies import looking
from experiments.studies.conducting import carry_through, planned, save
from experiments.studies.engine import Result
from experiments.studies.looking import AGREEMENT, EXCESS, FALL, MEAN, UNTOUCHED, Questions, Seen
from experiments.studies.options import ROWS
from experiments.studies.plan import PLAIN, REFERENCE, Row
from experiments.studies.tables import DIFFERENCE, ENCODERS, TOP1, Columns, Outcome, Read, about, measured, record_of
from experiments.studies.training import trainings
from inference.judging.collapse import has_collapsed
from inference.judging.resampling import Estimate

AIMS = "aims reached"
_KINDS = tuple(series.name for series in DEGRADATIONS)
_SEVERITIES = {
    **{name: severity_name(name) for name in _KINDS},
    MEAN: tests.ALL_SEVERITIES,
    "given edge energy": tests.BEYOND_SEVERITY,
}
_U1 = {f"U1 {column}": name for column, name in _SEVERITIES.items()}
_SHORT = {"U2": tests.CROP, "U3": tests.R_AUROC, "U6 gap": tests.GAP}
_AIMED = {**_U1, **_SHORT, "U8": tests.AMBIGUITY}
_ENSEMBLES = {
    **_U1,
    "U2": tests.CROP,
    "U3": tests.R_AUROC,
    "U4 accuracy at 80 %": tests.ACCURACY,
    "U8": tests.AMBIGUITY,
}
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


def run(options: argparse.Namespace) -> int:
    """Train and ask what is not finished, and save the tables; returns the exit status: 0 if every run ended well."""
    questions = Questions(options.images, tuple(options.foreign))
    plan, workers = planned(options, "recipes", tuned=False)
    asked_of = partial(partial, questions=questions)
    study = trainings(plan, asked_of(looking.carry_out), asked_of(looking.finished))
    carry_through(study, options, asked_of(looking.prepare), **workers)
    looking.add_ensembles(plan, study.results)
    seen = next(found for run in plan.everything() if (found := looking.seen_of(run)) is not None)
    outcome = Outcome(plan, study, plan.sets[0])
    made = recipes_record(options.record, outcome, seen, options.command, options.note)
    return save(*made, study, options, (2, 0))


def recipes_record(name: str, outcome: Outcome, seen: Seen, command: str, note: str = "") -> tuple[Record, Figure]:
    """All of it, ready to be saved.

    Args:
        name: Of the record.
        outcome: What came out; what is missing is a dash.
        seen: Of one of the encoders: what all were asked, and which tests have an aim.
        command: What was typed.
        note: A sentence that belongs to the numbers.
    """
    plan, notes = outcome.plan, ROWS["notes"]
    aims = [test for test in tests.measures(seen.observations) if test.aim is not None]
    others = _others(seen.questions)
    told = [f"{kind}: {what}" for what in (FALL, AGREEMENT) for kind in (*_KINDS, MEAN)]
    told += [f"{kind}: {EXCESS}" for kind in (UNTOUCHED, *_KINDS, MEAN)]
    mean = about(plan)

    def table(title: str, columns: Columns, about_it: str) -> Table:
        return outcome.table(title, columns, f"{mean} {about_it}", "recipe")

    tables = (
        main_table(outcome, aims),
        table("U1: does u rise with the severity?", _tests(_SEVERITIES), notes["tests"]),
        table("U2 to U8", _tests(others), notes["tests"]),
        table("Should κ fall? What degraded images predict", {n: asked(n) for n in told}, notes["predicting"]),
        table("The encoders", {"kNN": measured("knn", "accuracy"), **ENCODERS}, notes["encoders"]),
        _ensembles(outcome),
        _rivals(outcome, others),
    )
    held_out = {run: result["measures"]["held_out"] for run, result in outcome.study.results.items()}
    fallen = [run for run, of in held_out.items() if has_collapsed(of["standard_deviation"], of["effective_rank"])]
    void = f"VOID, because the outputs have collapsed: {'; '.join(fallen)}." if fallen else ""
    degradations = {series.name: [series.unit, list(series.severities)] for series in DEGRADATIONS}
    more = {"questions": asdict(seen.questions), "degradations": degradations}
    title = "What makes κ trustworthy"
    record = record_of(name, title, plan, outcome.study, command, tables, [note, void], more)
    points = {DIFFERENCE: (measured("linear", "top1", times=100), REFERENCE)}
    differences = {row.label: outcome.cells(row, points).get(DIFFERENCE, Cell()) for row in plan.rows}
    return record, recipes_figure(differences, columns_of(outcome, aims), "SimSiam")


def main_table(outcome: Outcome, aims: Iterable[Measure]) -> Table:
    """Accuracy and the tests that have an aim, in short."""
    u1 = asked(tests.ALL_SEVERITIES)
    before: Columns = {
        TOP1: _TOP1,
        DIFFERENCE: (_TOP1, REFERENCE),
        "U1 mean": u1,
        "U1 mean, difference to VI-SimSiam": (u1, PLAIN),
        **_tests(_SHORT),
    }
    after = _tests({"U1 if κ knew": f"{MEAN}: {FALL}", "degraded: ρ(κ) − cosine": f"{MEAN}: {EXCESS}"})
    table = outcome.table("Accuracy, and the tests of κ", {**before, AIMS: u1, **after}, "", "recipe")
    for row in outcome.plan.rows:
        cells = [(test, outcome.cells(row, {"": asked(test.name)})[""]) for test in aims]
        judged = [reaches(test, cell) for test, cell in cells if cell.value is not None]
        if judged:
            table.rows[row.label][AIMS] = Cell(text=f"{sum(judged)} of {len(judged)}")
    short = {name: column for column, name in _AIMED.items()}
    aimed = "; ".join(f"{short[test.name]} {test.aim_text}" for test in aims)
    note = f"{about(outcome.plan)} Aims, reached where the mean reaches them: {aimed}. {ROWS['notes']['main']}"
    return replace(table, note=f"{note} {ROWS['legends']['recipes']}")


def columns_of(outcome: Outcome, aims: Iterable[Measure]) -> dict[Column, dict[str, Cell]]:
    """What the figure shows: each test that has an aim, and what κ promises too much; cells by recipe."""
    short = {name: column for column, name in _AIMED.items()}
    names = {}
    for test in aims:
        nothing, aim = _NOTHING_KNOWN.get(test.name, 0.0), float(test.aim or 0)
        names[test.name] = Column(short[test.name], test.aim_text, nothing, aim, beyond=test.interval_beyond)
    names[f"{MEAN}: {EXCESS}"] = Column("degraded ρ(κ)−c", "0", _MUCH, 0.0, signed=False)

    def cells(name: str) -> dict[str, Cell]:
        return {row.label: outcome.cells(row, {name: asked(name)})[name] for row in outcome.plan.rows}

    return {column: cells(name) for name, column in names.items()}


def reaches(test: Measure, cell: Cell) -> bool:
    """Whether the mean over seeds reaches the aim; what an interval has to lie beyond is the one over seeds."""
    if cell.value is None:
        return False
    low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
    return bool(test.met(Estimate(cell.value, low, high)))


def _tests(columns: Mapping[str, str]) -> dict[str, Read]:
    return {column: asked(name) for column, name in columns.items()}


def _others(questions: Questions) -> dict[str, str]:
    foreign = [name.rpartition("/")[2] for name in questions.foreign]
    return {
        "U2": tests.CROP,
        "U3": tests.R_AUROC,
        "U3 given edge energy": tests.BEYOND_CORRECT,
        "U4 accuracy at 80 %": tests.ACCURACY,
        "U4 area above the oracle's": tests.EXCESS,
        **{f"U5 {name}": foreign_name(name) for name in foreign},
        "U6 largest gap": tests.GAP,
        "U6 mean gap": tests.MEAN_GAP,
        "U7": tests.GAIN,
        "U8": tests.AMBIGUITY,
        "U8 control": tests.CONTROL,
    }


def _ensembles(outcome: Outcome) -> Table:
    def cells(row: Row) -> dict[str, Cell]:
        members = sum(value is not None for value in outcome.values(row.key, _TOP1))
        columns = {column: asked(name, ensemble_name(members)) for column, name in _ENSEMBLES.items()}
        return {c: replace(cell, low=None, high=None) for c, cell in outcome.cells(row, columns).items() if cell.value}

    rows = {row.label: made for row in outcome.plan.rows if (made := cells(row))}
    return Table("Ensembles of the seeds", tuple(_ENSEMBLES), rows, ROWS["notes"]["ensembles"], "recipe")


def _rivals(outcome: Outcome, others: Mapping[str, str]) -> Table:
    names = {**_U1, **{column: name for column, name in others.items() if not column.startswith(("U6", "U7"))}}
    rows: dict[str, dict[str, Cell]] = {}
    for row in (row for row in outcome.plan.rows if row.key == PLAIN):
        rivals = {
            u: None for result in outcome.results(PLAIN) if result for u in result["tests"].get(tests.R_AUROC, {})
        }
        for u in rivals:
            if not u.startswith(f"{KAPPA}, "):
                rows[u] = outcome.cells(row, {column: asked(name, u) for column, name in names.items()})
    return Table("What competes with κ", tuple(names), rows, ROWS["notes"]["rivals"], "u")
