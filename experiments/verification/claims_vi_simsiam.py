"""Claims on Eq. (12), Algorithm 1, and what the concentration learns."""

from __future__ import annotations

import math
from typing import Any

from scipy.optimize import brentq
from scipy.special import digamma
from sympy import Rational

from experiments.verification.claim import Derivations, Outcome, claim, symbolic
from experiments.verification.lab import DIMS, POWER, Lab, Table, Tables
from experiments.verification.losses import at, compare_loss, slope_in_the_concentration, slope_in_the_cosine
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations import simsiam as fisher
from ssl_as_inference.derivations import vi_simsiam as derived
from ssl_as_inference.derivations.notation import d

_SCALE = "relative to Σκ + M d"


@symbolic("C12", "Eq. (12)")
def loss_derived() -> Derivations:
    """Eqs. (8), (10), (11) into (5) give a loss that falls as the cosine grows; as printed it rises.

    Correction: Eq. (12) as printed has the wrong sign before κ log(1+μᵀf), and lacks 1/M.
    """
    return derived.CORRECTED_LOSS, derived.CORRECTED_SLOPE, derived.PRINTED_SLOPE


@claim("C12", "Eq. (12)", 1e-12, detail=_SCALE, table=Tables((POWER,), repeat=2))
def all_pairs(table: Table) -> float:
    """The shipped loss over all pairs is the derived expression."""
    return compare_loss(derived.CORRECTED_LOSS.result, table, KLObjective("all"))


_SLOPE = derived.CORRECTED_SLOPE.result
_GRID: dict[str, Any] = {"dim": (2, 8, 2048), "kappa": (0.01, 5.0, 1e4), "cosine": (-0.9, 0.0, 0.6, 0.99)}


@claim("C12", "Eq. (12)", 1e-12, detail="all slopes < 0", shows=(_SLOPE,), **_GRID)
def slopes(lab: Lab, dim: int, kappa: float, cosine: float) -> float:
    """The shipped loss falls with the cosine, with slope {0}."""
    return float(abs(slope_in_the_cosine(lab, POWER, dim, kappa, cosine) / at(_SLOPE, kappa=kappa, c=cosine) - 1))


@symbolic("C13", "Alg. 1")
def leave_one_out_derived() -> Derivations:
    """Each expert against the guide over the other views gives the loss over the cross pairs.

    For M = 2 it is Algorithm 1; with the terms i = j it makes up Eq. (12).

    Correction: Dropping the terms i = j is not neutral; it is exact under the reading that each expert is compared
    with the guide over the other views.
    """
    return derived.CROSS_LOSS, derived.ALGORITHM_1_IS_THE_CROSS_LOSS, derived.LEAVE_ONE_OUT


@claim("C13", "Alg. 1", 1e-12, detail=_SCALE, table=Tables(views=(2,), repeat=3))
def leave_one_out(table: Table) -> dict[str, float]:
    """The same of the shipped objective, M = 2, and Algorithm 1 in its own words."""
    p1, p2 = table.experts()
    z1, z2 = table.atoms()
    algorithm = (-p1.log_prob(z2) - p2.log_prob(z1)).item()
    diagonal = (-p1.log_prob(z1) - p2.log_prob(z2)).item()
    return {
        "cross pairs": abs(table.loss(KLObjective("cross")) - algorithm) / table.scale,
        "all pairs": abs(table.loss(KLObjective("all")) - (algorithm + diagonal) / 2) / table.scale,
    }


@claim("C13", "Alg. 1", 1e-12, detail=_SCALE, table=Tables((POWER,), views=(2,), repeat=5))
def algorithm_1(table: Table) -> float:
    """The shipped loss over the cross pairs, M = 2, is the derived Algorithm 1."""
    return compare_loss(derived.ALGORITHM_1, table, KLObjective("cross"))


@claim("C13", "Alg. 1", 1e-12, detail=_SCALE, table=Tables())
def cross_loss(table: Table) -> float:
    """The shipped loss over the cross pairs is the derived one, for more views and both families."""
    expression = derived.CROSS_LOSS.result if table.family == POWER else fisher.CROSS_LOSS.result
    return compare_loss(expression, table, KLObjective("cross"))


@symbolic("C23", "Eq. (12)")
def optimum_derived() -> Derivations:
    """The best κ at a cosine c is where the slope in κ vanishes.

    The slope grows with κ, and starts from 0 at a threshold, below which the best κ is 0.
    """
    return derived.OPTIMAL_CONCENTRATION, derived.SLOPE_INCREASES, derived.SLOPE_AT_THE_THRESHOLD


def best_concentration(dim: int, cosine: float) -> float:
    """The κ > 0 where the slope vanishes, by SciPy."""
    b = (dim - 1) / 2

    def slope(log_kappa: float) -> float:
        a = b + math.exp(log_kappa)
        return float(digamma(a) - digamma(a + b) + math.log(2) - math.log1p(cosine))

    return math.exp(float(brentq(slope, -10, 40, xtol=1e-13)))


_BEST = (d - 1) * derived.c / (1 - derived.c) + Rational(1, 2)


@claim("C23", "Eq. (12)", 0.01, shows=(_BEST,), cosine=(0.1, 0.2, 0.5, 0.9, 0.99, 0.999))
def optimal_concentration(cosine: float) -> Outcome:
    """The best κ is close to {0} at d = 2048, c ≥ 0.1."""
    best = best_concentration(2048, cosine)
    return Outcome(float(abs(best / at(_BEST, d=2048, c=cosine) - 1)), f"κ* = {best:.4g} at {cosine}")


_HALF = "slope over that at half the κ"


@claim("C23", "Eq. (12)", 1e-9, detail=_HALF, dim=(3, 8, 128, 2048), cosine=(0.1, 0.5, 0.9, 0.999))
def optimum_of_the_shipped_loss(lab: Lab, dim: int, cosine: float) -> float:
    """The shipped loss is stationary in κ at the best κ."""
    best = best_concentration(dim, cosine)
    at, below = (slope_in_the_concentration(lab, POWER, dim, kappa, cosine) for kappa in (best, best / 2))
    return abs(at / below)


@claim(
    "C23", "Eq. (12)", 1e-9, detail="slope at κ = 0, and its sign on either side", shows=(derived.THRESHOLD,), dim=DIMS
)
def threshold_of_the_shipped_loss(lab: Lab, dim: int) -> float:
    """At the cosine {0} the slope of the shipped loss at κ = 0 vanishes; it is positive below and negative above."""
    threshold = float(at(derived.THRESHOLD, d=dim))
    cosines = (threshold + x for x in (-0.01, 0.0, 0.01))
    below, there, above = (slope_in_the_concentration(lab, POWER, dim, 0.0, cosine) for cosine in cosines)
    return abs(there) if above < 0 < below else math.inf


@symbolic("C24", "Eq. (12)")
def unbounded_derived() -> Derivations:
    """At c = 1 the slope in log κ has a negative limit: the loss is unbounded below."""
    return (derived.UNBOUNDED,)


_LIMIT = derived.UNBOUNDED.result


@claim("C24", "Eq. (12)", 1e-3, detail="relative", shows=(_LIMIT,), dim=DIMS, factor=(1e3, 1e5, 1e7))
def unbounded(lab: Lab, dim: int, factor: float) -> float:
    """At c = 1 the derivative of the shipped loss by log κ tends to {0}, κ ≥ 1000 d."""
    kappa = factor * dim
    return float(abs(kappa * slope_in_the_concentration(lab, POWER, dim, kappa, 1.0) / at(_LIMIT, d=dim) - 1))
