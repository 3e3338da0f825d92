"""From the runs of the study to its record: accuracy and the tests of κ in the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from experiments.evaluation.uncertainty.measures import (
    ACCURACY,
    ALL_SEVERITIES,
    AMBIGUITY,
    BEYOND_CORRECT,
    BEYOND_SEVERITY,
    CONTROL,
    CROP,
    EXCESS,
    GAIN,
    GAP,
    MEAN_GAP,
    R_AUROC,
    Measure,
    foreign_name,
    severity_name,
)
from experiments.evaluation.uncertainty.rivals import KAPPA
from experiments.figures.recipes import Column
from experiments.images.degradation_series import DEGRADATIONS
from experiments.records.record import Cell, Record, Table
from experiments.studies.recipes.examining import Questions
from experiments.studies.recipes.findings import MEAN, UNTOUCHED, Findings, agreement_name, excess_name, fall_name
from experiments.studies.recipes.foretelling import VIEWS
from experiments.studies.recipes.rows import LEGEND, PLAIN
from experiments.studies.report import (
    DIFFERENCE,
    difference_cell,
    failed_cell,
    interval_cell,
    top1,
    values_of,
)
from experiments.studies.rows import REFERENCE
from inference.judging.resampling import Estimate

TOP1 = "top-1"
AIMS = "aims reached"
_FORETELLING = "Should κ fall? What degraded images foretell"
_NOTHING_KNOWN = {CROP: 0.5, R_AUROC: 0.5, GAP: 0.1}  # of correlations 0
_MUCH = 0.3  # that κ promises too much: white in the figure
_MANY = 3  # seeds, for an interval that says something

_SHORT = {
    **{severity_name(series.name): f"U1 {series.name}" for series in DEGRADATIONS},
    ALL_SEVERITIES: "U1 mean",
    CROP: "U2",
    R_AUROC: "U3",
    GAP: "U6 gap",
    AMBIGUITY: "U8",
}


def make_record(name: str, findings: Findings, questions: Questions, command: str, notes: Sequence[str] = ()) -> Record:
    """All of it, ready to be saved.

    Args:
        name: Of the record.
        findings: What came out; what is missing is a dash.
        questions: What was asked.
        command: What was typed.
        notes: Sentences that belong to the numbers.
    """
    plan, outcomes = findings.plan, findings.outcomes
    scale = [plan.scale.note] if plan.scale.note else []
    return Record(
        name=name,
        title="What makes κ trustworthy" + (f", {plan.scale.name} scale" if scale else ""),
        command=command,
        configuration={
            **{name: value for name, value in plan.settings().items() if name not in {"rates", "tuning_epochs"}},
            "sets": list(plan.sets),
            "questions": asdict(questions),
            "degradations": {series.name: [series.unit, list(series.severities)] for series in DEGRADATIONS},
            "machine": {key: value for key, value in plan.machine.items() if not key.startswith("data.")},
            "labels": {row.key: row.label for row in plan.rows},
            "failures": {f"{key[1]}, {key[2]:g}": why for key, why in outcomes.failures.items()},
        },
        seeds=plan.seeds,
        tables=(
            main_table(findings),
            _table(findings, "U1: does u rise with the severity?", _severities()),
            _table(findings, "U2 to U8", _others(questions)),
            _foretelling_table(findings),
            _encoders(findings),
            _ensembles(findings),
            _rivals(findings, questions),
        ),
        figures=(f"{name}.png",),
        notes=(*scale, *notes, *_warnings(findings)),
    )


def main_table(findings: Findings) -> Table:
    """Accuracy and the tests that have an aim, in short."""
    tests = (ALL_SEVERITIES, CROP, R_AUROC, GAP)
    difference = f"{_SHORT[ALL_SEVERITIES]}, difference to VI-SimSiam"
    beside = {"U1 if κ knew": fall_name(MEAN), "degraded: ρ(κ) − cosine": excess_name(MEAN)}
    columns = (
        TOP1,
        DIFFERENCE,
        *(_SHORT[name] for name in tests[:1]),
        difference,
        *(_SHORT[name] for name in tests[1:]),
    )
    columns += (AIMS, *beside)

    def cells(key: str) -> dict[str, Cell]:
        accuracies = accuracies_of(findings, key)
        shown = {TOP1: interval_cell(accuracies)} | {_SHORT[name]: findings.cell(key, name) for name in tests}
        if key != REFERENCE:
            shown[DIFFERENCE] = difference_cell(accuracies, accuracies_of(findings, REFERENCE))
        if key != PLAIN:
            shown[difference] = difference_cell(
                findings.of_seeds(key, ALL_SEVERITIES), findings.of_seeds(PLAIN, ALL_SEVERITIES)
            )
        judged = [
            row for row in findings.rows if row.aim is not None and findings.cell(key, row.name).value is not None
        ]
        reached = [row for row in judged if reaches(row, findings.cell(key, row.name))]
        shown |= {column: findings.cell(key, name) for column, name in beside.items()}
        return {**shown, AIMS: Cell(text=f"{len(reached)} of {len(judged)}")}

    aims = "; ".join(f"{_SHORT[row.name]} {row.aim_text}" for row in findings.rows if row.aim is not None)
    note = (
        f"{_about(findings)} Aims, reached where the mean reaches them: {aims}. The last two columns are explained "
        f"below '{_FORETELLING}'. {LEGEND}"
    )
    return Table("Accuracy, and the tests of κ", columns, _by_recipe(findings, cells), note, "recipe")


def columns_of(findings: Findings) -> dict[Column, dict[str, Cell]]:
    """What the figure shows: each test that has an aim, and what κ promises too much; cells by recipe."""
    names = {
        row.name: Column(
            _SHORT[row.name], row.aim_text, _NOTHING_KNOWN.get(row.name, 0.0), row.aim, beyond=row.interval_beyond
        )
        for row in findings.rows
        if row.aim is not None
    }
    names[excess_name(MEAN)] = Column("degraded ρ(κ)−c", "0", _MUCH, 0.0, signed=False)
    return {
        column: {recipe.label: findings.cell(recipe.key, name) for recipe in findings.plan.rows}
        for name, column in names.items()
    }


def accuracies_of(findings: Findings, key: str) -> list[float | None]:
    """Of the linear evaluation, one a seed."""
    return values_of(findings.plan, findings.outcomes, findings.group, key, top1)


def reaches(row: Measure, cell: Cell) -> bool:
    """Whether the mean over seeds reaches the aim; what an interval has to lie beyond is the one over seeds."""
    if cell.value is None:
        return False
    low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
    return bool(row.met(Estimate(cell.value, low, high)))


def _foretelling_table(findings: Findings) -> Table:
    names = [*(series.name for series in DEGRADATIONS), MEAN]
    chosen = [(name, one) for name in (fall_name, agreement_name) for one in names]
    chosen += [(excess_name, one) for one in (UNTOUCHED, *names)]
    columns = {name(one): name(one) for name, one in chosen}
    note = (
        "What κ is trained to know, measured: the cosine of the mean direction that a degraded image's expert has with "
        f"{VIEWS} fresh views of the image that are not degraded but by the recipe. Fall: mean per-image Spearman "
        "correlation of the severity with −cosine, the U1 of a κ that knew. κ with the cosine: Spearman correlation of "
        "κ with it over all levels of all images. ρ(κ) − cosine: what κ promises above what comes, mean over the "
        "untouched images, and over the most degraded ones; 0 is calibrated."
    )
    table = _table(findings, _FORETELLING, columns)
    return replace(table, note=f"{_about(findings)} {note}")


def _severities() -> dict[str, str]:
    names = {f"{series.name}": severity_name(series.name) for series in DEGRADATIONS}
    return {**names, "mean": ALL_SEVERITIES, "given edge energy": BEYOND_SEVERITY}


def _others(questions: Questions) -> dict[str, str]:
    foreign = {f"U5 {name.rpartition('/')[2]}": foreign_name(name.rpartition("/")[2]) for name in questions.foreign}
    return {
        "U2": CROP,
        "U3": R_AUROC,
        "U3 given edge energy": BEYOND_CORRECT,
        "U4 accuracy at 80 %": ACCURACY,
        "U4 area above the oracle's": EXCESS,
        **foreign,
        "U6 largest gap": GAP,
        "U6 mean gap": MEAN_GAP,
        "U7": GAIN,
        "U8": AMBIGUITY,
        "U8 control": CONTROL,
    }


_MEANING = (
    "U1: mean per-image Spearman correlation of u with the severity; given edge energy: the partial correlation. U2: "
    "P(u of a crop > u of the whole). U3: AUROC of u for a wrong nearest neighbour, and its partial correlation. U4: "
    "the linear probe without the fifth of largest u; area of risk over coverage above the oracle's. U5: AUROC against "
    "another set. U6: ρ(κ) against the mean cosine of fresh views, in ten bins; views as the recipe draws them. U7: "
    "nats per dimension gained over one κ for all. U8: Spearman correlation with the ambiguity of superpositions; the "
    "control superposes one class. u = −κ. Areas and gaps: less is better; ½ is chance for U2, U3 and U5, 0 for "
    "correlations."
)


def _table(findings: Findings, title: str, columns: Mapping[str, str]) -> Table:
    def cells(key: str) -> dict[str, Cell]:
        return {column: findings.cell(key, name) for column, name in columns.items()}

    note = f"{_about(findings)} {_MEANING}"
    return Table(title, tuple(columns), _by_recipe(findings, cells), note, "recipe")


def _encoders(findings: Findings) -> Table:
    reads: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "kNN": lambda result: float(result["measures"]["knn"]["accuracy"]),
        "standard deviation": lambda result: float(result["measures"]["held_out"]["standard_deviation"]),
        "effective rank": lambda result: float(result["measures"]["held_out"]["effective_rank"]),
        "median κ": lambda result: float(result["measures"]["held_out"]["concentration"]["50%"]),
    }

    def cells(key: str) -> dict[str, Cell]:
        found = {
            column: values_of(findings.plan, findings.outcomes, findings.group, key, read)
            for column, read in reads.items()
        }
        return {column: interval_cell(values) for column, values in found.items()}

    note = (
        f"{_about(findings)} Standard deviation and effective rank of the outputs on the validation images: 1 and the "
        "dimension for the uniform law, 0 at collapse, under which all else would be void."
    )
    return Table("The encoders", tuple(reads), _by_recipe(findings, cells), note, "recipe")


def _ensembles(findings: Findings) -> Table:
    columns = {**{f"U1 {column}": name for column, name in _severities().items()}, "U2": CROP, "U3": R_AUROC}
    columns |= {"U4 accuracy at 80 %": ACCURACY, "U8": AMBIGUITY}
    rows = {}
    for recipe in findings.plan.rows:
        members = findings.together.get(recipe.key)
        if members is None:
            continue
        values = {column: [of[name][KAPPA] for of in members] for column, name in columns.items() if name in members[0]}
        rows[recipe.label] = {column: Cell(sum(each) / len(each), each=tuple(each)) for column, each in values.items()}
    note = (
        "One κ made of all the seeds: log κ is the mean of the members' standardised log κ. There is one ensemble, so "
        "that there is no interval; for U3 and U4, errors of each member are foretold, and the mean is shown. To be "
        "compared with the rows of the tables above."
    )
    return Table("Ensembles of the seeds", tuple(columns), rows, note, "recipe")


def _rivals(findings: Findings, questions: Questions) -> Table:
    plain = {**{f"U1 {column}": name for column, name in _severities().items()}, **_others(questions)}
    columns = {column: name for column, name in plain.items() if not column.startswith(("U6", "U7"))}
    found = next((of for (recipe, _), of in findings.values.items() if recipe == PLAIN), {})
    rows = {}
    for u in found.get(R_AUROC, {}):
        if not u.startswith(KAPPA) or u == KAPPA:
            rows[u] = {column: interval_cell(findings.of_seeds(PLAIN, name, u)) for column, name in columns.items()}
    note = (
        "The same images and the encoders of the row VI-SimSiam. What looks at pixels alone is the same for every "
        "recipe, but for the errors that it is to foretell. Edge energy, JPEG size, entropy and norm are taken "
        "negatively. The maximum softmax was told the labels: a ceiling, no rival."
    )
    return Table("What competes with κ", tuple(columns), rows, note, "u")


def _by_recipe(findings: Findings, cells: Callable[[str], dict[str, Cell]]) -> dict[str, dict[str, Cell]]:
    rows = {}
    for row in findings.plan.rows:
        failed = failed_cell(findings.plan, findings.outcomes, findings.group, row)
        made = cells(row.key)
        rows[row.label] = made if failed is None else dict.fromkeys(made, failed)
    return rows


def _about(findings: Findings) -> str:
    seeds = len(findings.plan.seeds)
    about = f"Mean over {seeds} seed{'s' if seeds > 1 else ''}"
    return about + (" and its 95 % interval (Student's t); differences are paired by seed." if seeds > 1 else ".")


def _warnings(findings: Findings) -> list[str]:
    plan, found = findings.plan, []
    missing = len(plan.seeds) * len(plan.rows) - len(findings.values)
    if missing:
        found.append(f"{missing} of {len(plan.seeds) * len(plan.rows)} runs are missing.")
    if len(plan.seeds) < _MANY:
        found.append(f"Fewer than {_MANY} seeds: the intervals say little.")
    if findings.collapsed:
        found.append(f"VOID, for the outputs have collapsed: {'; '.join(findings.collapsed)}.")
    return found
