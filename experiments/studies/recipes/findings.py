"""What was found: every encoder of the study measured, recipe by recipe and seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from experiments.evaluation.uncertainty.ensemble import ensemble_name, with_ensemble
from experiments.evaluation.uncertainty.measures import ALL_SEVERITIES, Measure, collapsed, measure, measures
from experiments.evaluation.uncertainty.observations import Observations
from experiments.evaluation.uncertainty.rivals import KAPPA, TWO_VIEWS
from experiments.records.record import Cell
from experiments.studies.planning import Plan, Run
from experiments.studies.recipes.examining import seen_of
from experiments.studies.recipes.foretelling import agreement, fall, promised_too_much
from experiments.studies.report import Outcomes, interval_cell

MEAN = "mean"
UNTOUCHED = "untouched"

_USED = (KAPPA, TWO_VIEWS)

Values = Mapping[str, Mapping[str, float]]
"""Measure and uncertainty to value."""


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Attributes:
        plan: What was to be run.
        outcomes: Of the trainings and their linear evaluation.
        rows: What is measured and aimed at, the same for every encoder.
        values: Of every encoder by recipe and seed.
        together: Of the ensemble of a recipe's seeds, for each member, by recipe.
        collapsed: Encoders whose outputs have.
    """

    plan: Plan
    outcomes: Outcomes
    rows: tuple[Measure, ...]
    values: Mapping[tuple[str, float], Values]
    together: Mapping[str, tuple[Values, ...]]
    collapsed: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, outcomes: Outcomes) -> Findings:
        """Measure what is finished. Intervals are those over seeds: nothing is resampled."""
        rows: tuple[Measure, ...] = ()
        values, together, fallen = {}, {}, []
        by_recipe: dict[str, list[Run]] = {}
        for run in plan.runs({}):
            if run.key in outcomes.runs:
                by_recipe.setdefault(run.key[1], []).append(run)
        for key, runs in by_recipe.items():
            read = [seen_of(run) for run in runs]
            seen = [observations for observations, _ in read]
            rows = rows or tuple(measures(seen[0]))
            if len(seen) > 1 and all(KAPPA in each.names for each in seen):
                seen = with_ensemble(seen)
                name = ensemble_name(len(seen))
                alone = [_measured(each) for each in seen]
                together[key] = tuple({m: {KAPPA: of[name]} for m, of in one.items() if name in of} for one in alone)
            else:
                alone = [_measured(each) for each in seen]
            for run, each, one, (_, cosines) in zip(runs, seen, alone, read, strict=True):
                values[key, run.key[2]] = {**one, **_foretelling(each, cosines)}
                if collapsed(each):
                    fallen.append(run.title)
        return cls(plan, outcomes, rows, values, together, tuple(fallen))

    @property
    def group(self) -> str:
        """The data set."""
        return self.plan.sets[0]

    def u(self, key: str) -> str:
        """The uncertainty that a recipe offers: κ, or where there is none the cosine of two views."""
        found = [of for (recipe, _), of in self.values.items() if recipe == key]
        return KAPPA if all(KAPPA in of[ALL_SEVERITIES] for of in found) else TWO_VIEWS

    def of_seeds(self, key: str, name: str, u: str | None = None) -> list[float | None]:
        """A measure of a recipe, one value a seed."""
        u = self.u(key) if u is None else u
        return [self.values.get((key, seed), {}).get(name, {}).get(u) for seed in self.plan.seeds]

    def cell(self, key: str, name: str) -> Cell:
        """Its mean and interval."""
        return interval_cell(self.of_seeds(key, name))


def _measured(observations: Observations) -> Values:
    # One resample, whose interval nobody reads.
    return {
        name: {u: estimate.value for u, estimate in of.items()}
        for name, of in measure(observations, resamples=1).items()
    }


def _foretelling(observations: Observations, foretold: Mapping[str, Tensor]) -> Values:
    """What κ should say of degraded images, and whether it does."""
    falls = {name: fall(cosines) for name, cosines in foretold.items()}
    falls[MEAN] = sum(falls.values()) / len(falls)
    found: dict[str, dict[str, float]] = {fall_name(name): dict.fromkeys(_USED, value) for name, value in falls.items()}
    if KAPPA in observations.names:
        agreements = {
            name: agreement(observations.degraded[name][KAPPA], cosines) for name, cosines in foretold.items()
        }
        agreements[MEAN] = sum(agreements.values()) / len(agreements)
        found |= {agreement_name(name): {KAPPA: value} for name, value in agreements.items()}
        excess = {
            name: promised_too_much(observations.fresh, -observations.degraded[name][KAPPA], cosines)
            for name, cosines in foretold.items()
        }
        strongest = {name: float(levels[-1]) for name, levels in excess.items()}
        strongest[MEAN] = sum(strongest.values()) / len(strongest)
        strongest[UNTOUCHED] = float(next(iter(excess.values()))[0])
        found |= {excess_name(name): {KAPPA: value} for name, value in strongest.items()}
    return found


def fall_name(degradation: str) -> str:
    """Name of the measure."""
    return f"{degradation}: fall of the cosine"


def agreement_name(degradation: str) -> str:
    """Name of the measure."""
    return f"{degradation}: κ with the cosine"


def excess_name(degradation: str) -> str:
    """Name of the measure."""
    return f"{degradation}: ρ(κ) − cosine"
