r"""The logarithm of the modified Bessel function of the first kind, its derivatives and what is built from them.

Everything here is about $g(\kappa) = \log{}_0F_1(;\nu+1;\kappa^2/4)$ with $\nu = d/2-1$: up to constants
$\log I_\nu(\kappa) - \nu\log\kappa$, the cumulant generating function of the cosine under the uniform distribution on
the sphere of $\mathbb{R}^d$. Its slope is $A(\kappa) = I_{\nu+1}(\kappa)/I_\nu(\kappa)$, the mean resultant length.

Two representations cover every ν ≥ 0 and κ ≥ 0 with a number of operations that depends on d alone:

* d ≤ 61 and κ < 30: the power series of ₀F₁, all of whose terms are positive, and that of the variance

  .. math:: A'(\kappa) = \frac1d\;{}_1F_2\bigl(\tfrac{d-1}2;\tfrac d2+1,d;\kappa^2\bigr)\Big/
            {}_0F_1\bigl(;\tfrac d2;\tfrac{\kappa^2}4\bigr)^2 ,

  which follows from $A' = 1 - A^2 - (2\nu+1)A/\kappa$ and the series of $I_\mu I_\nu$ (DLMF 10.31.3), subtracted term
  by term.
* otherwise: the *logarithm* of Olver's uniform expansion (DLMF 10.41.3) in $q = \sqrt{\nu^2+\kappa^2} \ge 30$. With
  $p = \nu/q$ the Riccati equation $A' = 1 - A^2 - (2\nu+1)A/\kappa$ is solved by

  .. math:: A = \frac{\kappa}{q+\nu} + \frac{\kappa}{q^2} h, \qquad h = \sum_{k\ge0} \frac{h_k(p^2)}{q^k},
            \qquad h_0 = -\tfrac12,

  .. math:: h_{k+1} = -\tfrac12\Bigl[(1-p^2)\Bigl(\mathcal{E}h_k - 2h_k + \sum_{i=0}^k h_i h_{k-i}\Bigr) + 2h_k\Bigr],

  where $\mathcal{E} = q\,\partial_q$ at fixed ν. The coefficients are computed exactly, in rationals, once for a
  dimension; every sum needed is then one polynomial in 1/q. Each quantity has a formula of its own in which nothing
  large cancels, rather than being a difference of two others.

`evaluate` takes and returns float64. `von_mises_fisher.py` chains the quantities to be each other's derivatives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from ssl_as_inference.special.constant import constant
from ssl_as_inference.special.polynomials import economized, polynomial
from ssl_as_inference.sphere import log_surface_area

SWITCH = 30.0  # the power series serves below, Olver's expansion from here on; also the least q of the expansion
LAST_SERIES_DIM = 61  # from d = 62 on ν ≥ 30, so that the expansion serves at every κ
_RELATIVE_ERROR = 2.0**-53
_MOST_TERMS = 24


def _order(dim: int) -> float:
    return dim / 2 - 1


@functools.cache
def _expansion_terms(count: int) -> list[list[Fraction]]:
    """Coefficients of h_0 … h_count as polynomials in p², lowest power first."""
    h = [[Fraction(-1, 2)]]
    for k in range(count):
        bracket = [-(k + 2 * j + 2) * value for j, value in enumerate(h[k])]  # ℰ q^{-m} = −m q^{-m}
        for i in range(k + 1):
            for a, left in enumerate(h[i]):
                for b, right in enumerate(h[k - i]):
                    bracket[a + b] += left * right
        following = [*bracket, Fraction(0)]
        for j, value in enumerate(bracket):
            following[j + 1] -= value
        for j, value in enumerate(h[k]):
            following[j] += 2 * value
        h.append([-value / 2 for value in following])
    return h


def _term_count(nu: float, order: int) -> int:
    """Number of terms such that the next one of ℰ^order h, largest at p = 0, stays below the rounding error."""
    q = max(SWITCH, nu)
    h = _expansion_terms(_MOST_TERMS)
    following = (max(0.5, abs(float(term[0]))) * k**order for k, term in enumerate(h))
    return next(
        (k for k, size in enumerate(following, start=-1) if k >= 4 and size < _RELATIVE_ERROR * q ** (k + 1)),
        _MOST_TERMS,
    )


@functools.cache
def _slope_coefficients(dim: int, order: int = 0) -> tuple[Fraction, ...]:
    """Coefficients η_m of h = −1/2 + Σ_{m≥1} η_m q^{-m} for this dimension, exact; enough of them for ℰ^order h."""
    nu = Fraction(dim, 2) - 1
    count = _term_count(_order(dim), order)
    eta = [Fraction(0)] * (3 * count + 1)
    for k, term in enumerate(_expansion_terms(count)):
        for j, value in enumerate(term):
            eta[k + 2 * j] += value * nu ** (2 * j)
    return tuple(eta)


def _economized(coefficients: list[Fraction], dim: int) -> tuple[float, ...]:
    """The same to 2^{-56} at half the degree, for every q of this dimension."""
    return economized(coefficients, 1 / max(Fraction(30), Fraction(dim, 2) - 1), _RELATIVE_ERROR / 8)


def _tail_coefficients(dim: int) -> list[Fraction]:
    return [Fraction(0), *(-value / m for m, value in enumerate(_slope_coefficients(dim)) if m)]


@constant
def _derivative_polynomial(dim: int, order: int) -> tuple[float, ...]:
    r"""Coefficients of $\mathcal{E}^{\text{order}} h$ in 1/q; for order −1 those of the tail T of the logarithm."""
    if order < 0:
        return _economized(_tail_coefficients(dim), dim)
    return _economized([value * (-m) ** order for m, value in enumerate(_slope_coefficients(dim, order))], dim)


@constant
def _tail_quotient(dim: int) -> tuple[float, ...]:
    """Coefficients in u = 1/q of {T(u) − T(u₀)}/(u − u₀) at u₀ = 1/ν, so that a small difference keeps its digits."""
    tail = _tail_coefficients(dim)
    start = 1 / (Fraction(dim, 2) - 1)
    quotient = [Fraction(0)]
    for value in reversed(tail[1:]):  # synthetic division
        quotient.append(value + start * quotient[-1])
    return tuple(float(value) for value in reversed(quotient[1:]))


def _needed(ratio: Callable[[int], float]) -> tuple[float, ...]:
    """Ratios of neighbouring terms of a series in x = κ²/4, as many as its sum needs at κ = 30 in float64."""
    x, term, total = SWITCH**2 / 4, 1.0, 1.0
    factors: list[float] = []
    while term > _RELATIVE_ERROR / 4 * total or len(factors) < x**0.5:
        factors.append(ratio(len(factors)))
        term *= x * factors[-1]
        total += term
    return tuple(factors)


@constant
def series_factors(order: float) -> tuple[float, ...]:
    """Ratios of neighbouring terms of ₀F₁(; order; x), for x ≤ 225."""
    return _needed(lambda k: 1 / ((k + 1) * (order + k)))


@constant
def _variance_factors(dim: int, derivative: int) -> tuple[float, ...]:
    """Those of ₁F₂((d−1)/2; d/2+1, d; 4x), or of its derivative in x relative to the derivative's first term."""
    return _needed(
        lambda k: (
            4 * (dim + 2 * (k + derivative) - 1) / ((k + 1) * (dim + 2 * (k + derivative) + 2) * (dim + k + derivative))
        )
    )


