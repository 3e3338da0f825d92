r"""The log density of the Power Spherical distribution with its derivatives, in one step of the autograd graph.

$\log p = \{\log C(\kappa) + \kappa\log 2\} + \kappa\log h$ with $h = (1+\mu^\top z)/2$ and $e = 1-h$, which are a
quarter of the squared chords from z to −μ and to μ. A small one keeps its digits if it is taken from its own chord.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.distributions.log_density_of_cosine import LogDensityOfCosine
from ssl_as_inference.special import polygamma_difference
from ssl_as_inference.special.power_spherical import power_spherical_log_normalizer_plus_peak
from ssl_as_inference.sphere import (
    chord_length_value,
    is_plain_on_cpu,
    opposite_chord_length_value,
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


class _LogDensity(LogDensityOfCosine):
    """The log density, and what its derivatives need of the points: 2h and log h, held above the floor's."""

    @staticmethod
    def value(
        value: Tensor, mean_direction: Tensor, concentration: Tensor, dim: int, floor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        kappa = concentration.to(torch.promote_types(value.dtype, concentration.dtype))
        fall, twice_height, log_height = _fall(value, mean_direction, kappa, floor)
        return fall + power_spherical_log_normalizer_plus_peak(dim, kappa), twice_height, log_height

    @staticmethod
    def cosine_slope(
        output: int, concentration: Tensor, twice_height: Tensor, log_height: Tensor, dim: int, floor: float
    ) -> Tensor:
        del log_height, dim
        if output == 0:
            return concentration / twice_height
        moving = (twice_height > 2 * floor).to(twice_height.dtype)
        return moving if output == 1 else moving / twice_height

    @staticmethod
    def concentration_slope(
        concentration: Tensor, twice_height: Tensor, log_height: Tensor, dim: int, floor: float
    ) -> Tensor:
        del twice_height, floor
        b = (dim - 1) / 2
        return log_height - polygamma_difference(0, concentration.double() + b, b, lower=b)


def power_spherical_log_density(value: Tensor, mean_direction: Tensor, concentration: Tensor, floor: float) -> Tensor:
    r"""$\log\mathrm{PS}(z;\mu,\kappa)$.

    Forward it is exact: −∞ at h = 0 (finite if κ = 0, too). Backward h is kept above `floor`, so that the derivatives
    $\kappa/(2h)$ in the cosine and $\log h$ in κ stay finite. Only the normaliser is computed in float64. A CPU
    computes the chord from −μ only if some point of the batch needs it; that changes no bit of the others.

    Args:
        value: Unit vectors z, shape `(*batch, dim)`.
        mean_direction: Unit vectors μ of the same dtype, broadcastable with z.
        concentration: κ ≥ 0, broadcastable with `batch`.
        floor: Least h in a derivative.

    Returns:
        Broadcast shape, in the wider dtype of vectors and κ.

    Example:
        >>> e1, e2 = torch.eye(2, dtype=torch.float64)
        >>> power_spherical_log_density(e1, e2, torch.zeros(()), 1e-16).exp() * 2 * torch.pi  # the uniform distribution
        tensor(1.0000, dtype=torch.float64)
    """
    dim = value.size(-1)
    log_density: Tensor = _LogDensity.apply(value, mean_direction, concentration, dim, floor)[0]
    return log_density
