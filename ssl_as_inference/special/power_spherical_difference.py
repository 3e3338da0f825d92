r"""Differences of the Power Spherical peak $u(\kappa) = \log C(\kappa) + \kappa\log 2$ that keep their digits.

In high dimension u is of the size of d log d, and two values of it next to each other leave the rounding of that. The
difference is therefore taken term by term in Stirling's series: with $\delta = \kappa-\kappa'$, y = κ + b + N,

.. math:: u(\kappa)-u(\kappa') = \delta\log\Bigl(1+\frac b{y'}\Bigr) + b\log\Bigl(1+\frac\delta{y'+b}\Bigr)
          + (y-\tfrac12)\log\Bigl(1-\frac{\delta b}{y(y'+b)}\Bigr) - S + S'

where S is the difference of the power parts of the series at y and y + b, and N steps of the recurrence bring y to
where the series holds, each of which adds $-\log\{1-\delta b/((a+k)(a'+k+b))\}$. Every term is of the size of δ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.special.gamma_differences import (
    polygamma_difference,
    recurrence_steps,
    stirling_tail_difference,
)
from ssl_as_inference.sphere import checked_dim


def peak_difference_by_terms(dim: int, kappa: Tensor, lower: Tensor, delta: Tensor) -> Tensor:
    """u(κ) − u(κ') for κ' = `lower`, without a derivative."""
    b = (dim - 1) / 2
    steps = recurrence_steps(b)
    a, a_lower = kappa + b, lower + b
    near, near_lower = a + steps, a_lower + steps
    far, far_lower = near + b, near_lower + b
    growth = (delta.abs() / torch.minimum(far, far_lower)).log1p()  # of far over far_lower
    value = delta * (b / near_lower).log1p() + b * torch.where(delta < 0, -growth, growth)
    value = value + (near - 0.5) * (-(b / far_lower) * (delta / near)).log1p()
    value = value - stirling_tail_difference(near, far, b + steps)
    value = value + stirling_tail_difference(near_lower, far_lower, b + steps)
    for k in range(steps):
        value = value - (-(b / (a_lower + k + b)) * (delta / (a + k))).log1p()
    return value


class _PeakDifference(Elementwise):
    """Its derivatives are u′ = ψ(a+b) − ψ(a) at the two ends."""

    @staticmethod
    def value(kappa: Tensor, lower: Tensor, delta: Tensor, dim: int) -> Tensor:
        return peak_difference_by_terms(dim, kappa, lower, delta)

    @staticmethod
    def partials(kappa: Tensor, lower: Tensor, delta: Tensor, dim: int) -> tuple[Tensor, Tensor, None]:
        del delta  # the difference of the other two
        b = (dim - 1) / 2
        return -polygamma_difference(0, kappa + b, b, lower=b), polygamma_difference(0, lower + b, b, lower=b), None


def power_spherical_peak_difference(dim: int, concentration: Tensor, lower: Tensor) -> Tensor:
    r"""$u(\kappa) - u(\kappa')$ with $u = \log C + \kappa\log 2$; errs relative to κ − κ' and to itself, plus 1e-18.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0.
        lower: κ' ≥ 0, of the same shape; on either side of κ; digits are kept where the distance
            of the two is at most κ' + d.

    Returns:
        The same shape, float64.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> kappa = torch.tensor([1e3, 1e3 + 1e-9], dtype=torch.float64)
        >>> power_spherical_peak_difference(3, kappa[1], kappa[0]) / (kappa[1] - kappa[0])  # u′ = 1/(κ+1) in space
        tensor(0.0010, dtype=torch.float64)
    """
    kappa, lower = concentration.double(), lower.double()
    value: Tensor = _PeakDifference.apply(kappa, lower, kappa - lower, checked_dim(dim))
    return value
