"""U1 to U8: what observations say of κ and of its rivals, as numbers with intervals, and what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA
from inference.judging.calibration import (
    calibration_bins,
    power_spherical_likelihood_gain,
    von_mises_fisher_likelihood_gain,
)
from inference.judging.resampling import Estimate, bootstrap
from inference.judging.selective_prediction import accuracy_at_coverage, area_under_risk_coverage, excess_area
from inference.judging.uncertainty import (
    correctness_auroc,
    foreign_auroc,
    partial_spearman,
    probability_of_increase,
    severity_correlations,
    spearman,
)
from ssl_as_inference.distributions import PowerSpherical

COLLAPSED_STANDARD_DEVIATION = 0.1
COLLAPSED_RANK = 2.0
"""Below either of the two there is nothing that κ could be uncertain about."""

_BINS = 10
_FEWER = 200

Measured = dict[str, dict[str, Estimate]]
"""Name of the measure, name of the uncertainty, value."""


@dataclass(frozen=True)
class Measure:
    """What is measured, and what κ should reach.

    Attributes:
        name: In the tables.
        aim: Bound on the value, or `None` where none was set.
        at_most: Whether the aim is an upper bound.
        interval_beyond: What the interval has to lie above, or `None`.
    """

    name: str
    aim: float | None = None
    at_most: bool = False
    interval_beyond: float | None = None

    def met(self, estimate: Estimate) -> bool | None:
        """Whether the aim is met; `None` where there is none or nothing was measured."""
        if self.aim is None or math.isnan(estimate.value):
            return None
        reached = estimate.value <= self.aim if self.at_most else estimate.value >= self.aim
        return reached and (self.interval_beyond is None or estimate.low > self.interval_beyond)

    @property
    def aim_text(self) -> str:
        """The aim in a table."""
        if self.aim is None:
            return ""
        beyond = "" if self.interval_beyond is None else f", interval > {self.interval_beyond:g}"
        return f"{'≤' if self.at_most else '≥'} {self.aim:g}{beyond}"


def measures(observations: Observations) -> list[Measure]:
    """What is measured on these observations, in the order of the table."""
    labelled = observations.neighbour_is_right is not None
    rows = [Measure(severity_name(name), 0.3) for name in observations.degraded]
    rows += [Measure(ALL_SEVERITIES, 0.6), Measure(CROP, 0.8)]
    if labelled:
        rows += [
            Measure(R_AUROC, 0.6, interval_beyond=0.5),
            *(Measure(name) for name in (AURC, EXCESS, ACCURACY)),
        ]
    rows += [Measure(foreign_name(name)) for name in observations.foreign]
    rows += [Measure(GAP, 0.03, at_most=True), Measure(MEAN_GAP), Measure(GAIN)]
    if labelled:
        rows += [Measure(AMBIGUITY, 0.5), Measure(CONTROL), Measure(BEYOND_CORRECT)]
    return [*rows, Measure(BEYOND_SEVERITY)]


ALL_SEVERITIES = "U1 Spearman with severity, mean of all"
CROP = "U2 P(u of crop > u of whole)"
R_AUROC = "U3 R-AUROC"
AURC = "U4 AURC (less is better)"
EXCESS = "U4 AURC above the oracle's (less is better)"
ACCURACY = "U4 accuracy at 80 % coverage"
GAP = "U6 largest gap of expected and seen cosine"
MEAN_GAP = "U6 mean gap"
GAIN = "U7 nats per dimension gained over one κ for all"
AMBIGUITY = "U8 Spearman with ambiguity"
CONTROL = "U8 control: the same for superpositions of one class"
BEYOND_CORRECT = "Partial correlation with U3's errors, given edge energy"
BEYOND_SEVERITY = "Partial correlation with severity, given edge energy"


def severity_name(degradation: str) -> str:
    """Name of the measure for one degradation."""
    return f"U1 Spearman with severity: {degradation}"


def foreign_name(images: str) -> str:
    """Name of the measure for one foreign set."""
    return f"U5 AUROC against {images}"


def measure(observations: Observations, *, resamples: int = 1000, seed: int = 0) -> Measured:
    """Compute everything that `measures` names for every uncertainty that says anything.

    Intervals are the bootstrap's, over images: an image's degraded versions stay together, and so do the levels of a
    superposition.
    """
    sheet = _Sheet({row.name: {} for row in measures(observations)}, resamples, seed)
    for name in observations.names:
        _follow(sheet, observations, name)
        if observations.neighbour_is_right is not None and observations.probe_is_right is not None:
            _foretell(sheet, observations, name, observations.neighbour_is_right, observations.probe_is_right)
        for which, superpositions in ((AMBIGUITY, observations.ambiguous), (CONTROL, observations.control)):
            if superpositions:
                sheet.enter(which, name, _pooled_spearman, superpositions[name].T)
    if KAPPA in observations.names:
        _calibrate(sheet, observations.fresh)
    return sheet.measured


@dataclass(frozen=True)
class _Sheet:
    measured: Measured
    resamples: int
    seed: int

    def enter(
        self, name: str, uncertainty: str, statistic: Callable[..., float], *columns: Tensor, paired: bool = True
    ) -> None:
        self.measured[name][uncertainty] = bootstrap(
            statistic, *columns, paired=paired, resamples=self.resamples, seed=self.seed
        )


def _follow(sheet: _Sheet, observations: Observations, name: str) -> None:
    """Degradations, crops and foreign images: what needs no label."""
    followed = {which: severity_correlations(u[name]) for which, u in observations.degraded.items()}
    for which, correlations in followed.items():
        sheet.enter(severity_name(which), name, _mean, correlations)
    sheet.enter(ALL_SEVERITIES, name, _mean, torch.stack(list(followed.values())).mean(0))
    clean = observations.clean[name]
    sheet.enter(CROP, name, probability_of_increase, clean, observations.cropped[name])
    for images, foreign in observations.foreign.items():
        sheet.enter(foreign_name(images), name, foreign_auroc, clean, foreign[name], paired=False)
    if name != EDGES:
        # Each resample ranks all levels of all images: fewer of them.
        both = [torch.stack([u[name].T, u[EDGES].T], dim=1) for u in observations.degraded.values()]
        fewer = replace(sheet, resamples=min(sheet.resamples, _FEWER))
        fewer.enter(BEYOND_SEVERITY, name, _partial_with_severity, torch.stack(both, dim=1))


def _foretell(
    sheet: _Sheet, observations: Observations, name: str, neighbour_is_right: Tensor, probe_is_right: Tensor
) -> None:
    """Errors of the nearest neighbour and of the linear probe."""
    clean = observations.clean[name]
    sheet.enter(R_AUROC, name, correctness_auroc, -clean, neighbour_is_right)
    sheet.enter(AURC, name, area_under_risk_coverage, clean, probe_is_right)
    sheet.enter(EXCESS, name, excess_area, clean, probe_is_right)
    sheet.enter(ACCURACY, name, accuracy_at_coverage, clean, probe_is_right)
    if name != EDGES:
        wrong = (~neighbour_is_right).double()
        sheet.enter(BEYOND_CORRECT, name, partial_spearman, clean, wrong, observations.clean[EDGES])


def _calibrate(sheet: _Sheet, fresh: FreshViews) -> None:
    """The value of κ, which no rival has."""
    bins = min(_BINS, len(fresh.cosine))
    for which, name in (("largest_gap", GAP), ("mean_gap", MEAN_GAP)):
        sheet.enter(name, KAPPA, partial(_gap, which, bins), fresh.expected, fresh.cosine)
    power = fresh.law is PowerSpherical
    gain = power_spherical_likelihood_gain if power else von_mises_fisher_likelihood_gain
    sheet.enter(GAIN, KAPPA, partial(gain, fresh.dim), fresh.concentration, fresh.cosine)


def collapsed(observations: Observations) -> bool:
    """Whether the outputs fill so little of the sphere that all else is void."""
    return (
        observations.standard_deviation < COLLAPSED_STANDARD_DEVIATION or observations.effective_rank < COLLAPSED_RANK
    )


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _gap(which: str, bins: int, expected: Tensor, cosine: Tensor) -> float:
    return float(getattr(calibration_bins(expected, cosine, bins=bins), which))


def _levels(count: int, images: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64).expand(images, count)


def _pooled_spearman(rows: Tensor) -> float:
    """Correlation of u with the level over all pairs of an image and a level; rows are images."""
    return spearman(rows.flatten(), _levels(rows.size(1), len(rows)).flatten())


def _partial_with_severity(both: Tensor) -> float:
    """Mean over degradations; `both` is `(images, degradations, 2, levels)`: u and edge energy's u."""
    results = []
    for u, edges in (one.unbind(1) for one in both.unbind(1)):
        levels = _levels(u.size(1), len(u)).flatten()
        results.append(partial_spearman(u.flatten(), levels, edges.flatten()))
    return sum(results) / len(results)
