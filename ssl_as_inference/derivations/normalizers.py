r"""The normalisers $\log C(\kappa)$ of Eqs. (7) and (11) in closed form, and the integrals that they come from."""

from __future__ import annotations

from sympy import (
    Derivative,
    Expr,
    Integer,
    Integral,
    Rational,
    Symbol,
    besseli,
    exp,
    expand_func,
    gamma,
    log,
    loggamma,
    pi,
    simplify,
)

from ssl_as_inference.derivations.notation import d, differentiate, kappa
from ssl_as_inference.derivations.step import Derivation, Step

nu = Symbol("nu", positive=True)
_t = Symbol("t", real=True)


def uniform_log_normalizer(dim: Expr | int = d) -> Expr:
    r"""$\log C(0) = \log\Gamma(d/2) - \log 2 - \frac d2\log\pi$, minus the logarithm of the sphere's area."""
    half = Rational(1, 2) * dim
    return loggamma(half) - log(2) - half * log(pi)


def von_mises_fisher_log_normalizer(dim: Expr | int = d, concentration: Expr = kappa) -> Expr:
    r"""$\log C(\kappa) = \nu\log\kappa - \frac d2\log 2\pi - \log I_\nu(\kappa)$, $\nu = d/2-1$, of Eq. (7)."""
    half = Rational(1, 2) * dim
    return (half - 1) * log(concentration) - half * log(2 * pi) - log(besseli(half - 1, concentration))


def power_spherical_log_normalizer(dim: Expr | int = d, concentration: Expr = kappa) -> Expr:
    r"""$\log C(\kappa) = -[(a+b)\log2 + b\log\pi + \log\Gamma(a) - \log\Gamma(a+b)]$ of Eq. (11).

    Here $b = (d-1)/2$ and $a = b+\kappa$.
    """
    b = Rational(1, 2) * (dim - 1)
    a = b + concentration
    return -((a + b) * log(2) + b * log(pi) + loggamma(a) - loggamma(a + b))


def mean_resultant_length(order: Expr = nu, concentration: Expr = kappa) -> Expr:
    r"""$A(\kappa) = I_{\nu+1}(\kappa)/I_\nu(\kappa)$ of the von Mises–Fisher distribution."""
    return besseli(order + 1, concentration) / besseli(order, concentration)


def _integral_over_the_sphere(height: Expr, dim: int) -> Expr:
    r"""$\int h(\mu^\top z)\,dz$ over the sphere, as an integral over the cosine t."""
    circle = 2 * pi ** Rational(dim - 1, 2) / gamma(Rational(dim - 1, 2))  # area of the sphere of one dimension less
    return circle * Integral(height * (1 - _t**2) ** Rational(dim - 3, 2), (_t, -1, 1))


def _evaluated(expression: Expr) -> Expr:
    return simplify(simplify(expand_func(expression.doit())).rewrite(exp))


def _normalizes(name: str, equation: str, height: Expr, log_normalizer: Expr, dim: int, case: str) -> Derivation:
    return Derivation(
        equation,
        f"the {name} density integrates to one for {case}",
        (
            Step(
                "integration over the cosine",
                exp(log_normalizer) * _integral_over_the_sphere(height, dim),
                Integer(1),
                by=_evaluated,
            ),
        ),
    )


VON_MISES_FISHER_NORMALIZES = tuple(
    _normalizes("von Mises–Fisher", "Eq. (7)", exp(kappa * _t), von_mises_fisher_log_normalizer(dim), dim, f"d = {dim}")
    for dim in (3, 5)
)
"""In odd dimensions the Bessel function is elementary, and SymPy knows the integral."""

POWER_SPHERICAL_NORMALIZES = tuple(
    _normalizes(
        "Power Spherical",
        "Eq. (11)",
        (1 + _t) ** power,
        power_spherical_log_normalizer(dim, Integer(power)),
        dim,
        f"d = {dim}, κ = {power}",
    )
    for dim in (3, 5)
    for power in (1, 2, 5)
)


def _without_lower_order(expression: Expr) -> Expr:
    r"""Apply the recurrence $I_{\nu-1} = I_{\nu+1} + (2\nu/\kappa)I_\nu$ (DLMF 10.29.1)."""
    recurrence = besseli(nu + 1, kappa) + 2 * nu / kappa * besseli(nu, kappa)
    return simplify(expression.subs(besseli(nu - 1, kappa), recurrence))


_log_c = von_mises_fisher_log_normalizer(2 * nu + 2)

MEAN_RESULTANT_LENGTH = Derivation(
    "Eq. (7)",
    "the mean resultant length is minus the derivative of the log-normaliser",
    (
        Step(
            "derivative of the log-normaliser, recurrence of the Bessel functions",
            -Derivative(_log_c, kappa),
            mean_resultant_length(),
            by=lambda e: _without_lower_order(differentiate(e)),
        ),
    ),
)
