r"""The log density of the Power Spherical distribution with its derivatives, in one step of the autograd graph.

$\log p = \{\log C(\kappa) + \kappa\log 2\} + \kappa\log h$ with $h = (1+\mu^\top z)/2$ and $e = 1-h$, which are a
quarter of the squared chords from z to −μ and to μ. A small one keeps its digits if it is taken from its own chord.
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
    chord_length_value,
    half_gap_and_height,
    is_plain_on_cpu,
    opposite_chord_length_value,
    sum_to,
)

_NEAR = 0.75  # up to this e, 120° from μ, h = 1 − e has lost no more than two bits of it


def _minus_quarter_square(length: Tensor) -> Tensor:
    return length * length * -0.25


def _fall(value: Tensor, mean_direction: Tensor, kappa: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The term κ log h, and the derivatives' 2h and log h, held above the floor's; all without derivatives."""
    minus_half_gap = _minus_quarter_square(chord_length_value(value, mean_direction))
    twice_height, log_height = torch.rsub(minus_half_gap, 2, alpha=-2), minus_half_gap.log1p()
    near = minus_half_gap > -_NEAR
    if is_plain_on_cpu(near) and bool(near.all()):  # a third of the time, which the second chord takes, is saved
        return kappa * log_height, twice_height, log_height
    far_height = -_minus_quarter_square(opposite_chord_length_value(value, mean_direction))
    twice_height = torch.where(near, twice_height, 2 * far_height.clamp_min(floor))
    log_height = torch.where(near, log_height, far_height.log())
    fall = kappa * torch.where(kappa == 0, log_height.clamp_min(-1), log_height)  # 0 · ∞ is 0 here, 0 · NaN is NaN
    return fall, twice_height, log_height.clamp_min(math.log(floor))


def _differentiable_height_and_logarithm(value: Tensor, mean_direction: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The last two of `_fall`, with derivatives."""
    half_gap, height = half_gap_and_height(value, mean_direction)
    near = half_gap < _NEAR
    height = height.clamp_min(floor)
    far_height = torch.where(near, 1.0, height)
    return 2 * height, torch.where(near, (-torch.where(near, half_gap, 0.0)).log1p(), far_height.log())


class _LogDensity(QuickFunction):
    """The log density, and what the backward needs of the points: 2h and log h."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor, mean_direction: Tensor, concentration: Tensor, dim: int, floor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        kappa = concentration.to(torch.promote_types(value.dtype, concentration.dtype))
        fall, twice_height, log_height = _fall(value, mean_direction, kappa, floor)
        return fall + power_spherical_log_normalizer_plus_peak(dim, kappa), twice_height, log_height

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:3], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.dim, ctx.floor = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        value, mean_direction, concentration, twice_height, log_height = ctx.saved_tensors
        in_kappa = in_value = in_direction = None
        if torch.is_grad_enabled():  # what follows is to be differentiated once more
            twice_height, log_height = _differentiable_height_and_logarithm(value, mean_direction, ctx.floor)
        if ctx.needs_input_grad[2]:
            b = (ctx.dim - 1) / 2
            slope = log_height - polygamma_difference(0, concentration.double() + b, b, lower=b)
            in_kappa = (grad * slope).sum_to_size(concentration.shape).to(concentration.dtype)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            slope = grad * concentration / twice_height
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
    product: along the sphere it is the chord's, and it costs one product less. Only the normaliser is computed in
    float64. That this is one autograd function halves the time at d = 128: on a batch of scalars an operation costs its
    launch, and the graph of composed ones takes several for each. A CPU computes the chord from −μ only if some point
    of the batch needs it; that changes no bit of the others.

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
