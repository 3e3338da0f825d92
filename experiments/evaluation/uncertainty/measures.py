"""U1 to U8: what observations say of κ and of its rivals, as numbers with intervals, and what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA
from inference.judging.calibration import (
    CalibrationBins,
    calibration_bins,
    gaps_by_chance,
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

_BINS = 10
_FEWER = 200

Measured = dict[str, dict[str, Estimate]]
"""Name of the measure, name of the uncertainty, value."""


def _mean(values: Tensor) -> float:
    return float(values.mean())


@dataclass(frozen=True)
class Measure:
    """What is measured of an uncertainty, and what κ should reach.

    Attributes:
        name: In the tables.
        aim: Bound on the value, or `None` where none was set.
        at_most: Whether the aim is an upper bound.
        interval_beyond: What the interval has to lie above, or `None`.
        columns: What `statistic` is called with: rows are images, so that an image's degraded versions stay together in
            a resample. With `None` among them there is nothing to measure.
        statistic: Columns to the value.
        paired: Whether the columns are of the same images.
        resamples: At most, of the bootstrap; with none there is no interval.
    """

    name: str
    aim: float | None = None
    at_most: bool = False
    interval_beyond: float | None = None
    columns: Sequence[Tensor | None] = (None,)
    statistic: Callable[..., float] = _mean
    paired: bool = True
    resamples: int | None = None

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


LEAST_OF_EACH, LEAST_OF_MEAN = 0.3, 0.6
"""What U1 should reach for each degradation, and in the mean."""
ALL_SEVERITIES = "U1 Spearman with severity, mean of all"
CROP = "U2 P(u of crop > u of whole)"
R_AUROC = "U3 R-AUROC"
WITHIN = "U3 R-AUROC within classes"
LEAD = "U3 κ's R-AUROC minus this one's"
AURC = "U4 AURC (less is better)"
EXCESS = "U4 AURC above the oracle's (less is better)"
ACCURACY = "U4 accuracy at 80 % coverage"
GAP = "U6 largest gap of expected and seen cosine"
MEAN_GAP = "U6 mean gap"
BY_CHANCE = ", of a perfect κ"
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


def measures(seen: Observations, name: str = KAPPA) -> list[Measure]:
    """What is measured of an uncertainty, and how, in the order of the table: the same rows for every uncertainty."""
    clean, fresh, right, probed = seen.clean, seen.fresh, seen.neighbour_is_right, seen.probe_is_right
    u, edges = clean[name], clean[EDGES]
    levels = {kind: looks[name] for kind, looks in seen.degraded.items() if name in looks}
    followed = {kind: severity_correlations(each) for kind, each in levels.items()}
    # Of the images that were cropped, which may be fewer: each degradation's level 0.
    whole = next(iter(levels.values()))[0] if levels else None
    all_followed = torch.stack([*followed.values()]).mean(0) if followed else None

    rows = [Measure(severity_name(kind), LEAST_OF_EACH, columns=[followed.get(kind)]) for kind in seen.degraded]
    rows += [
        Measure(ALL_SEVERITIES, LEAST_OF_MEAN, columns=[all_followed]),
        Measure(CROP, 0.8, columns=[whole, seen.cropped.get(name)], statistic=probability_of_increase),
    ]
    if right is not None:
        kappa = None if name == KAPPA or KAPPA not in seen.names else -clean[KAPPA]
        rows += [
            Measure(R_AUROC, 0.6, interval_beyond=0.5, columns=[-u, right], statistic=correctness_auroc),
            Measure(WITHIN, columns=[-u, right, seen.classes], statistic=correctness_auroc),
            Measure(LEAD, columns=[kappa, -u, right], statistic=_lead),
        ]
    if probed is not None:
        of_probe = ((AURC, area_under_risk_coverage), (EXCESS, excess_area), (ACCURACY, accuracy_at_coverage))
        rows += [Measure(title, columns=[u, probed], statistic=statistic) for title, statistic in of_probe]
    for images, foreign in seen.foreign.items():
        columns = [u, foreign.get(name)]
        rows.append(Measure(foreign_name(images), columns=columns, statistic=foreign_auroc, paired=False))
    # No rival has a value that could be right.
    expected, concentration = (fresh.expected, fresh.concentration) if name == KAPPA else (None, None)
    # The largest gap of a resample is larger than that of the images: a bootstrap's interval would not hold the value.
    gaps = partial(Measure, at_most=True, columns=[expected, fresh.cosine], resamples=0)
    rows += [
        gaps(GAP, 0.03, statistic=lambda *columns: binned(*columns).largest_gap),
        gaps(MEAN_GAP, statistic=lambda *columns: binned(*columns).mean_gap),
        gaps(GAP + BY_CHANCE, statistic=lambda *columns: gaps_by_chance(*columns, bins=_BINS)[0]),
        gaps(MEAN_GAP + BY_CHANCE, statistic=lambda *columns: gaps_by_chance(*columns, bins=_BINS)[1]),
        Measure(GAIN, columns=[concentration, fresh.cosine], statistic=likelihood_gain(fresh)),
    ]
    beside_edges = None if name == EDGES else u
    if right is not None:
        ambiguous, control = (look[name].T if name in look else None for look in (seen.ambiguous, seen.control))
        wrong = (~right).double()
        rows += [
            Measure(AMBIGUITY, 0.5, columns=[ambiguous], statistic=_pooled_spearman),
            Measure(CONTROL, columns=[control], statistic=_pooled_spearman),
            Measure(BEYOND_CORRECT, columns=[beside_edges, wrong, edges], statistic=partial_spearman),
        ]
    of_edges = torch.stack([looks[EDGES].T for looks in seen.degraded.values()], dim=1)
    of_u = torch.stack([each.T for each in levels.values()], dim=1) if levels and name != EDGES else None
    # Each resample ranks all levels of all images: fewer of them.
    rows.append(Measure(BEYOND_SEVERITY, columns=[of_u, of_edges], statistic=_partial_with_severity, resamples=_FEWER))
    return rows


def _lead(kappa: Tensor, rival: Tensor, right: Tensor) -> float:
    return correctness_auroc(kappa, right) - correctness_auroc(rival, right)


def measure(observations: Observations, *, resamples: int = 1000, seed: int = 0) -> Measured:
    """Compute everything that `measures` names for every uncertainty that says anything, with bootstrap intervals."""
    measured: Measured = {row.name: {} for row in measures(observations)}
    for name in observations.names:
        for row in measures(observations, name):
            columns = [column for column in row.columns if column is not None]
            if len(columns) < len(row.columns):
                continue
            most = resamples if row.resamples is None else min(resamples, row.resamples)
            measured[row.name][name] = (
                bootstrap(row.statistic, *columns, paired=row.paired, resamples=most, seed=seed)
                if most
                else Estimate(row.statistic(*columns), math.nan, math.nan)
            )
    return measured


def binned(expected: Tensor, cosine: Tensor) -> CalibrationBins:
    """Expected and seen cosines by tenths of the images."""
    return calibration_bins(expected, cosine, bins=min(_BINS, len(cosine)))


def likelihood_gain(fresh: FreshViews) -> Callable[..., float]:
    """Concentration and cosine to what κ gains over one κ for all, by the experts' family."""
    gain = power_spherical_likelihood_gain if fresh.law is PowerSpherical else von_mises_fisher_likelihood_gain
    return partial(gain, fresh.dim)


def _levels(count: int, images: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64).expand(images, count)


def _pooled_spearman(rows: Tensor) -> float:
    """Correlation of u with the level over all pairs of an image and a level; rows are images."""
    return spearman(rows.flatten(), _levels(rows.size(1), len(rows)).flatten())


def _partial_with_severity(u: Tensor, edges: Tensor) -> float:
    """Mean over degradations of u's correlation, given edge energy's u; both are `(images, degradations, levels)`."""
    levels = _levels(u.size(2), len(u)).flatten()
    results = [
        partial_spearman(of_u.flatten(), levels, of_edges.flatten())
        for of_u, of_edges in zip(u.unbind(1), edges.unbind(1), strict=True)
    ]
    return sum(results) / len(results)
