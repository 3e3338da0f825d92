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


def _series(order: mpf, kappa: mpf) -> mpf:
    """I_ν(κ) (κ/2)^{−ν} Γ(ν+1) = ₀F₁(; ν+1; κ²/4), all of whose terms are positive."""
    x, term, total, k = kappa * kappa / 4, mpf(1), mpf(1), 0
    while term * mpf(10) ** (mpmath.mp.dps + 2) > total:
        k += 1
        term = term * x / (k * (order + k))
        total += term
    return total


def _hankel(order: mpf, kappa: mpf) -> mpf:
    """√(2πκ) exp(−κ) I_ν(κ) for κ far beyond ν², Hankel's expansion (DLMF 10.40.1)."""
    term, total, j = mpf(1), mpf(1), 0
    while abs(term) * mpf(10) ** (mpmath.mp.dps - 2) > 1:
        j += 1
        term = -term * (4 * order**2 - (2 * j - 1) ** 2) / (j * 8 * kappa)
        total += term
    return total


@functools.cache
def von_mises_fisher_reference(dim: int, concentration: float) -> Reference:
    """Exact values for vMF(κ) in R^dim, κ > 0; about a hundredth of a second."""
    order, kappa = mpf(dim) / 2 - 1, mpf(concentration)
    # Hankel's expansion alternates and cancels about ν²/2κ digits (natural ones), which are added to the precision.
    far = kappa > 2000 and order**2 / kappa < 3000
    with mpmath.workdps(_DIGITS + _SPARE + (int(order**2 / kappa) if far else 0)):
        log_area = _log_area(dim)
        if far:
            first, second = _hankel(order, kappa), _hankel(order + 1, kappa)
            resultant = second / first
            log_bessel = mpmath.log(first) - mpmath.log(2 * mpmath.pi * kappa) / 2 + kappa
            log_c = order * mpmath.log(kappa) - (order + 1) * mpmath.log(2 * mpmath.pi) - log_bessel
        else:
            first, second = _series(order, kappa), _series(order + 1, kappa)
            resultant = kappa / dim * second / first
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
