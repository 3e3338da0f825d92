"""From measures of several seeds to the tables, figures and the record."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from types import MappingProxyType

import torch
from scipy import stats
from torch import Tensor

from experiments.evaluation.uncertainty.ambiguity import WEIGHTS
from experiments.evaluation.uncertainty.measures import Measure, Measured, binned, measure, measures
from experiments.evaluation.uncertainty.observations import Observations
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, SOFTMAX
from experiments.figures.uncertainty import UncertaintyCurves
from experiments.images.degradations import DEGRADATIONS
from experiments.records.record import Cell, Table
from inference.judging.collapse import has_collapsed
from inference.judging.resampling import Estimate
from inference.judging.selective_prediction import risk_coverage_curve

LEVEL = 0.95

DEGRADED_BY = {series.name: [series.unit, list(series.severities)] for series in DEGRADATIONS}
"""The degradations, for a record."""
AIM = "aim"
_NOTE = (
    "Cells: mean over the seeds; in brackets the lowest and the highest end of the seeds' 95 % bootstrap intervals "
    "over images, so that a bound that the brackets respect is respected by each seed. An aim is met if each seed "
    "meets it. Larger is better unless said "
    "otherwise; ½ is chance for U2, U3 and U5, 0 for correlations. Edge energy, JPEG size, entropy and norm are taken "
    "negatively (few edges count as uncertain); where one lies below chance, its opposite lies above it by as much. "
    "The maximum softmax belongs to a classifier that was trained on labels: a ceiling, no rival. An ensemble's log κ "
    "is the mean of its members' standardised log κ; each member's own errors are what it is to predict."
)


def combine(estimates: Sequence[Estimate]) -> Cell:
    """One cell of several seeds: the mean, and the envelope of the intervals.

    Example:
        >>> combine([Estimate(0.5, 0.4, 0.7), Estimate(0.6, 0.5, 0.65)])
        Cell(value=0.55, low=0.4, high=0.7, each=(0.5, 0.6), text='')
    """
    values = tuple(estimate.value for estimate in estimates)
    if any(math.isnan(value) for value in values):
        return Cell(None, each=values)
    mean, lows, highs = fmean(values), *zip(*((estimate.low, estimate.high) for estimate in estimates), strict=True)
    if any(math.isnan(end) for end in lows):
        return Cell(mean, each=values)
    return Cell(mean, min(lows), max(highs), values)


def measures_table(rows: Sequence[Measure], names: Sequence[str], measured: Sequence[Measured]) -> Table:
    """U1 to U8: a row a measure, a column an uncertainty, and κ's aim with whether every seed meets it."""
    cells: dict[str, dict[str, Cell]] = {}
    for row in rows:
        of_row = [seed[row.name] for seed in measured]
        cells[row.name] = {
            name: combine([seed[name] for seed in of_row]) for name in names if all(name in seed for seed in of_row)
        }
        cells[row.name][AIM] = Cell(text=_verdict(row, [seed.get(KAPPA) for seed in of_row]) or " ")
    columns = (KAPPA, AIM, *(name for name in names if name != KAPPA))
    return Table("κ and its rivals", columns, cells, _NOTE, "measure", 3)


def judge(
    labels: Sequence[str],
    members: Sequence[Observations],
    options: Namespace,
    *,
    aims: Mapping[str, float | None] = MappingProxyType({}),
    alike: bool = True,
    without: Collection[str] = (),
    of: str = "",
    networks: str = "The encoders",
) -> list[Table]:
    """The measures with intervals over images, the same over seeds, and what stands behind them.

    Args:
        labels: Of the members.
        members: What each saw of the same images.
        options: Resamples and seed.
        aims: What is aimed at instead, by measure.
        alike: Whether the members differ in the seed alone: otherwise there are no intervals over seeds.
        without: Columns for which seeds mean nothing.
        of: What the images are called, before the titles.
        networks: Title of the last table.
    """
    measured = [measure(member, resamples=options.resamples, seed=options.seed) for member in members]
    rows = [replace(row, aim=aims.get(row.name, row.aim)) for row in measures(members[0])]
    shown = [name for name in members[0].names if all(name in member.names for member in members)]
    tables = [measures_table(rows, shown, measured)]
    if alike and len(members) > 1:
        tables.append(seeds_table(tables[0], without={AIM, *without}))
    tables.append(replace(networks_table(labels, members), title=networks))
    return [replace(table, title=f"{of}{table.title}") for table in tables]


