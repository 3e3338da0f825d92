r"""Eq. (9): von Mises–Fisher experts of one constant concentration in Eq. (5) give SimSiam's loss."""

from __future__ import annotations

from sympy import Derivative, Expr, Rational, Sum, Symbol, exp, log

from ssl_as_inference.derivations.dirac_guide import GUIDE, leave_one_out
from ssl_as_inference.derivations.multimodal_vi import LOSS as KL_LOSS
from ssl_as_inference.derivations.multimodal_vi import expectation, expert_posterior, q
from ssl_as_inference.derivations.notation import (
    Inner,
    LogNormalizer,
    M,
    SphereIntegral,
    concentrations,
    differentiate,
    f,
    i,
    j,
    kappa,
    mu,
    sift,
    z,
)
from ssl_as_inference.derivations.ssl_loss import SSL_LOSS
from ssl_as_inference.derivations.step import Derivation, Step

DENSITY = exp(LogNormalizer(kappa)) * exp(kappa * Inner(mu[i], z))
"""Eq. (7)."""
_product = Sum(log(DENSITY), (i, 1, M))  # the logarithm of Eq. (6)
_affine = -M * LogNormalizer(kappa) - kappa / M * Sum(Inner(mu[i], f[j]), (i, 1, M), (j, 1, M))

LOSS = Derivation(
    "Eq. (9)",
    "the loss of constant concentration",
    (
        Step(
            "Eqs. (6), (7) and (8) into Eq. (5), less the entropy of the guide",
            KL_LOSS - expectation(log(q(z))),
            -SphereIntegral(GUIDE * _product, z),
            given={q: lambda _: GUIDE, expert_posterior: lambda _: exp(_product)},
        ),
        Step(
            "logarithm of the density, Eq. (7)",
            -SphereIntegral(GUIDE * _product, z),
            -SphereIntegral(GUIDE * Sum(LogNormalizer(kappa) + kappa * Inner(mu[i], z), (i, 1, M)), z),
        ),
        Step(
            "linearity of the expectation",
            -SphereIntegral(GUIDE * Sum(LogNormalizer(kappa) + kappa * Inner(mu[i], z), (i, 1, M)), z),
            -SphereIntegral(GUIDE * M * LogNormalizer(kappa), z)
            - kappa * SphereIntegral(GUIDE * Sum(Inner(mu[i], z), (i, 1, M)), z),
        ),
        Step(
            "sifting of the Dirac measure",
            -SphereIntegral(GUIDE * M * LogNormalizer(kappa), z)
            - kappa * SphereIntegral(GUIDE * Sum(Inner(mu[i], z), (i, 1, M)), z),
            _affine,
            by=sift,
        ),
    ),
)
r"""$\mathcal{L}_{paper}$ with constant κ: affine in the double sum of Eq. (9), not proportional to it."""

PRINTED_LOSS = -Sum(Inner(mu[i], f[j]), (i, 1, M), (j, 1, M))
"""The right-hand side of Eq. (9)."""


def pair_loss(expert: int, atom: int) -> Expr:
    r"""$-\log p_i(f_j)$ for constant κ."""
    return -LogNormalizer(kappa) - kappa * Inner(mu[expert], f[atom])


CROSS_PAIRS = Derivation(
    "Eq. (9)",
    "the pairs of different views, M = 2: Eq. (1), scaled by κ and shifted",
    (Step("arithmetic", pair_loss(1, 2) + pair_loss(2, 1), kappa * SSL_LOSS - 2 * LogNormalizer(kappa)),),
)

OFF_DIAGONAL = Derivation(
    "Eq. (9)",
    "the terms i ≠ j of Eq. (9) with its 1/M, M = 2: κ/2 times Eq. (1)",
    (
        Step(
            "arithmetic",
            Rational(1, 2) * (pair_loss(1, 2) + pair_loss(2, 1)),
            kappa / 2 * SSL_LOSS - LogNormalizer(kappa),
        ),
    ),
)

CROSS_LOSS = leave_one_out(lambda x: LogNormalizer(concentrations[i]) + concentrations[i] * Inner(mu[i], x))
"""The loss over the cross pairs for any M ≥ 2 and κ_i."""

_c = Symbol("c", real=True)
VON_MISES_FISHER_SLOPE = Derivation(
    "Eq. (9)",
    "the slope in the cosine is constant for a von Mises–Fisher expert, as SimSiam's",
    (Step("derivative", Derivative(-LogNormalizer(kappa) - kappa * _c, _c), -kappa, by=differentiate),),
)
POWER_SPHERICAL_SLOPE = Derivation(
    "Eq. (12)",
    "the slope in the cosine is −κ/(1+c) for a Power Spherical expert of constant κ, unlike SimSiam's",
    (
        Step(
            "derivative",
            Derivative(-LogNormalizer(kappa) - kappa * log(1 + _c), _c),
            -kappa / (1 + _c),
            by=differentiate,
        ),
    ),
)
