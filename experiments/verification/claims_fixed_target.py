r"""Claims on a guide that does not move, Eq. (8) with f frozen: what the best expert is, and that it is no collapse.

Any encoder that is there already gives such a guide; the objective of Eq. (5) is then amortised maximum likelihood of
$p_\psi(z\mid x)$. That BYOL with momentum 1 is this case is C26.
"""

from __future__ import annotations

import mpmath
import numpy as np
import torch
from sympy import Eq, Symbol, lambdify, log
from torch import Tensor

from experiments.verification.claim import claim
from experiments.verification.lab import FISHER, POWER, Lab
from ssl_as_inference.derivations.notation import Inner, MeanResultantLength, d, kappa, named_function, z
from ssl_as_inference.derivations.vi_simsiam import OPTIMAL_CONCENTRATION, c

_ITEMS = 60  # draws of z that stand for p(z|x), of neither family
_FIXED_DIMS = (3, 8, 128)
_WIDTHS = (0.1, 1.0)


def _targets(lab: Lab, dim: int, width: float) -> Tensor:
    return lab.tensor(lab.directions(_ITEMS, dim, width))


def _derivatives(lab: Lab, family: str, targets: Tensor, direction: Tensor, kappa: float) -> dict[str, float]:
    """Of the mean of −log p(z|x) as shipped: by log κ, and along the sphere by μ, relative to κ."""
    log_kappa = lab.tensor(np.log(kappa)).requires_grad_()
    mu = direction.clone().requires_grad_()
    expert = lab.law(family, mu, log_kappa.exp(), validate_args=False)
    by_kappa, by_mu = torch.autograd.grad(-expert.log_prob(targets).mean(), (log_kappa, mu))
    tangent = by_mu - (by_mu @ direction) * direction
    return {"κ": by_kappa.abs().item() / (kappa + targets.size(1)), "μ": tangent.norm().item() / kappa}


_MEAN = named_function("conditional_mean", template=r"\mathbb{{E}}\left[{0}\mid x\right]")
_NORM = named_function("norm", template=r"\left\lVert{0}\right\rVert")
_HEIGHT = OPTIMAL_CONCENTRATION.result + log(1 + c)  # the mean log height of PS(κ), which at one cosine is log(1 + c)
_BEST_POWER = Eq(_MEAN(log(1 + Inner(Symbol("mu"), z))), _HEIGHT)
_BEST_FISHER = Eq(MeanResultantLength(kappa), _NORM(_MEAN(z)))
_DERIVATIVES = "derivatives of the expected loss"


@claim("C32", "Eq. (8)", 1e-9, detail=_DERIVATIVES, shows=(_BEST_POWER,), dim=_FIXED_DIMS, spread=_WIDTHS)
def best_power_spherical_of_a_fixed_target(lab: Lab, dim: int, spread: float) -> float:
    """Over a fixed target the best Power Spherical κ of an image x matches the mean log height: {0}."""
    targets = _targets(lab, dim, spread)
    direction = torch.nn.functional.normalize(targets.mean(0), dim=0)
    height = mpmath.mpf(float((1 + targets @ direction).log().mean()))
    mean = lambdify([d, kappa], _HEIGHT, "mpmath")

    def distance(log_kappa: mpmath.mpf) -> mpmath.mpf:
        return mean(mpmath.mpf(dim), mpmath.exp(log_kappa)) - height

    best = float(mpmath.exp(mpmath.findroot(distance, (-15, 15), solver="bisect", verify=False)))
    return _derivatives(lab, POWER, targets, direction, best)["κ"]


_DIRECTION = (_MEAN(z), _BEST_FISHER)


@claim("C33", "Eq. (8)", 1e-9, detail=_DERIVATIVES, shows=_DIRECTION, dim=_FIXED_DIMS, spread=_WIDTHS)
def best_von_mises_fisher_of_a_fixed_target(lab: Lab, dim: int, spread: float) -> dict[str, float]:
    """Over a fixed target the best von Mises–Fisher expert matches its mean: it has the direction of {0}, and {1}."""
    targets = _targets(lab, dim, spread)
    mean = targets.mean(0)
    length, half = mpmath.mpf(float(mean.norm())), mpmath.mpf(dim) / 2

    def distance(log_kappa: mpmath.mpf) -> mpmath.mpf:
        k = mpmath.exp(log_kappa)
        return mpmath.besseli(half, k) / mpmath.besseli(half - 1, k) - length

    best = float(mpmath.exp(mpmath.findroot(distance, (-15, 15), solver="bisect", verify=False)))
    return _derivatives(lab, FISHER, targets, mean / mean.norm(), best)


@claim("C34", "Eq. (8)", 1e-12, detail="by how much it is not so", dim=_FIXED_DIMS)
def collapse_is_no_optimum_of_a_fixed_target(lab: Lab, dim: int) -> dict[str, float]:
    """With a fixed target, one expert for all items is the best only where the target's mean is the same for all.

    Of two groups of targets the best expert of each is better than the best of both together by more than 0.01 nats
    for each dimension, and by nothing if the groups are the same. The target itself has no gradient.
    """

    def best(targets: Tensor) -> float:
        fitted = type(lab.law(FISHER, lab.pole(dim), 1.0)).fit(targets)
        return -float(fitted.log_prob(targets).mean())

    first, second = (_targets(lab, dim, 0.5) for _ in range(2))

    def gain(one: Tensor, other: Tensor) -> float:
        return best(torch.cat([one, other])) - (best(one) + best(other)) / 2

    return {
        "groups that differ": max(0.0, 0.01 * dim - gain(first, second)),
        "the same group twice": abs(gain(first, first.clone())) / dim,
    }
