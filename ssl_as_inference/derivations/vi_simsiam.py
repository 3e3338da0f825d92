r"""Eqs. (11) and (12): Power Spherical experts of estimated concentration in Eq. (5), and what κ learns."""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Rational, Sum, Symbol, digamma, exp, limit, log, oo, simplify

from ssl_as_inference.derivations.dirac_guide import GUIDE
from ssl_as_inference.derivations.multimodal_vi import LOSS, expectation, expert_posterior, q
from ssl_as_inference.derivations.normalizers import power_spherical_log_normalizer
from ssl_as_inference.derivations.notation import (
    Inner,
    LogNormalizer,
    M,
    SphereIntegral,
    concentrations,
    d,
    differentiate,
    f,
    i,
    j,
    kappa,
    mu,
    sift,
    z,
)
from ssl_as_inference.derivations.step import Derivation, Step

_log_c, _k = LogNormalizer(concentrations[i]), concentrations[i]
_density = exp(_log_c) * (1 + Inner(mu[i], z)) ** _k  # Eq. (11)
_log_product = Sum(log(_density), (i, 1, M))  # the logarithm of Eq. (10)
_expanded = Sum(_log_c + _k * log(1 + Inner(mu[i], z)), (i, 1, M))
_pairs = ((i, 1, M), (j, 1, M))

CORRECTED_LOSS = Derivation(
    "Eq. (12)",
    "Eqs. (8), (10) and (11) into Eq. (5), up to the entropy of the guide",
    (
        Step(
            "Eqs. (8), (10) and (11) into Eq. (5), less the entropy of the guide",
            LOSS - expectation(log(q(z))),
            -SphereIntegral(GUIDE * _log_product, z),
            given={q: lambda _: GUIDE, expert_posterior: lambda _: exp(_log_product)},
        ),
        Step(
            "logarithm of the density, Eq. (11)",
            -SphereIntegral(GUIDE * _log_product, z),
            -SphereIntegral(GUIDE * _expanded, z),
        ),
        Step(
            "sifting of the Dirac measure",
            -SphereIntegral(GUIDE * _expanded, z),
            -Sum(_log_c + _k * log(1 + Inner(mu[i], f[j])), *_pairs) / M,
            by=sift,
        ),
    ),
)

PRINTED_LOSS = -Sum(_log_c - _k * log(1 + Inner(mu[i], f[j])), *_pairs)
"""Eq. (12) as printed: the sign of the second term is wrong, and 1/M is missing."""

c = Symbol("c", positive=True)

CORRECTED_SLOPE = Derivation(
    "Eq. (12)",
    "the corrected loss of a pair falls as the cosine grows",
    (
        Step(
            "derivative",
            Derivative(-(LogNormalizer(kappa) + kappa * log(1 + c)), c),
            -kappa / (1 + c),
            by=differentiate,
        ),
    ),
)
PRINTED_SLOPE = Derivation(
    "Eq. (12)",
    "the printed loss of a pair rises as the cosine grows",
    (
        Step(
            "derivative",
            Derivative(-(LogNormalizer(kappa) - kappa * log(1 + c)), c),
            kappa / (1 + c),
            by=differentiate,
        ),
    ),
)


def pair_loss(expert: int, atom: int) -> Expr:
    r"""$-\log p_i(f_j)$, Eq. (11)."""
    k = concentrations[expert]
    return -LogNormalizer(k) - k * log(1 + Inner(mu[expert], f[atom]))


ALGORITHM_1 = pair_loss(1, 2) + pair_loss(2, 1)

LEAVE_ONE_OUT = Derivation(
    "Alg. 1",
    "Algorithm 1 and the diagonal: the corrected Eq. (12) at M = 2 is half their sum",
    (
        Step(
            "two views",
            CORRECTED_LOSS.result.subs(M, 2).doit(),
            Rational(1, 2) * (ALGORITHM_1 + pair_loss(1, 1) + pair_loss(2, 2)),
        ),
    ),
)

_b = (d - 1) / 2
_pair = -power_spherical_log_normalizer() - kappa * log(1 + c)

OPTIMAL_CONCENTRATION = Derivation(
    "Eq. (12)",
    "the best κ at a cosine c is where log(1+c) = log 2 + ψ(a) − ψ(a+b)",
    (
        Step(
            "derivative of the log-gamma function",
            Derivative(_pair, kappa),
            log(2) + digamma(kappa + _b) - digamma(kappa + 2 * _b) - log(1 + c),
            by=differentiate,
        ),
    ),
)


def _at_infinity(expression: Expr) -> Expr:
    return simplify(limit(expression, kappa, oo))


def _slope_at_the_mode(dim: int) -> Expr:
    r"""$dL/d\log\kappa$ at c = 1 for odd d, where $\psi(a+b)-\psi(a) = \sum_{m<b}1/(a+m)$."""
    b = (dim - 1) // 2
    return -kappa * sum((1 / (kappa + b + m) for m in range(b)), start=Integer(0))


UNBOUNDED = tuple(
    Derivation(
        "Eq. (12)",
        f"dL/dlog κ tends to −(d−1)/2 at c = 1, d = {dim}",
        (Step("limit of large κ", _slope_at_the_mode(dim), -Rational(dim - 1, 2), by=_at_infinity),),
    )
    for dim in (3, 5, 9)
)
