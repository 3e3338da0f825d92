r"""Eq. (1) and the losses that SimSiam and BYOL published, for unit vectors $\mu_i = g(x_i)$ and $f_j = f(x_j)$."""

from __future__ import annotations

from sympy import Expr, Integer, Mul, Rational

from ssl_as_inference.derivations.notation import Inner, f, mu
from ssl_as_inference.derivations.step import Derivation, Step

SSL_LOSS = -Inner(mu[1], f[2]) - Inner(mu[2], f[1])
"""Eq. (1)."""

SIMSIAM_LOSS = -Rational(1, 2) * Inner(mu[1], f[2]) - Rational(1, 2) * Inner(mu[2], f[1])
"""Eq. (2) of arXiv:2011.10566 for normalised vectors."""

BYOL_LOSS = Inner(mu[1] - f[2], mu[1] - f[2]) + Inner(mu[2] - f[1], mu[2] - f[1])
"""Eq. (2) of arXiv:2006.07733, with both orders of the views as in its Section 3.1."""


def _unit_length(u: Expr, v: Expr) -> Expr:
    return Integer(1) if u == v else Inner(u, v)


SSL_IS_TWICE_SIMSIAM = Derivation(
    "Eq. (1)",
    "Eq. (1) is twice SimSiam's loss",
    (Step("arithmetic", SSL_LOSS, Mul(2, SIMSIAM_LOSS, evaluate=False)),),
)

_expanded = sum(
    (Inner(mu[a], mu[a]) - 2 * Inner(mu[a], f[b]) + Inner(f[b], f[b]) for a, b in ((1, 2), (2, 1))), start=Integer(0)
)

BYOL_IS_AFFINE_IN_SSL = Derivation(
    "Eq. (1)",
    "BYOL's loss is 4 + 2 × Eq. (1)",
    (
        Step("bilinearity of the inner product", BYOL_LOSS, _expanded),
        Step(
            "vectors of unit length",
            _expanded,
            4 + 2 * SSL_LOSS,
            by=lambda e: e.replace(Inner, _unit_length),
        ),
    ),
)
