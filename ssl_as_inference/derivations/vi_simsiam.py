r"""Eqs. (11) and (12): Power Spherical experts of estimated concentration in Eq. (5), and what κ learns."""

from __future__ import annotations

from sympy import (
    Derivative,
    Expr,
    Integer,
    Limit,
    Rational,
    Subs,
    Sum,
    Symbol,
    digamma,
    exp,
    limit,
    log,
    oo,
    polygamma,
    simplify,
    sqrt,
    trigamma,
)

from ssl_as_inference.derivations.dirac_guide import GUIDE, leave_one_out
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
from ssl_as_inference.derivations.step import Derivation, Step, positive_terms

_log_c, _k = LogNormalizer(concentrations[i]), concentrations[i]
DENSITY = exp(_log_c) * (1 + Inner(mu[i], z)) ** _k
"""Eq. (11)."""
_log_product = Sum(log(DENSITY), (i, 1, M))  # the logarithm of Eq. (10)
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
ALGORITHM_1_OF_ANY_VECTORS = ALGORITHM_1.replace(Inner, lambda u, v: Inner(u, v) / sqrt(Inner(u, u) * Inner(v, v)))
"""Algorithm 1 with its vectors normalised, which it does not show."""

CROSS_LOSS = leave_one_out(lambda x: _log_c + _k * log(1 + Inner(mu[i], x)))
"""The loss over the cross pairs for any M ≥ 2."""

ALGORITHM_1_IS_THE_CROSS_LOSS = Derivation(
    "Alg. 1",
    "for two views the loss over the cross pairs is Algorithm 1",
    (Step("two views", Subs(CROSS_LOSS.result, M, 2), ALGORITHM_1, by=lambda e: e.doit()),),
)

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

THRESHOLD = 2 * exp(digamma(_b) - digamma(2 * _b)) - 1
"""The cosine at and below which the best κ is 0."""

SLOPE_AT_THE_THRESHOLD = Derivation(
    "Eq. (12)",
    "at the threshold the slope in κ starts from 0",
    (
        Step(
            "rules of logarithms",
            Subs(OPTIMAL_CONCENTRATION.result, (kappa, c), (0, THRESHOLD)),
            Integer(0),
            by=lambda e: e.doit(),
        ),
    ),
)

_n = Symbol("n", integer=True, nonnegative=True)
_curvature = trigamma(kappa + _b) - trigamma(kappa + 2 * _b)


def _series_of_trigamma(expression: Expr) -> Expr:
    r"""$\psi'(x) - \psi'(y) = \sum_{n\ge0}\{(x+n)^{-2} - (y+n)^{-2}\}$ (DLMF 5.15.1)."""
    half = Symbol("b", positive=True)  # that (d − 1)/2 is positive, for d ≥ 2, SymPy would not know
    term = expression.subs(d, 2 * half + 1).replace(polygamma, lambda order, x: (x + _n) ** (-2) if order == 1 else oo)
    return Sum(term, (_n, 0, oo))


SLOPE_INCREASES = Derivation(
    "Eq. (12)",
    "the slope in κ increases with κ",
    (
        Step(
            "derivative of the digamma function",
            Derivative(OPTIMAL_CONCENTRATION.result, kappa),
            _curvature,
            by=differentiate,
        ),
        Step(
            "series of the trigamma function, term by term",
            _curvature,
            Integer(0),
            by=_series_of_trigamma,
            at_least=positive_terms,
        ),
    ),
)


def _at_infinity(expression: Expr) -> Expr:
    return expression.replace(
        Limit, lambda inner, symbol, point, _: limit(simplify(differentiate(inner)), symbol, point)
    )


UNBOUNDED = Derivation(
    "Eq. (12)",
    "dL/dlog κ tends to −(d−1)/2 at c = 1",
    (
        Step(
            "derivative, limit of large κ",
            Limit(kappa * Derivative(_pair.subs(c, 1), kappa), kappa, oo),
            -_b,
            by=_at_infinity,
        ),
    ),
)
