r"""Eq. (8): expectations under a mixture of Dirac measures are finite sums, with the 1/M."""

from __future__ import annotations

from collections.abc import Callable

from sympy import DiracDelta, Expr, Function, Integer, Integral, Mul, Sum, Symbol, oo

from ssl_as_inference.derivations.notation import Dirac, M, SphereIntegral, f, i, j, named_function, sift, z
from ssl_as_inference.derivations.step import Derivation, Step

GUIDE = Sum(Dirac(z, f[j]), (j, 1, M)) / M
"""Eq. (8)."""

_h = named_function("h", template="h({0})")


def printed_expectation(integrand: Expr) -> Expr:
    r"""$\sum_j\mathbb{E}_{\delta(z-f_j)}[h(z)]$, below Eq. (9): the paper leaves the 1/M out (C7)."""
    return Sum(SphereIntegral(Dirac(z, f[j]) * integrand, z), (j, 1, M))


EXPECTATION = Derivation(
    "Eq. (8)",
    "the expectation under the guide is the mean over its atoms",
    (
        Step(
            "linearity of the integral",
            SphereIntegral(GUIDE * _h(z), z),
            Sum(SphereIntegral(Dirac(z, f[j]) * _h(z), z), (j, 1, M)) / M,
        ),
        Step(
            "sifting of the Dirac measure",
            Sum(SphereIntegral(Dirac(z, f[j]) * _h(z), z), (j, 1, M)) / M,
            Sum(_h(f[j]), (j, 1, M)) / M,
            by=sift,
        ),
    ),
)

NORMALIZATION = Derivation(
    "Eq. (8)",
    "the guide is a probability measure",
    (Step("sifting of the Dirac measure", SphereIntegral(GUIDE, z), Integer(1), by=sift),),
)

PRINTED_EXPECTATION_IS_M_TIMES_TOO_LARGE = Derivation(
    "Eq. (8)",
    "the sum without 1/M is M times the expectation",
    (
        Step("sifting of the Dirac measure", printed_expectation(_h(z)), Sum(_h(f[j]), (j, 1, M)), by=sift),
        Step("the mean of Eq. (8)", Sum(_h(f[j]), (j, 1, M)), Mul(M, EXPECTATION.result, evaluate=False)),
    ),
)

GUIDE_OVER_THE_OTHERS = (Sum(Dirac(z, f[j]), (j, 1, M)) - Dirac(z, f[i])) / (M - 1)
"""Eq. (8) over the views other than the i-th, for M ≥ 2."""


def leave_one_out(log_density: Callable[[Expr], Expr]) -> Derivation:
    """Each expert against the guide over the other views: the loss over the cross pairs, M ≥ 2.

    Args:
        log_density: The logarithm of the i-th expert's density at a vector.
    """
    every, same = Sum(log_density(f[j]), (i, 1, M), (j, 1, M)), Sum(log_density(f[i]), (i, 1, M))
    return Derivation(
        "Alg. 1",
        "each expert against the guide over the other views",
        (
            Step(
                "sifting of the Dirac measure",
                -Sum(SphereIntegral(GUIDE_OVER_THE_OTHERS * log_density(z), z), (i, 1, M)),
                -(every - same) / (M - 1),
                by=sift,
            ),
        ),
    )


_angle, _first, _second = Symbol("t", real=True), Symbol("t_1", real=True), Symbol("t_2", real=True)
_height = Function("h")

SIFTING_ON_THE_CIRCLE = Derivation(
    "Eq. (8)",
    "the rule of sifting in the angle of the circle, by SymPy's own integration",
    (
        Step(
            "integration of the Dirac distribution",
            Integral(
                _height(_angle) * (DiracDelta(_angle - _first) + DiracDelta(_angle - _second)) / 2, (_angle, -oo, oo)
            ),
            (_height(_first) + _height(_second)) / 2,
            by=lambda e: e.doit(),
        ),
    ),
)
