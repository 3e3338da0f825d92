r"""Claims on Eq. (12), Algorithm 1, and what the concentration learns, last of a guide that does not move.

Any encoder that is there already gives such a guide, Eq. (8) with f frozen; the objective of Eq. (5) is then amortised
maximum likelihood of $p_\psi(z\mid x)$. That BYOL with momentum 1 is this case is C26.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import torch
from sympy import Eq, Rational, Symbol, lambdify, log
from torch import Tensor

from experiments.verification.claim import Derivations, Outcome, claim, symbolic
from experiments.verification.lab import DIMS, FISHER, POWER, Lab, Table, Tables, at, cosine_slope, kappa_slope
from inference.fitting.kl_objective import KLObjective, Pairs
from ssl_as_inference.derivations import simsiam as fisher
from ssl_as_inference.derivations import vi_simsiam as derived
from ssl_as_inference.derivations.notation import Inner, MeanResultantLength, d, kappa, named_function, z
from ssl_as_inference.distributions import VonMisesFisher


@symbolic("C12", "Eq. (12)")
def loss_derived() -> Derivations:
    """Eqs. (8), (10), (11) into (5) give a loss that falls as the cosine grows; as printed it rises.

    Correction: Eq. (12) as printed has the wrong sign before κ log(1+μᵀf), and lacks 1/M.
    """
    return derived.CORRECTED_LOSS, derived.CORRECTED_SLOPE, derived.PRINTED_SLOPE


@claim("C12", "Eq. (12)", 1e-12, table=Tables((POWER,), repeat=2))
def all_pairs(table: Table) -> float:
    """The shipped loss over all pairs is the derived expression.

    Error: relative to Σκ + M d.
    """
    return table.error(derived.CORRECTED_LOSS.result, KLObjective("all"))


_SLOPE = derived.CORRECTED_SLOPE.result
_GRID: dict[str, Any] = {"dim": (2, 8, 2048), "kappa": (0.01, 5.0, 1e4), "cosine": (-0.9, 0.0, 0.6, 0.99)}


@claim("C12", "Eq. (12)", 1e-12, shows=(_SLOPE,), **_GRID)
def slopes(lab: Lab, dim: int, kappa: float, cosine: float) -> float:
    """The shipped loss falls with the cosine, with slope {0}.

    Error: all slopes < 0.
    """
    return float(abs(cosine_slope(lab, POWER, dim, kappa, cosine) / at(_SLOPE, kappa=kappa, c=cosine) - 1))


@symbolic("C13", "Alg. 1", shown=3)
def leave_one_out_derived() -> Derivations:
    """Each expert against the guide over the other views gives the loss over the cross pairs.

    For M = 2 it is Algorithm 1; with the terms i = j it makes up Eq. (12).

    Correction: Dropping the terms i = j is not neutral; it is exact under the reading that each expert is compared
    with the guide over the other views.
    """
    return derived.CROSS_LOSS, derived.ALGORITHM_1_IS_THE_CROSS_LOSS, derived.LEAVE_ONE_OUT, fisher.CROSS_LOSS


@claim("C13", "Alg. 1", 1e-12, table=Tables(views=(2,), repeat=3))
def leave_one_out(table: Table) -> dict[str, float]:
    """The same of the shipped objective, M = 2, and Algorithm 1 in its own words.

    Error: relative to Σκ + M d.
    """
    scores = table.log_densities()
    algorithm, diagonal = -(scores[0, 1] + scores[1, 0]).item(), -scores.trace().item()
    expected: dict[Pairs, float] = {"cross": algorithm, "all": (algorithm + diagonal) / 2}
    return {f"{p} pairs": abs(table.loss(KLObjective(p)) - loss) / table.scale for p, loss in expected.items()}


@claim("C13", "Alg. 1", 1e-12, table=Tables((POWER,), views=(2,), repeat=5))
def algorithm_1(table: Table) -> float:
    """The shipped loss over the cross pairs, M = 2, is the derived Algorithm 1.

    Error: relative to Σκ + M d.
    """
    return table.error(derived.ALGORITHM_1, KLObjective("cross"))


@claim("C13", "Alg. 1", 1e-12, table=Tables())
def cross_loss(table: Table) -> float:
    """The shipped loss over the cross pairs is the derived one, for more views and both families.

    Error: relative to Σκ + M d.
    """
    expression = derived.CROSS_LOSS.result if table.family == POWER else fisher.CROSS_LOSS.result
    return table.error(expression, KLObjective("cross"))


@symbolic("C23", "Eq. (12)")
def optimum_derived() -> Derivations:
    """The best κ at a cosine c is where the slope in κ vanishes.

    The slope grows with κ, and starts from 0 at a threshold, below which the best κ is 0.
    """
    return derived.OPTIMAL_CONCENTRATION, derived.SLOPE_INCREASES, derived.SLOPE_AT_THE_THRESHOLD


# the mean of log(1 + μᵀz) of PS(κ), which at one cosine is log(1 + c) where κ is the best
_HEIGHT = derived.OPTIMAL_CONCENTRATION.result + log(1 + derived.c)
_BEST = (d - 1) * derived.c / (1 - derived.c) + Rational(1, 2)


def _concentration_at(mean: Callable[[Any], Any], value: float) -> float:
    """The κ at which a mean that grows with it has a value, by mpmath."""
    with mpmath.workdps(30):
        logs = mpmath.findroot(lambda x: mean(mpmath.exp(x)) - value, (-15, 15), solver="bisect", verify=False)
        return float(mpmath.exp(logs))


def best_concentration(dim: int, height: float) -> float:
    """The best κ of a Power Spherical expert where the mean of log(1 + μᵀz) is `height`."""
    return _concentration_at(lambdify(kappa, _HEIGHT.subs(d, dim), "mpmath"), height)


@claim("C23", "Eq. (12)", 0.01, shows=(_BEST,), cosine=(0.1, 0.2, 0.5, 0.9, 0.99, 0.999))
def optimal_concentration(cosine: float) -> Outcome:
    """The best κ is close to {0} at d = 2048, c ≥ 0.1."""
    best = best_concentration(2048, math.log1p(cosine))
    return Outcome(float(abs(best / at(_BEST, d=2048, c=cosine) - 1)), f"κ* = {best:.4g} at {cosine}")


@claim("C23", "Eq. (12)", 1e-9, dim=(3, 8, 128, 2048), cosine=(0.1, 0.5, 0.9, 0.999))
def optimum_of_the_shipped_loss(lab: Lab, dim: int, cosine: float) -> float:
    """The shipped loss is stationary in κ at the best κ.

    Error: slope over that at half the κ.
    """
    best = best_concentration(dim, math.log1p(cosine))
    there, below = (kappa_slope(lab, POWER, dim, kappa, cosine) for kappa in (best, best / 2))
    return abs(there / below)


@claim("C23", "Eq. (12)", 1e-9, shows=(derived.THRESHOLD,), dim=DIMS)
def threshold_of_the_shipped_loss(lab: Lab, dim: int) -> float:
    """At the cosine {0} the slope of the shipped loss at κ = 0 vanishes; it is positive below and negative above.

    Error: slope at κ = 0, and its sign on either side.
    """
    threshold = float(at(derived.THRESHOLD, d=dim))
    below, there, above = (kappa_slope(lab, POWER, dim, 0.0, threshold + x) for x in (-0.01, 0.0, 0.01))
    return abs(there) if above < 0 < below else math.inf


@symbolic("C24", "Eq. (12)")
def unbounded_derived() -> Derivations:
    """At c = 1 the slope in log κ has a negative limit: the loss is unbounded below."""
    return (derived.UNBOUNDED,)


_LIMIT = derived.UNBOUNDED.result


@claim("C24", "Eq. (12)", 1e-3, shows=(_LIMIT,), dim=DIMS, factor=(1e3, 1e5, 1e7))
def unbounded(lab: Lab, dim: int, factor: float) -> float:
    """At c = 1 the derivative of the shipped loss by log κ tends to {0}, κ ≥ 1000 d.

    Error: relative.
    """
    kappa = factor * dim
    return float(abs(kappa * kappa_slope(lab, POWER, dim, kappa, 1.0) / at(_LIMIT, d=dim) - 1))


_FIXED: dict[str, Any] = {"dim": (3, 8, 128), "spread": (0.1, 1.0)}


def _targets(lab: Lab, dim: int, spread: float) -> Tensor:
    """Draws of z that stand for p(z|x), of neither family."""
    return lab.tensor(lab.directions(60, dim, spread))


def _derivatives(lab: Lab, family: str, targets: Tensor, direction: Tensor, kappa: float) -> dict[str, float]:
    """Of the mean of −log p(z|x) as shipped: by log κ, and along the sphere by μ, relative to κ."""
    log_kappa = lab.tensor(math.log(kappa)).requires_grad_()
    mu = direction.clone().requires_grad_()
    expert = lab.law(family, mu, log_kappa.exp(), validate_args=False)
    by_kappa, by_mu = torch.autograd.grad(-expert.log_prob(targets).mean(), (log_kappa, mu))
    tangent = by_mu - (by_mu @ direction) * direction
    return {"κ": by_kappa.abs().item() / (kappa + targets.size(1)), "μ": tangent.norm().item() / kappa}


_MEAN = named_function("conditional_mean", template=r"\mathbb{{E}}\left[{0}\mid x\right]")
_NORM = named_function("norm", template=r"\left\lVert{0}\right\rVert")
_BEST_POWER = Eq(_MEAN(log(1 + Inner(Symbol("mu"), z))), _HEIGHT)
_BEST_FISHER = _MEAN(z), Eq(MeanResultantLength(kappa), _NORM(_MEAN(z)))


@claim("C32", "Eq. (8)", 1e-9, shows=(_BEST_POWER,), **_FIXED)
def best_power_spherical_of_a_fixed_target(lab: Lab, dim: int, spread: float) -> float:
    """Over a fixed target the best Power Spherical κ of an image x matches the mean log height: {0}.

    Error: derivatives of the expected loss.
    """
    targets = _targets(lab, dim, spread)
    direction = torch.nn.functional.normalize(targets.mean(0), dim=0)
    best = best_concentration(dim, float((1 + targets @ direction).log().mean()))
    return _derivatives(lab, POWER, targets, direction, best)["κ"]


@claim("C33", "Eq. (8)", 1e-9, shows=_BEST_FISHER, **_FIXED)
def best_von_mises_fisher_of_a_fixed_target(lab: Lab, dim: int, spread: float) -> dict[str, float]:
    """Over a fixed target the best von Mises–Fisher expert matches its mean: it has the direction of {0}, and {1}.

    Error: derivatives of the expected loss.
    """
    targets, half = _targets(lab, dim, spread), mpmath.mpf(dim) / 2
    mean = targets.mean(0)
    best = _concentration_at(lambda k: mpmath.besseli(half, k) / mpmath.besseli(half - 1, k), float(mean.norm()))
    return _derivatives(lab, FISHER, targets, mean / mean.norm(), best)


@claim("C34", "Eq. (8)", 1e-12, dim=(3, 8, 128))
def collapse_is_no_optimum_of_a_fixed_target(lab: Lab, dim: int) -> dict[str, float]:
    """With a fixed target, one expert for all items is the best only where the target's mean is the same for all.

    Of two groups of targets, drawn at random, the best expert of each is better than the best of both together by more
    than 0.01 nats for each dimension, and by nothing if the groups are the same.

    Error: by how much it is not so.
    """

    def best(*groups: Tensor) -> float:
        targets = torch.cat(groups)
        return -float(VonMisesFisher.fit(targets).log_prob(targets).mean())

    one, other = (_targets(lab, dim, 0.5) for _ in range(2))
    return {
        "groups that differ": max(0.0, 0.01 * dim - best(one, other) + (best(one) + best(other)) / 2),
        "the same group twice": abs(best(one, one) - best(one)) / dim,
    }
