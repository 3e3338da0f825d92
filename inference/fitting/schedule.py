"""The learning rate as a function of the step, so that a resumed training needs no saved state for it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CosineSchedule:
    r"""Cosine decay to zero over all steps, Section 6.2 of arXiv:2203.11437v1, after an optional linear rise.

    Step s of S has the rate $\eta\,(1 + \cos(\pi s/S))/2$, counted from the end of the rise, whose step s of W has
    $\eta\,(s+1)/(W+1)$. After all steps the rate is 0.

    Args:
        rate: η, the largest rate.
        steps: S, all steps of the training, the rise included.
        warmup: W, steps of the rise.

    Raises:
        ValueError: If the rate is not positive and finite, or there is no step after the rise.

    Example:
        >>> schedule = CosineSchedule(0.1, steps=4)
        >>> [round(schedule(step), 4) for step in range(4)]
        [0.1, 0.0854, 0.05, 0.0146]
    """

    rate: float
    steps: int
    warmup: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be positive and finite, got {self.rate}")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must be at least 0 and less than steps, {self.steps}, got {self.warmup}")

    def __call__(self, step: int) -> float:
        """The rate that a step, counted from 0, is taken with."""
        if step < self.warmup:
            return self.rate * (step + 1) / (self.warmup + 1)
        return (
            self.rate * (1 + math.cos(math.pi * (min(step, self.steps) - self.warmup) / (self.steps - self.warmup))) / 2
        )