def over_seeds(values: Sequence[float]) -> Cell:
    """The mean of several seeds, with the 95 % interval of Student's t.

    mean ± t · s/√N, with s the standard deviation over the N seeds and t the quantile (1 + `LEVEL`)/2 of Student's
    distribution of N − 1 degrees of freedom: it covers the mean over all seeds with the probability `LEVEL`, were
    measures normally distributed over seeds.

    Args:
        values: One a seed, two or more; a NaN leaves the cell empty.

    Raises:
        ValueError: If there are fewer than two.

    Example:
        >>> over_seeds([0.5, 0.6, 0.7]).show(3)
        '0.600 (0.352 to 0.848)'
    """
    if len(values) < 2:
        raise ValueError(f"values must be of two seeds or more, got {len(values)}")
    if any(math.isnan(value) for value in values):
        return Cell(None, each=tuple(values))
    mean = fmean(values)
    if len(set(values)) == 1:  # nothing in it depends on the seed
        return Cell(values[0], each=tuple(values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Cell(mean, mean - half, mean + half, tuple(values))


def seeds_table(table: Table, *, without: Collection[str] = ()) -> Table:
    """The same measures with intervals over seeds instead of over images.

    Args:
        table: Whose cells have the value of each seed.
        without: Columns that have none, or for which seeds mean nothing.
    """
    columns = tuple(column for column in table.columns if column not in without)
    rows = {
        name: {
            column: over_seeds([math.nan if value is None else value for value in cells[column].each])
            for column in columns
            if column in cells and len(cells[column].each) > 1
        }
        for name, cells in table.rows.items()
    }
    count = max(len(cell.each) for cells in rows.values() for cell in cells.values())
    note = (
        f"Cells: mean over the {count} seeds; in brackets its {LEVEL:.0%} interval by Student's t, with {count - 1} "
        f"degree{'s' if count > 2 else ''} of freedom and not cut at the ends of a measure's range. It is about the "
        "mean over all seeds on these images; the brackets of the table above are about these networks on other "
        "images. What looks at pixels alone depends on the seed only through the errors that it is to predict. An "
        "ensemble is made of all the seeds, and is left out."
    )
    return Table(f"{table.title}, over seeds", columns, rows, note, table.corner, table.digits)


def networks_table(names: Sequence[str], observations: Sequence[Observations]) -> Table:
    """What stands behind the measures: collapse, and the quality of the features."""
    columns = ("standard deviation", "effective rank", "R@1", "linear probe", "κ: 5 %", "κ: median", "κ: 95 %")
    rows = {}
    for name, seen in zip(names, observations, strict=True):
        quantiles = (-seen.clean[KAPPA]).quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        accuracies = [
            None if right is None else float(right.double().mean())
            for right in (seen.neighbour_is_right, seen.probe_is_right)
        ]
        numbers = [seen.standard_deviation, seen.effective_rank, *accuracies, *quantiles]
        rows[name] = {column: Cell(value) for column, value in zip(columns, numbers, strict=True)}
    note = "Standard deviation and effective rank of the outputs: 1 and d for the uniform distribution, 0 at collapse."
    return Table("The encoders", columns, rows, note, "seed", 3)


def warnings(observations: Sequence[Observations]) -> tuple[str, ...]:
    """What must not be overlooked."""
    found = []
    if any(has_collapsed(seen.standard_deviation, seen.effective_rank) for seen in observations):
        found.append("VOID: the outputs have collapsed, so that there is nothing to be uncertain about.")
    if not all(KAPPA in seen.names for seen in observations):
        found.append("κ is constant in this method and ranks nothing.")
    if len(observations) < 3:
        found.append(f"Only {len(observations)} seed{'s' if len(observations) > 1 else ''}: no statement about seeds.")
    return tuple(found)


def curves(observations: Observations) -> UncertaintyCurves:
    """What the figure of one seed shows."""
    risk: dict[str, Tensor] = {}
    if observations.probe_is_right is not None:
        right = observations.probe_is_right
        shown = [name for name in (KAPPA, EDGES, "kNN distance", SOFTMAX) if name in observations.names]
        risk = {name: risk_coverage_curve(observations.clean[name], right) for name in shown}
        risk["oracle"] = risk_coverage_curve((~right).double(), right)
    ambiguity = None
    if observations.ambiguous and observations.control:
        ambiguity = (
            2 * torch.tensor(WEIGHTS),
            _relative(observations.ambiguous[KAPPA]),
            _relative(observations.control[KAPPA]),
        )
    fresh = observations.fresh
    return UncertaintyCurves(
        {name: _relative(levels[KAPPA]) for name, levels in observations.degraded.items()},
        risk,
        binned(fresh.expected, fresh.cosine),
        ambiguity,
    )


def _relative(uncertainty: Tensor) -> Tensor:
    """Median over images of κ over κ at level 0; the argument is −κ, `(levels, images)`."""
    return (uncertainty / uncertainty[0].clamp_max(-torch.finfo(uncertainty.dtype).tiny)).median(1).values


def _verdict(row: Measure, estimates: Sequence[Estimate | None]) -> str:
    met = [None if estimate is None else row.met(estimate) for estimate in estimates]
    if None in met:  # there is no aim, or nothing to compare with it
        return row.aim_text
    return f"{row.aim_text}: {'met' if all(met) else 'not met'}"
