"""U1 to U8: what observations say of κ and of its rivals, as numbers with intervals, and what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, Uncertainties
from inference.judging.calibration import (
    CalibrationBins,
    calibration_bins,
    gaps_by_chance,
    power_spherical_likelihood_gain,
    von_mises_fisher_likelihood_gain,
)
from inference.judging.collapse import has_collapsed
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
Columns = Callable[[str], Sequence[Tensor]]


def _mean(values: Tensor) -> float:
    return float(values.mean())


@dataclass(frozen=True)
class Measure:
    """What is measured, and what κ should reach.

    Attributes:
        name: In the tables.
        aim: Bound on the value, or `None` where none was set.
        at_most: Whether the aim is an upper bound.
        interval_beyond: What the interval has to lie above, or `None`.
        columns: What of the observations `statistic` is called with, for the uncertainty of a name: rows are images, so
            that an image's degraded versions stay together in a resample. Nothing where there is nothing to measure.
        statistic: Columns to the value.
        paired: Whether the columns are of the same images.
        resamples: At most, of the bootstrap; with none there is no interval.
    """

    name: str
    aim: float | None = None
    at_most: bool = False
    interval_beyond: float | None = None
    columns: Columns = lambda _: ()
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


def measures(seen: Observations) -> list[Measure]:
    """What is measured on these observations, and how, in the order of the table."""
    clean, fresh, right, probed = seen.clean, seen.fresh, seen.neighbour_is_right, seen.probe_is_right
    # Of the images that were cropped, which may be fewer: each degradation's level 0.
    whole = {name: u[0] for name, u in next(iter(seen.degraded.values())).items()}

    def followed(*kinds: str) -> Columns:
        return partial(_followed, [seen.degraded[kind] for kind in kinds])

    def levels(of: Uncertainties) -> Columns:
        return lambda name: [of[name].T] if name in of else []

    def against(inside: Uncertainties, outside: Uncertainties) -> Columns:
        return lambda name: [inside[name], outside[name]] if name in outside else []

    def calibrated(*columns: Tensor) -> Columns:
        return lambda name: columns if name == KAPPA else []  # no rival has a value that could be right

    def row(name: str, columns: Columns, statistic: Callable[..., float] = _mean, **others: Any) -> Measure:
        return Measure(name, columns=columns, statistic=statistic, **others)

    rows = [row(severity_name(kind), followed(kind), aim=LEAST_OF_EACH) for kind in seen.degraded]
    rows.append(row(ALL_SEVERITIES, followed(*seen.degraded), aim=LEAST_OF_MEAN))
    rows.append(row(CROP, against(whole, seen.cropped), probability_of_increase, aim=0.8))
    of_probe = ((AURC, area_under_risk_coverage), (EXCESS, excess_area), (ACCURACY, accuracy_at_coverage))
    if right is not None:
        rows.append(row(R_AUROC, lambda name: [-clean[name], right], correctness_auroc, aim=0.6, interval_beyond=0.5))
        rows.append(row(LEAD, partial(_beside_kappa, seen, right), _lead))
    if probed is not None:
        rows += [row(title, lambda name: [clean[name], probed], statistic) for title, statistic in of_probe]
    for images, foreign in seen.foreign.items():
        rows.append(row(foreign_name(images), against(clean, foreign), foreign_auroc, paired=False))
    # The largest gap of a resample is larger than that of the images: a bootstrap's interval would not hold the value.
    gaps = partial(row, columns=calibrated(fresh.expected, fresh.cosine), at_most=True, resamples=0)
    rows += [
        gaps(GAP, statistic=lambda *columns: binned(*columns).largest_gap, aim=0.03),
        gaps(MEAN_GAP, statistic=lambda *columns: binned(*columns).mean_gap),
        gaps(GAP + BY_CHANCE, statistic=lambda *columns: gaps_by_chance(*columns, bins=_BINS)[0]),
        gaps(MEAN_GAP + BY_CHANCE, statistic=lambda *columns: gaps_by_chance(*columns, bins=_BINS)[1]),
        row(GAIN, calibrated(fresh.concentration, fresh.cosine), likelihood_gain(fresh)),
    ]
    if right is not None:
        against_edges = partial(_given_edges, clean, (~right).double())
        rows += [
            row(AMBIGUITY, levels(seen.ambiguous), _pooled_spearman, aim=0.5),
            row(CONTROL, levels(seen.control), _pooled_spearman),
            row(BEYOND_CORRECT, against_edges, partial_spearman),
        ]
    # Each resample ranks all levels of all images: fewer of them.
    severities = partial(_severities, seen.degraded.values())
    return [*rows, row(BEYOND_SEVERITY, severities, _partial_with_severity, resamples=_FEWER)]


def _beside_kappa(seen: Observations, right: Tensor, name: str) -> Sequence[Tensor]:
    return () if name == KAPPA or KAPPA not in seen.names else (-seen.clean[KAPPA], -seen.clean[name], right)


def _lead(kappa: Tensor, rival: Tensor, right: Tensor) -> float:
    return correctness_auroc(kappa, right) - correctness_auroc(rival, right)


def _followed(looks: Sequence[Uncertainties], name: str) -> Sequence[Tensor]:
    """Correlation with the severity, a row an image, where it is known for every degradation."""
    if not all(name in u for u in looks):
        return ()
    return [torch.stack([severity_correlations(u[name]) for u in looks]).mean(0)]


def _given_edges(clean: Uncertainties, wrong: Tensor, name: str) -> Sequence[Tensor]:
    return () if name == EDGES else (clean[name], wrong, clean[EDGES])


def _severities(looks: Collection[Uncertainties], name: str) -> Sequence[Tensor]:
    """`(images, degradations, 2, levels)`: u and edge energy's u."""
    if name == EDGES or not all(name in u for u in looks):
        return ()
    return [torch.stack([torch.stack([u[name].T, u[EDGES].T], dim=1) for u in looks], dim=1)]


def measure(observations: Observations, *, resamples: int = 1000, seed: int = 0) -> Measured:
    """Compute everything that `measures` names for every uncertainty that says anything, with bootstrap intervals."""
    measured: Measured = {}
    for row in measures(observations):
        given = {name: row.columns(name) for name in observations.names}
        most = resamples if row.resamples is None else min(resamples, row.resamples)
        measured[row.name] = {
            name: bootstrap(row.statistic, *columns, paired=row.paired, resamples=most, seed=seed)
            if most
            else Estimate(row.statistic(*columns), math.nan, math.nan)
            for name, columns in given.items()
            if columns
        }
    return measured


def collapsed(observations: Observations) -> bool:
    """Whether the outputs fill so little of the sphere that no other measure means anything."""
    return has_collapsed(observations.standard_deviation, observations.effective_rank)


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


def _partial_with_severity(both: Tensor) -> float:
    """Mean over degradations; `both` is `(images, degradations, 2, levels)`: u and edge energy's u."""
    results = []
    for u, edges in (one.unbind(1) for one in both.unbind(1)):
        levels = _levels(u.size(1), len(u)).flatten()
        results.append(partial_spearman(u.flatten(), levels, edges.flatten()))
    return sum(results) / len(results)
