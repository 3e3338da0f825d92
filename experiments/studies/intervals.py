"""Means over seeds, and how far they can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    r"""Mean $\bar x$ of n values and the ends of its 95 % interval by Student's t.

    $$\bar x \pm t_{0.975,\,n-1}\,\frac{s}{\sqrt n}$$

    with s the standard deviation of the sample. The values of different seeds are taken as independent and normal; with
    one value there is no interval.

    Args:
        values: At least one.

    Raises:
        ValueError: If there are none.

    Example:
        >>> mean_interval([1.0, 2.0, 3.0])
        (2.0, -0.4841..., 4.4841...)
    """
    if not values:
        raise ValueError("values must hold at least one number, got none")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None, None
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def paired_differences(values: Sequence[float | None], reference: Sequence[float | None]) -> list[float]:
    """Differences seed by seed, where both have a value: what the seeds have in common falls out.

    Example:
        >>> paired_differences([0.5, None, 0.75], [0.25, 0.5, 0.5])
        [0.25, 0.25]
    """
    pairs = zip(values, reference, strict=True)
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
