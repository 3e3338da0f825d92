"""From the outcomes of all runs to a record: tables with intervals, what was chosen, what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.records.record import Cell, Record, Table
from experiments.studies.intervals import mean_interval, paired_differences
from experiments.studies.planning import HELD_OUT, Plan, chosen_rate, set_label
from experiments.studies.published import lightlys_table, papers_table
from experiments.studies.rows import LEGEND, RECIPES, REFERENCE, Method, Row

TOP1 = "top-1"
DIFFERENCE = "difference to SimSiam"
_MANY = 3  # seeds, for an interval that says something

Measured = Mapping[str, Any]


@dataclass(frozen=True)
class Outcomes:
    """What has been measured so far.

    Attributes:
        tuning: Result by data set, method and rate.
        runs: Result by data set, row and seed.
        failures: Why the others failed, by the same keys.
    """

    tuning: Mapping[tuple[str, str, float], Measured]
    runs: Mapping[tuple[str, str, float], Measured]
    failures: Mapping[tuple[str, str, float], str]

    def rates(self, plan: Plan) -> dict[tuple[str, Method], float]:
        """The chosen rates."""
        chosen: dict[tuple[str, Method], float] = {}
        for name in plan.sets:
            for method in RECIPES:
                rate = chosen_rate(self.held_out(name, method), plan.scale.rates)
                if rate is not None:
                    chosen[name, method] = rate
        return chosen

    def held_out(self, name: str, method: str) -> dict[float, float | None]:
        """Accuracy on the held-out training images by rate; `None` where the training failed."""
        return {
            rate: top1(result) if (result := self.tuning.get((name, method, rate))) is not None else None
            for group, own, rate in {**self.tuning, **self.failures}
            if (group, own) == (name, method)
        }


def top1(result: Measured) -> float:
    """Linear evaluation."""
    return float(result["measures"]["linear"]["top1"])


_MEASURES: Mapping[str, Callable[[Measured], float | None]] = {
    "top-1, %": lambda result: 100 * top1(result),
    "top-5, %": lambda result: _percent(result["measures"]["linear"]["top5"]),
    "kNN, %": lambda result: 100 * float(result["measures"]["knn"]["accuracy"]),
    "std of outputs": lambda result: float(result["measures"]["held_out"]["standard_deviation"]),
    "effective rank": lambda result: float(result["measures"]["held_out"]["effective_rank"]),
    "median κ": lambda result: float(result["measures"]["held_out"]["concentration"]["50%"]),
}


def make_record(name: str, plan: Plan, outcomes: Outcomes, command: str, notes: Sequence[str] = ()) -> Record:
    """All of it, ready to be saved.

    Args:
        name: Of the record.
        plan: What was to be run.
        outcomes: What came of it; what is missing is a dash.
        command: What was typed.
        notes: Sentences that belong to the numbers.
    """
    return Record(
        name=name,
        title="Table 1: linear evaluation" + (f", {plan.scale.name} scale" if plan.scale.note else ""),
        command=command,
        configuration={
            **plan.settings(),
            "sets": list(plan.sets),
            "machine": {key: value for key, value in plan.machine.items() if not key.startswith("data.")},
            "labels": {row.key: row.label for row in plan.rows},
            "chosen rates": {f"{set_label(group)}, {method}": r for (group, method), r in outcomes.rates(plan).items()},
            "failures": {f"{set_label(key[0])}, {key[1]}, {key[2]:g}": why for key, why in outcomes.failures.items()},
        },
        seeds=plan.seeds,
        tables=(
            main_table(plan, outcomes),
            *(_set_table(plan, outcomes, group) for group in plan.sets),
            _tuning_table(plan, outcomes),
            papers_table(),
            lightlys_table(),
        ),
        figures=(f"{name}.png",),
        notes=(*([plan.scale.note] if plan.scale.note else []), *notes, *_warnings(plan, outcomes)),
    )


def main_table(plan: Plan, outcomes: Outcomes) -> Table:
    """Top-1 accuracy, and how it differs from SimSiam's, for each data set."""
    rows: dict[str, dict[str, Cell]] = {}
    for row in plan.rows:
        cells = rows.setdefault(row.label, {})
        for group in plan.sets:
            values = values_of(plan, outcomes, group, row.key, _MEASURES["top-1, %"])
            failed = failed_cell(plan, outcomes, group, row)
            cells[_column(plan, group, TOP1)] = failed or interval_cell(values)
            if row.key != REFERENCE:
                reference = values_of(plan, outcomes, group, REFERENCE, _MEASURES["top-1, %"])
                cells[_column(plan, group, DIFFERENCE)] = failed or difference_cell(values, reference)
    columns = tuple(_column(plan, group, what) for group in plan.sets for what in (TOP1, DIFFERENCE))
    seeds = len(plan.seeds)
    about = f"Percent, mean over {seeds} seed{'s' if seeds > 1 else ''}"
    about += " and its 95 % interval (Student's t); differences are paired by seed." if seeds > 1 else "."
    return Table("Linear evaluation on the validation images", columns, rows, note=f"{about} {LEGEND}", digits=1)


