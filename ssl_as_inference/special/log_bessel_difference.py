r"""Differences of the von Mises–Fisher peak $u(\kappa) = \log C(\kappa) + \kappa$ that keep their digits.

$u(\kappa)-u(\kappa')$ with $\kappa' = \kappa-\delta$ is what the cumulants of the cosine add up to between two
concentrations; as a difference of two values it is left with the rounding error of the larger. In Olver's expansion
(`log_bessel.py`) every term can be subtracted by itself: $q-q' = \delta(\kappa+\kappa')/(q+q')$, logarithms become
log1p, and the polynomial in 1/q a divided difference. So can they in the power series that serves below κ = 30 in
d ≤ 61: $u(\kappa)-u(\kappa') = \delta - \log\{1 + (F-F')/F'\}$, and the divided difference of F has positive terms. An
interval across κ = 30 is taken apart there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.special.log_bessel import (
    LAST_SERIES_DIM,
    SWITCH,
    hypergeometric_excess,
    series_factors,
    tail_polynomial,
)
from ssl_as_inference.special.polynomials import polynomial_difference
from ssl_as_inference.special.von_mises_fisher import von_mises_fisher_mean_resultant_complement as complement
from ssl_as_inference.sphere import checked_dim


def _log_growth(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """Log of end/start, step = end − start, without a sum that cancels where one is far below the other."""
    size = (step.abs() / torch.minimum(start, end)).log1p()
    return torch.where(step < 0, -size, size)


def _expansion_difference(dim: int, kappa: Tensor, lower: Tensor, delta: Tensor) -> Tensor:
    nu = dim / 2 - 1
    order = torch.full((), nu, dtype=kappa.dtype, device=kappa.device)
    q, q_lower = torch.hypot(kappa, order), torch.hypot(lower, order)
    step = delta * ((kappa + lower) / (q + q_lower))  # q − q'
    inverse, inverse_lower = q.reciprocal(), q_lower.reciprocal()
    growth = nu * _log_growth(nu + q_lower, nu + q, step) + _log_growth(q_lower, q, step) / 2
    growth = growth + (nu / (kappa + q)) * (nu / (lower + q_lower)) * (delta + step)
    tail = polynomial_difference(tail_polynomial(dim), inverse_lower, inverse, step * inverse * inverse_lower)
    return growth + tail


def _series_difference(dim: int, kappa: Tensor, lower: Tensor, delta: Tensor) -> Tensor:
    x, y = kappa.square() / 4, lower.square() / 4
    ratios = series_factors(dim / 2)
    value, divided = torch.ones_like(x), torch.zeros_like(x)
    for ratio in reversed(ratios):  # F(x) and {F(x) − F(y)}/(x − y)
        divided = ratio * torch.addcmul(value, y, divided)
        value = torch.addcmul(torch.ones_like(x), x, value, value=ratio)
    least = 1 + hypergeometric_excess(ratios, torch.minimum(x, y))
    growth = (delta.abs() * (kappa + lower) / 4 * divided / least).log1p()
    return delta - torch.where(delta < 0, -growth, growth)


def _part(
    difference: Callable[[int, Tensor, Tensor, Tensor], Tensor],
    clamp: Callable[[Tensor], Tensor],
    dim: int,
    kappa: Tensor,
    lower: Tensor,
    delta: Tensor,
) -> Tensor:
    """The difference over what of the interval from κ' to κ lies on one side of κ = 30."""
    end, start = clamp(kappa), clamp(lower)
    whole = (end == kappa) & (start == lower)
    return difference(dim, end, start, torch.where(whole, delta, end - start))


class _PeakDifference(Elementwise):
    """u(κ) − u(κ'), δ = κ − κ' being given as well; the derivatives are 1 − A at the two ends."""

    @staticmethod
    def value(kappa: Tensor, lower: Tensor, delta: Tensor, dim: int) -> Tensor:
        if dim > LAST_SERIES_DIM:
            return _expansion_difference(dim, kappa, lower, delta)
        above = _part(_expansion_difference, lambda x: x.clamp(min=SWITCH), dim, kappa, lower, delta)
        return above + _part(_series_difference, lambda x: x.clamp(max=SWITCH), dim, kappa, lower, delta)

    @staticmethod
    def partials(kappa: Tensor, lower: Tensor, delta: Tensor, dim: int) -> tuple[Tensor, Tensor, None]:
        del delta  # the difference of the other two
        return complement(dim, kappa), -complement(dim, lower), None


def von_mises_fisher_peak_difference(
    dim: int, concentration: Tensor, decrement: Tensor, remaining: Tensor | None = None
) -> Tensor:
    r"""$u(\kappa) - u(\kappa-\delta)$ with $u(\kappa) = \log C(\kappa)+\kappa$, whose slope is $1 - A(\kappa)$.

    Relative error some 1e-15 for d ≥ 62 or κ, κ−δ ≥ 30; otherwise the same relative to δ.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0.
        decrement: δ ≤ κ, of either sign, broadcastable with `concentration`.
        remaining: κ − δ ≥ 0, for where the caller knows it to more digits than the difference has; derivatives are
            then those in κ and κ − δ.

    Returns:
        Broadcast shape, float64.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> kappa, delta = torch.tensor([1e12, 1e-3], dtype=torch.float64)
        >>> von_mises_fisher_peak_difference(3, kappa, delta)  # u = log(κ/2π) in space, u' = 1/κ
        tensor(1.0000e-15, dtype=torch.float64)
    """
    kappa, delta = concentration.double(), decrement.double()
    lower = kappa - delta if remaining is None else remaining.double()
    value: Tensor = _PeakDifference.apply(kappa, lower, delta, checked_dim(dim))
    return value