def tail_polynomial(dim: int) -> tuple[float, ...]:
    """Coefficients in 1/q of the tail T of the logarithm of Olver's expansion."""
    return _derivative_polynomial(dim, -1)


def hypergeometric_excess(ratios: tuple[float, ...], x: Tensor) -> Tensor:
    """A hypergeometric series less its first term 1 for 0 ≤ x ≤ 225, by Horner's rule on the ratios of its terms."""
    one = torch.ones_like(x)
    first, *others = ratios
    total = one
    for factor in reversed(others):
        total = torch.addcmul(one, x, total, value=factor)
    return first * x * total


class _Series:
    """Quantities from the power series, for d ≤ 61 and κ ≤ 30."""

    def __init__(self, dim: int, kappa: Tensor) -> None:
        self.dim = dim
        self.kappa = kappa.clamp(max=SWITCH)
        self.x = self.kappa.square() / 4

    def _excess(self) -> Tensor:
        return hypergeometric_excess(series_factors(self.dim / 2), self.x)

    def _ratio(self, excess: Tensor) -> Tensor:  # A/κ
        neighbour = 1 + hypergeometric_excess(series_factors(self.dim / 2 + 1), self.x)
        return neighbour / (self.dim * (1 + excess))

    def log_normalizer(self) -> Tensor:
        return -log_surface_area(self.dim) - self._excess().log1p()

    def log_normalizer_plus_concentration(self) -> Tensor:
        return self.kappa - log_surface_area(self.dim) - self._excess().log1p()

    def resultant(self) -> Tensor:
        return self.kappa * self._ratio(self._excess())

    def resultant_complement(self) -> Tensor:
        """1 − A from Gauss' continued fraction of 1 − I_{m+1}/I_m, m = ν+N … ν: relative error of a few roundings."""
        steps, decay = 0, 0.0
        while decay < 17.5:  # an error at the start shrinks by (I_{m+1}/I_m)² ≈ exp{−2 asinh((m+½)/κ)} a step
            decay += math.asinh((_order(self.dim) + steps + 0.5) / SWITCH)
            steps += 1
        start = self.dim + 2 * steps
        complement = 1 - 2 * self.kappa / (start + (4 * self.kappa.square() + start**2).sqrt())
        for step in reversed(range(steps)):
            numerator = (self.dim + 2 * step) - self.kappa * complement
            complement = numerator / (numerator + self.kappa)
        return complement

    def tangent_variance(self) -> Tensor:
        return self._ratio(self._excess())

    def _variance(self, derivative: int = 0) -> Tensor:
        return 1 + hypergeometric_excess(_variance_factors(self.dim, derivative), self.x)

    def resultant_slope(self) -> Tensor:
        return self._variance() / (self.dim * (1 + self._excess()).square())

    def resultant_curvature(self) -> Tensor:
        """A″ = A′(V′/V − 2A), V being the series of the variance."""
        excess, variance = self._excess(), self._variance()
        relative = 2 * (self.dim - 1) / (self.dim * (self.dim + 2)) * self._variance(1) / variance
        slope = variance / (self.dim * (1 + excess).square())
        return self.kappa * slope * (relative - 2 * self._ratio(excess))

    def kl_to_uniform(self) -> Tensor:
        excess = self._excess()
        ratio, log_sum = self._ratio(excess), excess.log1p()
        concentrated = (self.kappa - log_sum) - self.kappa * self.resultant_complement()
        return torch.where(ratio * self.kappa < 0.5, self.kappa.square() * ratio - log_sum, concentrated)

    def entropy(self) -> Tensor:
        return log_surface_area(self.dim) - self.kl_to_uniform()


