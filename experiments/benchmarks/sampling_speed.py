"""Time of drawing samples, and whether they have the mean they should have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from experiments.benchmarks.peers import Array, Implementation, Unsupported
from experiments.benchmarks.references import REFERENCES
from experiments.benchmarks.timing import Stopwatch, Times
from ssl_as_inference.sphere import normalize

CONCENTRATION = 100.0
_MOST_CORRECT = 4.0  # |z-score| of a correct sampler exceeds it once in 16,000 runs


@dataclass
class DrawnCosines:
    """Running sums over all draws of one sampler.

    Attributes:
        z_score: Of the mean of μᵀz against the exact one.
        off_sphere: Largest deviation of a length from 1.
    """

    direction: Array
    exact_mean: float
    count: int = 0
    total: float = 0.0
    square: float = 0.0
    off_sphere: float = 0.0

    def add(self, draws: Array) -> None:
        """Take the draws of one call."""
        deviation = draws @ self.direction - self.exact_mean
        self.count += len(deviation)
        self.total += float(deviation.sum())
        self.square += float((deviation**2).sum())
        self.off_sphere = max(self.off_sphere, float(np.abs(np.linalg.norm(draws, axis=-1) - 1).max()))

    @property
    def z_score(self) -> float:
        """Deviation of the mean cosine in standard errors."""
        mean = self.total / self.count
        return mean / math.sqrt((self.square / self.count - mean**2) / self.count)


@dataclass(frozen=True)
class Row:
    """One sampler in one dimension; `times` is `None` where it does not take part, for the reason in `remark`."""

    library: str
    family: str
    dim: int
    times: Times | None
    z_score: float = float("nan")
    off_sphere: float = float("nan")
    draws: int = 0
    remark: str = ""

    @property
    def correct(self) -> bool:
        """Whether the mean is right as far as the draws can tell."""
        return abs(self.z_score) < _MOST_CORRECT


def measure_sampling(
    implementations: Sequence[Implementation], dims: Sequence[int], count: int, seed: int, stopwatch: Stopwatch
) -> list[Row]:
    """Draw `count` points around one direction at κ = 100, in float32 where the library has a choice."""
    rows: list[Row] = []
    by_name = {one.library + one.family: one for one in implementations}
    for dim in dims:
        mean_direction = normalize(torch.randn(dim, device=stopwatch.device))
        direction = normalize(mean_direction.double()).cpu().numpy()
        samplers: dict[str, Callable[[], object]] = {}
        drawn: dict[str, DrawnCosines] = {}
        remarks: dict[str, str] = {}
        for name, one in by_name.items():
            try:
                samplers[name] = one.sampler(mean_direction, CONCENTRATION, count, seed)
                exact = REFERENCES[one.family](dim, CONCENTRATION).resultant
                drawn[name] = DrawnCosines(direction, float(exact))
            except Unsupported as reason:
                remarks[name] = str(reason)

        def check(name: str, draws: object, drawn: dict[str, DrawnCosines] = drawn) -> None:
            drawn[name].add(by_name[name].to_array(draws))

        times = stopwatch.measure_in_turns(samplers, check)
        for name, one in by_name.items():
            who = (one.library, one.family, dim)
            if name in times:
                seen = drawn[name]
                rows.append(Row(*who, times[name], seen.z_score, seen.off_sphere, seen.count))
            else:
                rows.append(Row(*who, None, remark=remarks[name]))
    return rows
