r"""The log density of the Power Spherical distribution with its derivatives, in one step of the autograd graph.

$\log p = \{\log C(\kappa) + \kappa\log 2\} + \kappa\log h$ with $h = (1+\mu^\top z)/2$ and $e = 1-h$, which are a
quarter of the squared chords from z to −μ and to μ; the smaller of them keeps its digits if it is taken from its chord.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.quick_function import QuickFunction
from ssl_as_inference.special import polygamma_difference
from ssl_as_inference.special.power_spherical import power_spherical_log_normalizer_plus_peak
from ssl_as_inference.sphere import (
    chord_lengths_value,
    half_gap_and_height,
    sum_to,
)


def _quarter_square(length: Tensor) -> Tensor:
    return (length.double() / 2).square()


def _fall(value: Tensor, mean_direction: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The term κ log h, and with it 2h and log h, in float64, without derivatives, each to its relative accuracy."""
    half_gap, height = (_quarter_square(length) for length in chord_lengths_value(value, mean_direction))
    ahead = half_gap < 0.5
    height = torch.where(ahead, 1 - half_gap, height)
    # log1p(−e) by one logarithm for both branches: what rounding took from 1 − e is known and added in first order.
    log_height = height.log() + torch.where(ahead, (1 - height - half_gap) / height, 0.0)
    return torch.where(kappa == 0, 0.0, kappa * log_height), 2 * height, log_height


def _differentiable_height_and_logarithm(value: Tensor, mean_direction: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The last two of `_fall`, with derivatives."""
    half_gap, height = half_gap_and_height(value, mean_direction)
    ahead = half_gap < 0.5
    behind = torch.where(ahead, 1.0, height.clamp_min(floor))
    return 2 * height, torch.where(ahead, (-torch.where(ahead, half_gap, 0.0)).log1p(), behind.log())


class _LogDensity(QuickFunction):
    """The log density, and 2h and log h for the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor, mean_direction: Tensor, concentration: Tensor, dim: int, floor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        del floor
        kappa = concentration.double()
        fall, twice_height, log_height = _fall(value, mean_direction, kappa)
        log_density = fall + power_spherical_log_normalizer_plus_peak(dim, kappa)
        return log_density.to(torch.promote_types(value.dtype, concentration.dtype)), twice_height, log_height

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:3], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.dim, ctx.floor = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        value, mean_direction, concentration, twice_height, log_height = ctx.saved_tensors
        kappa, grad, b = concentration.double(), grad.double(), (ctx.dim - 1) / 2
        in_kappa = in_value = in_direction = None
        if torch.is_grad_enabled():  # what follows is to be differentiated once more
            twice_height, log_height = _differentiable_height_and_logarithm(value, mean_direction, ctx.floor)
        if ctx.needs_input_grad[2]:
            below = polygamma_difference(0, kappa + b, b, lower=b)
            slope = log_height.clamp_min(math.log(ctx.floor)) - below
            in_kappa = (grad * slope).sum_to_size(concentration.shape).to(concentration.dtype)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            slope = grad * kappa / twice_height.clamp_min(2 * ctx.floor)
            slope = slope.sum_to_size(twice_height.shape).to(value.dtype).unsqueeze(-1)
            if ctx.needs_input_grad[0]:
                in_value = sum_to(value.shape, slope * mean_direction)
            if ctx.needs_input_grad[1]:
                in_direction = sum_to(mean_direction.shape, slope * value)
        return in_value, in_direction, in_kappa, None, None


def power_spherical_log_density(value: Tensor, mean_direction: Tensor, concentration: Tensor, floor: float) -> Tensor:
    r"""$\log\mathrm{PS}(z;\mu,\kappa)$.

    Forward it is exact: −∞ at h = 0 (finite if κ = 0, too). Backward h is kept above `floor`, so that the derivatives
    $\kappa/(2h)$ in the cosine and $\log h$ in κ stay finite. The derivative in the vectors is that of the inner
    product: along the sphere it is the chord's, and it costs one product less. Scalars are float64. That this is one
    autograd function halves the time at d = 128: on a batch of scalars an operation costs its launch, and the graph of
    composed ones takes several for each.

    Args:
        value: Unit vectors z, shape `(*batch, dim)`.
        mean_direction: Unit vectors μ of the same dtype, broadcastable with z.
        concentration: κ ≥ 0, broadcastable with `batch`.
        floor: Least h in a derivative.

    Returns:
        Broadcast shape, in the wider dtype of vectors and κ.

    Example:
        >>> e1, e2 = torch.eye(2, dtype=torch.float64)
        >>> power_spherical_log_density(e1, e2, torch.zeros(()), 1e-16).exp() * 2 * torch.pi  # the uniform law
        tensor(1.0000, dtype=torch.float64)
    """
    dim = value.size(-1)
    log_density: Tensor = _LogDensity.apply(value, mean_direction, concentration, dim, floor)[0]
    return log_density
