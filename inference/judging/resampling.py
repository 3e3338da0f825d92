"""How much a measure would change with other images: bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A measure and its interval; all NaN where the measure does not exist.

    Attributes:
        value: On the given images.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., float],
    *columns: Tensor,
    paired: bool = True,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Measure, with the percentile interval of the bootstrap over images.

    Images are drawn with replacement, as many as there are, and measured again; the interval is between the quantiles
    (1 ∓ level)/2 of the results (Efron, Bootstrap Methods, Annals of Statistics 7, 1979). It shows how much a measure
    depends on the choice of images, for this network. How much it depends on the seed of the training can only be seen
    with other seeds.

    A resample in which the measure does not exist (NaN, for example if all images are right) is left out.

    Args:
        statistic: Columns to a number; called with the resampled columns, in their order.
        columns: Tensors whose rows are images.
        paired: Whether row n of all columns is the same image; otherwise each column is resampled on its own, such as
            for two sets of images.
        resamples: Number of resamples.
        level: Probability between the ends.
        seed: Of the resamples, so that the same columns give the same interval, and different measures of the same
            images see the same resamples.

    Raises:
        ValueError: If there is no column, a column has no rows, paired columns differ in length, or `resamples` or
            `level` is outside its range.

    Example:
        >>> heights = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> bootstrap(lambda x: float(x.mean()), heights, seed=0)
        Estimate(value=2.5, low=1.5, high=3.5)
    """
    lengths = [len(column) if column.dim() else 0 for column in columns]
    if not lengths or 0 in lengths:
        raise ValueError(f"columns must be tensors with at least one row, got lengths {lengths}")
    if paired and len(set(lengths)) > 1:
        raise ValueError(f"columns must have the same number of rows when paired, got lengths {lengths}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    value = float(statistic(*columns))
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)

    def draw(length: int) -> Tensor:
        return torch.from_numpy(generator.integers(length, size=length))

    measured = np.empty(resamples)
    for resample in range(resamples):
        rows = [draw(lengths[0])] * len(columns) if paired else [draw(length) for length in lengths]
        measured[resample] = statistic(
            *(column[drawn.to(column.device)] for column, drawn in zip(columns, rows, strict=True))
        )
    tail = (1 - level) / 2
    if np.isnan(measured).all():
        return Estimate(value, math.nan, math.nan)
    low, high = np.nanquantile(measured, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
