"""From the results of all runs to a record: tables with intervals, what was chosen, what failed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest

from experiments.command_line.lock import alone
from experiments.evaluation.uncertainty.report import over_seeds
from experiments.figures.accuracies import accuracies_figure
from experiments.records.environment import describe_device
from experiments.records.record import Cell, Record, Table
from experiments.studies.conducting import carry_through, planned, save
from experiments.studies.engine import Result, Study
from experiments.studies.options import ROWS
from experiments.studies.plan import HELD_OUT, REFERENCE, Plan, Row, best_rate, run_name, set_label, top1, tuning_name
from experiments.studies.training import prepare, train_side_by_side, trainings

TOP1 = "top-1"
DIFFERENCE = "difference to SimSiam"
_FEW = {1: "One seed: no interval says anything about other seeds.", 2: "Two seeds: the intervals say little."}

Read = Callable[[Result], float | None]
Columns = Mapping[str, Read | tuple[Read, str]]
"""What a table shows of a result; with the key of a row, the difference to that row, paired by seed.

With `REFERENCE` it is the difference to the row that a row names for it.
"""


def measured(*path: str, times: float = 1) -> Read:
    """What a result says at a path below its measures."""

    def read(result: Result) -> float | None:
        value = result["measures"]
        for name in path:
            value = value[name]
        return None if value is None else times * value

    return read


_TOP1 = measured("linear", "top1", times=100)
_KNN = measured("knn", "accuracy", times=100)
ENCODERS: Columns = {
    "std of outputs": measured("held_out", "standard_deviation"),
    "effective rank": measured("held_out", "effective_rank"),
    "median κ": measured("held_out", "concentration", "50%"),
}
_MORE: Columns = {
    "top-1, %": _TOP1,
    "top-5, %": measured("linear", "top5", times=100),
    "kNN, %": _KNN,
    f"kNN, {DIFFERENCE}": (_KNN, REFERENCE),
    **ENCODERS,
}


@dataclass(frozen=True)
class Outcome:
    """What came of a plan on one of its sets."""

    plan: Plan
    study: Study
    group: str

    def cells(self, row: Row, columns: Columns) -> dict[str, Cell]:
        """The cells of a row, or why there are none."""
        bad = self._failed(row)
        if bad is not None:
            return dict.fromkeys(columns, bad)
        made = {}
        for name, column in columns.items():
            if callable(column):
                made[name] = interval(self.values(row.key, column))
            elif row.key != (other := row.against if column[1] == REFERENCE else column[1]):
                made[name] = difference(*(self.values(key, column[0]) for key in (row.key, other)))
        return made

    def table(self, title: str, columns: Columns, note: str, corner: str = "", digits: int = 3) -> Table:
        """A table of all rows."""
        rows = {row.label: self.cells(row, columns) for row in self.plan.rows}
        return Table(title, tuple(columns), rows, note, corner, digits)

    def results(self, key: str) -> list[Result | None]:
        """A row's results, one a seed."""
        return [self.study.results.get(run_name(self.group, key, seed)) for seed in self.plan.seeds]

    def values(self, key: str, read: Read) -> list[float | None]:
        """What they say; `None` where there is none."""
        return [None if result is None else read(result) for result in self.results(key)]

    def _failed(self, row: Row) -> Cell | None:
        plan, failures = self.plan, self.study.failures
        if row.rate is not None and (self.group, row.rate) not in plan.rates(self.study.results):
            tried = [tuning_name(plan.tune_on or self.group, row.rate, rate) for rate in plan.scale.rates]
            return Cell(text="failed") if any(name in failures for name in tried) else None
        bad = sum(run_name(self.group, row.key, seed) in failures for seed in plan.seeds)
        return Cell(text=f"failed ({bad} of {len(plan.seeds)} seeds)") if bad else None


def run(options: argparse.Namespace) -> int:
    """Train what is not finished, and save table 1; returns the exit status: 0 if every training ended well."""
    plan, workers = planned(options, tuned=options.minutes is None)
    if options.minutes is None:
        study = trainings(plan)
        carry_through(study, options, prepare, workers)
    else:
        # Compiling would take more of the time than it saves, and so would a cache on the disk.
        changes: dict[str, Any] = {"engine.compile": False, "data.cache": None}
        if plan.machine["engine.accelerator"] == "gpu":
            changes["engine.threads"] = None  # all: the GPU waits for the ranks of the outputs, found on the processor
        quick = replace(plan, machine={**plan.machine, **changes})
        with alone(options.out):
            plan, study = train_side_by_side(quick, options.minutes, record=not options.eager)
        options.note = f"{options.note} The learning rates were given.".strip()
    record, figure = table1(options.record, plan, study, options.command, options.note)
    return save(record, figure, study, options, (None, None))


