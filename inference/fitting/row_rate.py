"""A learning rate and a decay for one row of a parameter; an optimiser's groups hold whole parameters only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class LastRowRate:
    r"""The last row of some parameters has `factor` times the learning rate of momentum SGD, and a decay of its own.

    SGD's step with momentum m, weight decay λ and rate η is linear in what it accumulates,
    $v \leftarrow m v + (g + \lambda w)$, $w \leftarrow w - \eta v$. With $r\,(g+\lambda w)$ in place of $g+\lambda w$
    from the first step on, v is r times what it would be: the same weights as with the rate $r\eta$, decay included.
    SGD adds λw itself, so the gradient has to be $r g + (r-1)\lambda w$, and with a decay λ' of the row's own
    $r g + (r\lambda'-\lambda) w$. For an optimiser whose step is not linear
    in the gradient, such as Adam, this would be wrong.

    Args:
        parameters: Each with its rows along the first dimension, such as weight and bias of a linear layer.
        factor: r, positive and finite.
        decay: λ', finite and not negative; the optimiser's λ when not given.

    Raises:
        ValueError: If `factor` or `decay` is out of its range, or there is no parameter.
    """

    parameters: tuple[nn.Parameter, ...]
    factor: float = 1.0
    decay: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise ValueError(f"factor must be positive and finite, got {self.factor}")
        if self.decay is not None and not 0 <= self.decay < float("inf"):
            raise ValueError(f"decay must be finite and at least 0, got {self.decay}")
        if not self.parameters or any(parameter.dim() == 0 for parameter in self.parameters):
            got = "a scalar" if self.parameters else "0"
            raise ValueError(f"parameters must be at least one, each with rows, got {got}")

    @torch.no_grad()
    def apply(self, weight_decay: float) -> None:
        """Change the gradients, in place. Call it once a step, between clipping and the optimiser's step."""
        own = weight_decay if self.decay is None else self.decay
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad[-1].mul_(self.factor).add_(parameter[-1], alpha=self.factor * own - weight_decay)
