"""Common code of the log densities of the cosine, which state their own derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import OwnDerivatives, sum_to


class LogDensityOfCosine(OwnDerivatives):
    r"""A function $f(t, \kappa)$ of $t = z^\top\mu$, with further functions of t alone that its derivatives need.

    The derivative in the vectors is the inner product's, $\partial_t f\,\mu$ and $\partial_t f\,z$: along the sphere it
    is that of the chord, from which the value is taken, and it takes a third less time. One function in place of
    several halves the time at d = 128: on a batch of scalars an operation costs its launch, and the graph of composed
    ones takes several for each.
    """

    event_dims = (1, 1)

    @staticmethod
    def cosine_slope(output: int, *args: Any, **kwargs: Any) -> Tensor | float:
        """Derivative in t of the output of this number, from κ, the further outputs and the constants."""
        raise NotImplementedError

    @staticmethod
    def concentration_slope(*args: Any, **kwargs: Any) -> Tensor:
        """Derivative of f in κ, from the same."""
        raise NotImplementedError

    @classmethod
    def pull(
        cls, grads: Any, needed: Any, value: Tensor, mean_direction: Tensor, concentration: Tensor, *rest: Any
    ) -> tuple[Tensor | None, ...]:
        """Gradients in z, μ and κ."""
        in_value = in_direction = in_concentration = None
        if needed[2] and grads[0] is not None:
            slope = grads[0] * cls.concentration_slope(concentration, *rest)
            in_concentration = sum_to(concentration.shape, slope).to(concentration.dtype)
        if needed[0] or needed[1]:
            in_cosine: Any = None
            for output, grad in enumerate(grads):
                if grad is not None:
                    slope = grad * cls.cosine_slope(output, concentration, *rest)
                    slope = sum_to(rest[0].shape, slope).to(rest[0].dtype)
                    in_cosine = slope if in_cosine is None else in_cosine + slope
            in_cosine = in_cosine.unsqueeze(-1)
            if needed[0]:
                in_value = sum_to(value.shape, in_cosine * mean_direction)
            if needed[1]:
                in_direction = sum_to(mean_direction.shape, in_cosine * value)
        return in_value, in_direction, in_concentration

    @classmethod
    def push(
        cls, tangents: Any, value: Tensor, mean_direction: Tensor, concentration: Tensor, *rest: Any
    ) -> tuple[Tensor, ...]:
        """Tangents of f and of the further outputs."""
        value_moves, direction_moves, concentration_moves = tangents
        cosine_moves = torch.zeros_like(rest[0])
        if value_moves is not None:
            cosine_moves = cosine_moves + (value_moves * mean_direction).sum(-1)
        if direction_moves is not None:
            cosine_moves = cosine_moves + (value * direction_moves).sum(-1)
        outputs = 1 + sum(isinstance(tensor, Tensor) for tensor in rest)
        moved = [cosine_moves * cls.cosine_slope(output, concentration, *rest) for output in range(outputs)]
        if concentration_moves is not None:
            moved[0] = moved[0] + (concentration_moves * cls.concentration_slope(concentration, *rest)).to(
                moved[0].dtype
            )
        return tuple(moved)
