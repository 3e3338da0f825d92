"""Target rules: where the guide's network comes from, and how it changes after each step of the optimiser."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch.optim.swa_utils import get_ema_multi_avg_fn

from ssl_as_inference.graphical_model import FullGradientGuide, MultiViewGuide, MultiViewPair


class TargetRule(ABC):
    """How the guide q_φ of a pair is tied to its model."""

    @abstractmethod
    def guide(self, pair: MultiViewPair) -> MultiViewGuide:
        """The guide to fit the pair's model with.

        Raises:
            ValueError: If the pair's guide does not suit the rule.
        """

    def update(self, pair: MultiViewPair, step: int = 0) -> None:  # noqa: B027  # most rules have nothing to update
        """Bring the guide's network up to date after a step of the optimiser; nothing to do by default.

        Args:
            pair: Whose guide.
            step: Number of the step that was taken, counted from 0.
        """


class StopGradientCopy(TargetRule):
    """SimSiam: the guide's network is the online encoder itself, behind the stop-gradient that stands in the guide."""

    def guide(self, pair: MultiViewPair) -> MultiViewGuide:
        """The pair's own guide, which must share its encoder with the model."""
        _require_shared(pair, type(self).__name__)
        return pair.guide


class NoStopGradient(TargetRule):
    """For showing collapse (C28): the gradient also flows into the guide. Do not train with it."""

    def guide(self, pair: MultiViewPair) -> MultiViewGuide:
        """A guide over the same network without the stop-gradient."""
        _require_shared(pair, type(self).__name__)
        return FullGradientGuide(pair.guide.network, pair.guide.views)


class ExponentialMovingAverage(TargetRule):
    r"""BYOL: $\phi \leftarrow m\,\phi + (1-m)\,\psi$ after each step, with momentum m.

    Momentum 0 is SimSiam, momentum 1 a target that never moves (C26). The parameters are averaged; the target's batch
    normalisation keeps running statistics of its own, as in BYOL.

    With `steps=K` the momentum rises to 1 over the training, as in BYOL (Section 3.2 of arXiv:2006.07733):
    $m_k = 1 - (1-m)(\cos(\pi k/K) + 1)/2$ after step k.

    Args:
        momentum: m in [0, 1]; BYOL starts at 0.996.
        steps: K ≥ 1, the steps of the training; `None` for a constant momentum.

    Raises:
        ValueError: If one of the two is out of its range.

    Example:
        >>> rule = ExponentialMovingAverage(0.996, steps=100)
        >>> [round(rule.momentum_after(step), 4) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]
    """

    def __init__(self, momentum: float = 0.996, steps: int | None = None) -> None:
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1 or None, got {steps}")
        self.momentum = momentum
        self.steps = steps

    def momentum_after(self, step: int) -> float:
        """The momentum after the step of this number, counted from 0."""
        if self.steps is None:
            return self.momentum
        return 1 - (1 - self.momentum) * (math.cos(math.pi * min(step, self.steps) / self.steps) + 1) / 2

    def guide(self, pair: MultiViewPair) -> MultiViewGuide:
        """The pair's own guide, whose network must be separate from the model's encoder."""
        if pair.guide.network is pair.model.encoder:
            raise ValueError(
                "ExponentialMovingAverage needs a guide with a network of its own, such as BYOL's; this pair's guide "
                "shares the model's encoder"
            )
        return pair.guide

    def update(self, pair: MultiViewPair, step: int = 0) -> None:
        """Move the target's parameters towards the online encoder's."""
        # Made here, not kept: a function of torch's that cannot be pickled for another process.
        average = get_ema_multi_avg_fn(self.momentum_after(step))
        if target := list(pair.guide.network.parameters()):  # a target that is fixed has none
            average(target, list(pair.model.encoder.parameters()), 0)


def _require_shared(pair: MultiViewPair, rule: str) -> None:
    if pair.guide.network is not pair.model.encoder:
        raise ValueError(
            f"{rule} needs a guide that shares the model's encoder, such as SimSiam's; this pair's guide has a network "
            "of its own (ExponentialMovingAverage updates it)"
        )