def table1(name: str, plan: Plan, study: Study, command: str, note: str = "") -> tuple[Record, Figure]:
    """All of it, ready to be saved.

    Args:
        name: Of the record.
        plan: What was to be run.
        study: What came of it; what is missing is a dash.
        command: What was typed.
        note: A sentence that belongs to the numbers.
    """
    rates, edges = plan.rates(study.results), (plan.scale.rates[0], plan.scale.rates[-1])
    at_edge = [f"{method} on {set_label(group)}" for (group, method), rate in rates.items() if rate in edges]
    notes = [note, f"The chosen learning rate is at the edge of the grid for {', '.join(at_edge)}." if at_edge else ""]
    named = "{1}: {0}" if len(plan.sets) > 1 else "{0}, {1}"
    main: dict[str, dict[str, Cell]] = {row.label: {} for row in plan.rows}
    panels: dict[str, dict[str, Cell]] = {set_label(group): {} for group in plan.sets}
    more = []
    for group in plan.sets:
        outcome, label = Outcome(plan, study, group), set_label(group)
        for row in plan.rows:
            cells = outcome.cells(row, {TOP1: _TOP1, DIFFERENCE: (_TOP1, REFERENCE)})
            first = outcome.results(row.key)[0]
            if len(plan.seeds) == 1 and first is not None:
                cells[TOP1] = over_images(first)
            main[row.label] |= {named.format(column, label): cell for column, cell in cells.items()}
            # The interval of two seeds is wider than the axis: the figure shows the seeds.
            shown = replace(cells[TOP1], low=None, high=None) if len(plan.seeds) == 2 else cells[TOP1]
            panels[label][row.label] = shown
        more.append(outcome.table(f"More on {label}", _MORE, _about_probe(plan, study), digits=2))
    columns = tuple(named.format(column, label) for label in panels for column in (TOP1, DIFFERENCE))
    over = " In brackets Wilson's 95 % interval over the images." if len(plan.seeds) == 1 else ""
    about_main = f"Percent. {about(plan)}{over} {ROWS['legends']['table1']}"
    tables = (
        Table("Linear evaluation on the validation images", columns, main, about_main, digits=1),
        *more,
        *([_tuning_table(plan, study)] if plan.tuned_methods else []),
        *(_published(**entries) for entries in ROWS["published"]),
    )
    chosen = {"chosen rates": {f"{set_label(group)}, {method}": rate for (group, method), rate in rates.items()}}
    record = record_of(name, "Table 1: linear evaluation", plan, study, command, tables, notes, chosen)
    return record, accuracies_figure(panels, "SimSiam")


def record_of(
    name: str,
    title: str,
    plan: Plan,
    study: Study,
    command: str,
    tables: tuple[Table, ...],
    notes: Sequence[str],
    more: Mapping[str, Any],
) -> Record:
    """A record of a plan, with what all of them say: settings, precision, what is missing, what failed, all measures.

    Args:
        name: Of the record.
        title: Of its section on the page, without the scale.
        plan: What was to be run.
        study: What came of it.
        command: What was typed.
        tables: What came out.
        notes: Sentences that belong to the numbers; empty ones are left out.
        more: Of its configuration.
    """
    count, done = len(study.everything), len(study.results)
    precisions = sorted({result["config"]["engine"]["precision"] for result in study.results.values()})
    said = [
        plan.scale.note,
        f"Precision of the trainings: {', '.join(precisions)}." if precisions != ["32"] else "",
        *notes,
        f"{count - done} of {count} runs are missing." if done < count else "",
        _FEW.get(len(plan.seeds), ""),
    ]
    rows = {row.key: {**ROWS["methods"][row.method], **row.changes, "rate of": row.rate} for row in plan.rows}
    configuration = {
        **asdict(plan.scale),
        "rows": rows,
        "sets": list(plan.sets),
        "rates chosen on": list(plan.tuned_sets),
        "machine": {key: value for key, value in plan.machine.items() if not key.startswith("data.")},
        "labels": {row.key: row.label for row in plan.rows},
        "failures": study.failures,
        **more,
    }
    return Record(
        name=name,
        title=title + (f", {plan.scale.name} scale" if plan.scale.note else ""),
        command=command,
        configuration=configuration,
        seeds=plan.seeds,
        device=describe_device(torch.device("cuda" if plan.machine.get("engine.accelerator") == "gpu" else "cpu")),
        tables=tables,
        figures=(f"{name}.png",),
        notes=tuple(filter(None, said)),
        details={"measures": {run: result["measures"] for run, result in study.results.items()}},
    )