def interval_cell(values: Sequence[float | None]) -> Cell:
    """Mean and interval of what is there, and every seed's value."""
    known = [value for value in values if value is not None]
    if not known:
        return Cell(each=tuple(values))
    return Cell(*mean_interval(known), each=tuple(values))


def difference_cell(values: Sequence[float | None], reference: Sequence[float | None]) -> Cell:
    """Mean and interval of the differences to a reference, paired by seed."""
    differences = paired_differences(values, reference)
    return Cell(*mean_interval(differences), each=tuple(differences)) if differences else Cell()


def _set_table(plan: Plan, outcomes: Outcomes, group: str) -> Table:
    rows = {}
    for row in plan.rows:
        failed = failed_cell(plan, outcomes, group, row)
        rows[row.label] = {
            column: failed or interval_cell(values_of(plan, outcomes, group, row.key, read))
            for column, read in _MEASURES.items()
        }
    probe = plan.scale.probe
    chosen = sorted({result["measures"]["linear"]["learning_rate"] for result in outcomes.runs.values()})
    grid = sorted(probe.learning_rates)
    note = (
        f"Validation images; the network after the last epoch. The linear classifier is trained with LARS for "
        f"{probe.epochs} epochs; its rate is chosen on a fifth of the training images among {_list(grid)}; chosen were "
        f"{_list(chosen)}. kNN: vote of 20 neighbours. Standard deviation 1: outputs spread over the whole sphere, 0: "
        "collapse."
    )
    return Table(f"More on {set_label(group)}", tuple(_MEASURES), rows, note=note, digits=2)


def _tuning_table(plan: Plan, outcomes: Outcomes) -> Table:
    grid = plan.scale.rates
    columns = (*(f"{rate:g}" for rate in grid), "chosen")
    rows: dict[str, dict[str, Cell]] = {}
    for group in plan.sets:
        for method in RECIPES:
            accuracies = outcomes.held_out(group, method)
            cells = {
                f"{rate:g}": Cell(text="failed")
                if (group, method, rate) in outcomes.failures
                else Cell(None if (value := accuracies.get(rate)) is None else 100 * value)
                for rate in grid
            }
            rate = chosen_rate(accuracies, grid)
            if rate is not None:
                cells["chosen"] = Cell(text=f"{rate:g}" + (", at the edge" if rate in {grid[0], grid[-1]} else ""))
            rows[f"{set_label(group)}, {method}"] = cells
    return Table(
        "Choice of the learning rates",
        columns,
        rows,
        note=f"Linear evaluation, percent, on {HELD_OUT:.0%} of the training images of each class, which neither the "
        f"pretraining nor the classifier saw, after {plan.scale.tuning_epochs} epochs; one seed that the table does "
        "not use. No validation image is opened. At the edge: a rate outside of the grid may be better.",
        digits=1,
    )


def values_of(
    plan: Plan, outcomes: Outcomes, group: str, row: str, read: Callable[[Measured], float | None]
) -> list[float | None]:
    """What `read` finds in a row's results, one a seed; `None` where there is none."""
    results = [outcomes.runs.get((group, row, seed)) for seed in plan.seeds]
    return [None if result is None else read(result) for result in results]


def failed_cell(plan: Plan, outcomes: Outcomes, group: str, row: Row) -> Cell | None:
    """What stands in a row whose runs failed; `None` if none did."""
    bad = sum((group, row.key, seed) in outcomes.failures for seed in plan.seeds)
    untuned = row.rate is not None and not any((group, row.rate, r) in outcomes.tuning for r in plan.scale.rates)
    untuned &= any((group, row.rate, r) in outcomes.failures for r in plan.scale.rates)
    if not bad and not untuned:
        return None
    return Cell(text="failed" if untuned else f"failed ({bad} of {len(plan.seeds)} seeds)")


def _warnings(plan: Plan, outcomes: Outcomes) -> list[str]:
    found = []
    missing = len(plan.seeds) * len(plan.sets) * len(plan.rows) - len(outcomes.runs)
    if missing:
        found.append(f"{missing} of {missing + len(outcomes.runs)} trainings are missing.")
    if len(plan.seeds) < _MANY:
        found.append(f"Fewer than {_MANY} seeds: the intervals say little.")
    edges = {plan.scale.rates[0], plan.scale.rates[-1]}
    at_edge = [
        f"{method} on {set_label(group)}" for (group, method), rate in outcomes.rates(plan).items() if rate in edges
    ]
    if at_edge:
        found.append(f"The chosen learning rate is at the edge of the grid for {_list(at_edge)}.")
    return found


def _column(plan: Plan, group: str, what: str) -> str:
    return f"{set_label(group)}: {what}" if len(plan.sets) > 1 else f"{what}, {set_label(group)}"


def _list(items: Sequence[Any]) -> str:
    texts = [f"{item:g}" if isinstance(item, float) else str(item) for item in items]
    return ", ".join(texts)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * float(fraction)
