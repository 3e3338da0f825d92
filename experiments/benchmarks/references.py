"""Normalisers and moments with 60 digits by mpmath, independent of the formulas of `ssl_as_inference.special`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import mpmath
from mpmath import mpf

_DIGITS = 60
_SPARE = 25  # digits that the differences below may cancel: 1 − A² − (d−1)A/κ loses 12 at κ = 1e6, the divergence 6


@dataclass(frozen=True)
class Reference:
    """Exact values for one dimension and concentration.

    Attributes:
        log_normalizer: log C(κ).
        slope: −(log C)′: A(κ) for von Mises–Fisher, E log(1 + μᵀz) for Power Spherical.
        curvature: −(log C)″: A′(κ), or Var log(1 + μᵀz).
        kl_to_uniform: Divergence to the uniform distribution.
        resultant: E[μᵀz].
    """

    log_normalizer: mpf
    slope: mpf
    curvature: mpf
    kl_to_uniform: mpf
    resultant: mpf


def _log_area(dim: int) -> mpf:
    half = mpf(dim) / 2
    return mpmath.log(2) + half * mpmath.log(mpmath.pi) - mpmath.loggamma(half)


@functools.cache
def von_mises_fisher_reference(dim: int, concentration: float) -> Reference:
    """Exact values for vMF(κ) in R^dim, κ > 0, by I_ν(κ) (κ/2)^{−ν} Γ(ν+1) = ₀F₁(; ν+1; κ²/4) with ν = d/2 − 1."""
    half, kappa = mpf(dim) / 2, mpf(concentration)
    # Where mpmath takes an expansion that alternates, as many digits cancel; without them it sums for minutes.
    cancelled = int(half**2 / kappa) if half**2 < 1200 * kappa else 0
    with mpmath.workdps(_DIGITS + _SPARE + cancelled):
        first, second = (mpmath.hyp0f1(half + more, kappa**2 / 4, maxterms=10**7) for more in (0, 1))
        resultant, log_area = kappa / dim * second / first, _log_area(dim)
        log_c = -log_area - mpmath.log(first)
        slope = 1 - resultant**2 - (dim - 1) * resultant / kappa
        return Reference(log_c, resultant, slope, log_c + log_area + kappa * resultant, resultant)


@functools.cache
def power_spherical_reference(dim: int, concentration: float) -> Reference:
    """Exact values for PS(κ) in R^dim, κ > 0."""
    with mpmath.workdps(_DIGITS + _SPARE):
        kappa, b = mpf(concentration), (mpf(dim) - 1) / 2
        a = b + kappa
        log_c = -((a + b) * mpmath.log(2) + b * mpmath.log(mpmath.pi) + mpmath.loggamma(a) - mpmath.loggamma(a + b))
        mean = mpmath.log(2) + mpmath.psi(0, a) - mpmath.psi(0, a + b)
        variance = mpmath.psi(1, a) - mpmath.psi(1, a + b)
        return Reference(log_c, mean, variance, log_c + kappa * mean + _log_area(dim), kappa / (kappa + dim - 1))


REFERENCES: dict[str, Callable[[int, float], Reference]] = {
    "vMF": von_mises_fisher_reference,
    "PS": power_spherical_reference,
}