def _about_probe(plan: Plan, study: Study) -> str:
    probe = next(run.probe for run in study.everything)
    chosen = {result["measures"]["linear"]["learning_rate"] for result in study.results.values()}
    among, taken = (", ".join(f"{rate:g}" for rate in sorted(rates)) for rates in (probe.learning_rates, chosen))
    return (
        f"Validation images; the network after the last epoch. The linear classifier is trained with LARS for "
        f"{probe.epochs} epochs; its rate is chosen on a fifth of the training images among {among}; chosen were "
        f"{taken}. kNN: vote of 20 neighbours. {about(plan)} {ROWS['notes']['encoders']}"
    )


def _tuning_table(plan: Plan, study: Study) -> Table:
    rows, rates = {}, plan.scale.rates
    for group, method in product(plan.tuned_sets, plan.tuned_methods):
        found = plan.held_out(study.results, group, method)
        failed = [rate for rate in rates if tuning_name(group, method, rate) in study.failures]
        cells = {f"{rate:g}": Cell(100 * accuracy) for rate, accuracy in found.items()}
        cells |= {f"{rate:g}": Cell(text="failed") for rate in failed}
        if found:
            rate = best_rate(found)
            cells["chosen"] = Cell(text=f"{rate:g}{', at the edge' if rate in (rates[0], rates[-1]) else ''}")
        rows[f"{set_label(group)}, {method}"] = cells
    note = (
        f"Linear evaluation, percent, on {HELD_OUT:.0%} of the training images of each class, which neither the "
        f"pretraining nor the classifier saw, after {plan.scale.tuning_epochs} epochs; one seed that the table does "
        "not use. No validation image is opened. At the edge: a rate outside of the grid may be better."
    )
    columns = (*(f"{rate:g}" for rate in rates), "chosen")
    return Table("Choice of the learning rates", columns, rows, note, digits=1)


def _published(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]], **more: Any) -> Table:
    cells = {label: dict(zip(columns, map(Cell, numbers), strict=True)) for label, numbers in rows.items()}
    return Table(title, tuple(columns), cells, **more)


def interval(found: Sequence[float | None]) -> Cell:
    """Mean and interval of what is there, and every seed's value."""
    known = [value for value in found if value is not None]
    one = next((value for value in known if not math.isnan(value)), None)
    cell = over_seeds(known) if len(known) > 1 else Cell(one)
    return replace(cell, each=tuple(found))


def over_images(result: Result) -> Cell:
    """Accuracy in percent with Wilson's 95 % interval: of one network on other images, not of other seeds.

    Example:
        >>> cell = over_images({"measures": {"linear": {"top1": 0.5}, "held_out": {"images": 100}}})
        >>> f"{cell.value:.0f} ({cell.low:.1f} to {cell.high:.1f})"
        '50 (40.4 to 59.6)'
    """
    accuracy, images = top1(result), result["measures"]["held_out"]["images"]
    ends = binomtest(round(accuracy * images), images).proportion_ci(method="wilson")
    return Cell(100 * accuracy, 100 * ends.low, 100 * ends.high, (100 * accuracy,))


def difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Cell:
    """Mean and interval of the differences seed by seed, where both have a value: what seeds share falls out.

    Example:
        >>> difference([0.5, None, 0.75], [0.25, 0.5, 0.5]).each
        (0.25, None, 0.25)
    """
    pairs = zip(ours, theirs, strict=True)
    return interval([None if one is None or other is None else one - other for one, other in pairs])


def about(plan: Plan) -> str:
    """What a cell is."""
    if len(plan.seeds) == 1:
        return "One seed."
    return f"Mean over {len(plan.seeds)} seeds and its 95 % interval (Student's t); differences are paired by seed."