class _Expansion:
    """Quantities from the logarithm of Olver's uniform expansion, for d ≥ 62 or κ ≥ 30."""

    def __init__(self, dim: int, kappa: Tensor) -> None:
        self.dim = dim
        self.nu = nu = _order(dim)
        # Not clamp, which has no derivative at the switch itself, where this representation serves.
        self.kappa = torch.where(kappa < SWITCH, SWITCH, kappa) if dim <= LAST_SERIES_DIM else kappa
        self.q = torch.hypot(self.kappa, torch.full_like(self.kappa, nu))
        self.u = self.q.reciprocal()
        self.q_plus_nu = self.q + nu

    @property
    def cosine(self) -> Tensor:
        """√(1 − p²)."""
        return self.kappa / self.q

    def _h(self, order: int = 0) -> Tensor:
        return polynomial(_derivative_polynomial(self.dim, order), self.u)

    def _common(self) -> Tensor:
        tail = polynomial(_derivative_polynomial(self.dim, -1), self.u)
        half = torch.add(-tail, (self.q / (2 * math.pi)).log(), alpha=0.5)
        return torch.add(half, (self.q_plus_nu / (2 * math.pi)).log(), alpha=self.nu)

    def log_normalizer(self) -> Tensor:
        """Log Γ(ν+1) of the area and of Stirling's series cancel: neither is ever formed."""
        return self._common() - self.q

    def log_normalizer_plus_concentration(self) -> Tensor:
        return torch.add(self._common(), (self.kappa + self.q).reciprocal(), alpha=-self.nu * self.nu)

    def resultant(self) -> Tensor:
        return torch.addcmul(self.kappa / self.q_plus_nu, self.cosine * self.u, self._h())

    def resultant_complement(self) -> Tensor:
        leading = torch.rsub((self.q + self.kappa).reciprocal(), self.nu, alpha=-self.nu * self.nu) / self.q_plus_nu
        return torch.addcmul(leading, self.cosine * self.u, self._h(), value=-1)

    def tangent_variance(self) -> Tensor:
        return torch.addcmul(self.q_plus_nu.reciprocal(), self.u * self.u, self._h())

    def resultant_slope(self) -> Tensor:
        h = self._h()
        bracket = h + self.cosine.square() * (self._h(1) - 2 * h)
        return self.u * (self.nu / self.q_plus_nu + self.u * bracket)

    def resultant_curvature(self) -> Tensor:
        h, eh, eeh = self._h(), self._h(1), self._h(2)
        p, c2 = self.nu * self.u, self.cosine.square()
        leading = -p * (2 + p) / (1 + p).square()  # of order q^{-1}
        bracket = h + c2 * (eh - 2 * h)
        change = eh + c2 * (eeh - 2 * eh) + 2 * p.square() * (eh - 2 * h) - 2 * bracket
        return self.cosine * self.u * self.u * (leading + self.u * change)

    def kl_to_uniform(self) -> Tensor:
        curve = self.cosine.square() * self._h()
        if self.dim <= LAST_SERIES_DIM:
            constant = self.nu + math.lgamma(self.nu + 1) - math.log(2 * math.pi) / 2
            tail = polynomial(_derivative_polynomial(self.dim, -1), self.u)
            return self.nu * (self.q_plus_nu / 2).log() + self.q.log() / 2 + curve - tail - constant
        relative = self.cosine * self.kappa / (1 + self.nu / self.q) / self.nu  # (q − ν)/ν
        tail = -relative * self.u * polynomial(_tail_quotient(self.dim), self.u)  # T(u) − T(1/ν)
        return self.nu * (relative / 2).log1p() + relative.log1p() / 2 + curve - tail

    def entropy(self) -> Tensor:
        return self.nu - self._common() - self.cosine.square() * self._h()


def evaluate(quantity: str, dim: int, kappa: Tensor) -> Tensor:
    """Value of one of the methods above, from whichever representation serves at each κ."""
    large: Tensor = getattr(_Expansion(dim, kappa), quantity)()
    if dim > LAST_SERIES_DIM:
        return large
    small: Tensor = getattr(_Series(dim, kappa), quantity)()
    return torch.where(kappa < SWITCH, small, large)
