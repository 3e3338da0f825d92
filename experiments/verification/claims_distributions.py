"""Claims on Eqs. (7) and (11): the two densities, their moments, and where they meet."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.optimize import brentq
from sympy import Symbol, log, sqrt
from torch.distributions import kl_divergence

from experiments.verification.claim import Derivations, Outcome, claim, largest, symbolic, z_score
from experiments.verification.lab import BOTH, DIMS, FAMILIES, FISHER, POWER, Lab, at, relative_error
from experiments.verification.witnesses import HEIGHTS, cosine_law, log_area, log_log_slope, log_peak
from ssl_as_inference import special
from ssl_as_inference.derivations import normalizers as derived
from ssl_as_inference.derivations.equations import POWER_SPHERICAL, VON_MISES_FISHER
from ssl_as_inference.derivations.notation import Inner, LogNormalizer, MeanResultantLength, d, kappa, named_function, z

_MU, _KL = Symbol("mu"), named_function("KL", template=r"\mathrm{{KL}}\left({0}\,\|\,{1}\right)")
POWER_SPHERICAL_LENGTH = kappa / (kappa + d - 1)

LOG_NORMALIZERS = {FISHER: special.von_mises_fisher_log_normalizer, POWER: special.power_spherical_log_normalizer}
MEANS = {FISHER: special.von_mises_fisher_mean_resultant_length, POWER: special.power_spherical_mean_log_height}
_PLACE = "Eqs. (7), (11)"
_ALL: dict[str, Any] = {"family": BOTH, "dim": DIMS, "kappa": (1e-3, 0.3, 10.0, 1e3, 1e5)}


@symbolic("C6", _PLACE)
def normalizers_derived() -> Derivations:
    """Both densities integrate to one; the von Mises–Fisher's mean resultant length is minus the slope of log C."""
    return derived.VON_MISES_FISHER_NORMALIZES, derived.POWER_SPHERICAL_NORMALIZES, derived.MEAN_RESULTANT_LENGTH


@claim("C6", _PLACE, 1e-10, shows=(MeanResultantLength(kappa), POWER_SPHERICAL_LENGTH), **_ALL)
def density_and_moments(lab: Lab, family: str, dim: int, kappa: float) -> dict[str, float]:
    """The shipped densities integrate to one.

    Their mean resultant lengths are {0} and {1}, and they have their entropies.

    Error: against quadrature.
    """
    law, height = lab.law(family, lab.pole(dim), kappa), HEIGHTS[family](kappa)
    gap, other, weight, log_integral = cosine_law(dim, height)
    length = 1 - float(weight @ gap)
    errors = {
        "integral": relative_error(law.log_prob(lab.pole(dim)), -log_integral),
        "mean resultant length": abs(law.mean.norm().item() - length),
        "entropy": relative_error(law.entropy(), log_integral - float(weight @ height(gap, other))),
    }
    if family == POWER:
        errors["κ/(κ+d−1)"] = abs(at(POWER_SPHERICAL_LENGTH, kappa=kappa, d=dim) - length)
    return errors


@claim("C6", _PLACE, 1e-10, shows=(LogNormalizer(kappa), Inner(_MU, z), log(1 + Inner(_MU, z))), **_ALL)
def slopes_in_the_concentration(lab: Lab, family: str, dim: int, kappa: float) -> dict[str, float]:
    """{0} of both families and its derivative, minus the mean of {1} or {2}.

    Error: against quadrature.
    """
    gap, other, weight, _ = cosine_law(dim, HEIGHTS[family](kappa))
    # what κ multiplies in the logarithm of the density: the cosine, or log(1 + cosine)
    at_mode = 1.0 if family == FISHER else math.log(2)
    mean = at_mode + float(weight @ HEIGHTS[family](1.0)(gap, other))
    k = lab.tensor(kappa).requires_grad_()
    log_c = LOG_NORMALIZERS[family](dim, k)
    log_p = lab.law(family, lab.pole(dim), k).log_prob(lab.pole(dim, 1))  # at a right angle the height is 0
    return {
        "log C": relative_error(log_c.item(), log_peak(family, dim, kappa) - kappa * at_mode),
        "slope of log C": abs(torch.autograd.grad(log_c, k)[0].item() + mean),
        "mean": abs(MEANS[family](dim, k.detach()).item() - mean),
        "slope of log p": abs(torch.autograd.grad(log_p, k)[0].item() + mean),
    }


@claim("C6", _PLACE, 1e-12, dim=DIMS)
def area_of_the_sphere(lab: Lab, dim: int) -> float:
    """The area of the sphere is that of the uniform distribution."""
    total = cosine_law(dim, lambda a, b: 0 * a + 0 * b)[3]
    return largest(relative_error(area, total) for area in (lab.uniform(dim).entropy(), log_area(dim)))


_SAMPLED = ((2, 0.3), (2, 1e3), (3, 10.0), (8, 10.0), (128, 1e3), (2048, 1e3))


@claim("C6", _PLACE, family=BOTH, dim__kappa=_SAMPLED)
def samples_have_the_moments(lab: Lab, family: str, dim: int, kappa: float) -> dict[str, float]:
    """Samples have the moments and the entropy of their density.

    Error: z-scores of samples.
    """
    law = lab.law(family, lab.pole(dim), kappa)
    z = law.sample((4000 if dim > 100 else 40_000,))
    gap, _, weight, _ = cosine_law(dim, HEIGHTS[family](kappa))
    # 1 − t from the chord: next to the mode the cosine itself has lost its digits
    drawn = (z - lab.pole(dim)).square().sum(-1) / 2
    return {
        "mean": z_score(drawn, float(weight @ gap)),
        "square": z_score(drawn.square(), float(weight @ gap**2)),
        "entropy": z_score(-law.log_prob(z), law.entropy().item()),
        "across": z_score(z[..., 1], 0.0),
    }


def _slope_of_divergence(lab: Lab, dim: int, kappas: list[float], half: float) -> tuple[float, str]:
    """Log-log slope of KL(PS(κ) ‖ vMF(κ half)) in κ, as shipped, and the divergences."""
    laws = [(lab.law(POWER, lab.pole(dim), k), lab.law(FISHER, lab.pole(dim), half * k)) for k in kappas]
    values = [float(kl_divergence(*pair)) for pair in laws]
    shown = ", ".join(f"{value:.2e} at κ = {kappa:g}" for kappa, value in zip(kappas, values, strict=True))
    slope = log_log_slope(kappas, values)
    return slope, f"d = {dim}: slope {slope:.4f}, KL {shown}"


_MEETING = POWER_SPHERICAL(z, _MU, kappa), VON_MISES_FISHER(z, _MU, kappa / 2), kappa**-2


@claim("C20", _PLACE, 0.05, shows=_MEETING, dim=(2, 3, 8, 16))
def meet_at_large_concentration(lab: Lab, dim: int) -> Outcome:
    """As κ → ∞, {0} and {1} meet: the divergence falls as {2}."""
    scaled = [multiple * (dim - 1) / 2 for multiple in (1e2, 1e3, 1e4, 1e5)]  # the same multiples of the dimension
    slope, measured = _slope_of_divergence(lab, dim, scaled, 0.5)
    return Outcome(abs(slope + 2), measured)


_GRID: dict[str, Any] = {"dim": (2, 3, 8, 128), "kappa": (0.1, 1.0, 1e2, 1e3), "ratio": (0.5, 1.0, 2.0)}


@claim("C20", _PLACE, 1e-12, p__q=(BOTH, BOTH[::-1]), **_GRID)
def divergences_by_quadrature(lab: Lab, p: str, q: str, dim: int, kappa: float, ratio: float) -> float:
    """The divergences between the two families, in either direction, by quadrature.

    Error: relative to d.
    """
    # as numbers: a slope would not notice a wrong factor
    gap, height, weight, total = cosine_law(dim, HEIGHTS[p](kappa))
    log_p = HEIGHTS[p](kappa)(gap, height) - total
    log_q = HEIGHTS[q](ratio * kappa)(gap, height) + log_peak(q, dim, ratio * kappa)
    laws = lab.law(p, lab.pole(dim), kappa), lab.law(q, lab.pole(dim), ratio * kappa)
    return abs(kl_divergence(*laws).item() - float(weight @ (log_p - log_q))) / max(1.0, dim)


_SMALL = [1e-2, 1e-3, 1e-4, 1e-5]
_SMALL_DIVERGENCE = _KL(POWER_SPHERICAL(z, _MU, kappa), VON_MISES_FISHER(z, _MU, kappa))


@claim("C21", _PLACE, 0.05, shows=(_SMALL_DIVERGENCE, kappa**2), dim=(2, 3, 8, 128))
def meet_at_small_concentration(lab: Lab, dim: int) -> Outcome:
    """As κ → 0 both families tend to the uniform distribution.

    The divergence from it, and {0}, fall as {1}.
    """
    slope, measured = _slope_of_divergence(lab, dim, _SMALL, 1.0)
    slopes = [slope]
    for family in FAMILIES:
        values = kl_divergence(lab.law(family, lab.pole(dim).expand(4, -1), _SMALL), lab.uniform(dim))
        slopes.append(log_log_slope(_SMALL, values.tolist()))
    return Outcome(largest(abs(each - 2) for each in slopes), measured)


@claim("C21", _PLACE, 1e-10, family=BOTH, kappa=(1e-2, 1e-4, 1e-6))
def gradient_vanishes(lab: Lab, family: str, kappa: float) -> float:
    """As κ → 0 the gradient in μ vanishes as κ.

    Error: gradient over κ at a right angle.
    """
    mu = lab.pole(8).clone().requires_grad_()
    gradient = torch.autograd.grad(lab.law(family, mu, kappa).log_prob(lab.pole(8, 1)), mu)[0]
    return abs(gradient[1].item() / kappa - 1)  # at right angles the tangent gradient is κ for either family


_RATIO = Symbol(r"\kappa_{vMF}") / Symbol(r"\kappa_{PS}"), d / ((d - 1) * (1 + Symbol("r")))


@claim("C21", _PLACE, 0.01, shows=_RATIO, dim=(512, 2048, 8192), length=(0.05, 0.3, 0.6, 0.9, 0.99))
def ratio_at_a_matched_length(lab: Lab, dim: int, length: float) -> float:
    """At a matched mean resultant length r, {0} tends to {1}, d ≥ 512.

    Error: relative.
    """

    def excess(log_kappa: float) -> float:
        return MEANS[FISHER](dim, lab.tensor(math.exp(log_kappa))).item() - length

    fisher, power = math.exp(float(brentq(excess, -5, 20, xtol=1e-12))), (dim - 1) * length / (1 - length)
    return float(abs(fisher / power / at(_RATIO[1], d=dim, r=length) - 1))


@claim("C22", _PLACE, shows=(sqrt(kappa),), family=BOTH, dim=(2, 3, 8, 128))
def tangent_is_normal(lab: Lab, family: str, dim: int) -> dict[str, float]:
    """{0} times the tangent vector tends to a standard normal one for vMF, of twice the variance for PS.

    Error: κ = 1e8, z-scores.
    """
    kappa, variance = 1e8, 1.0 if family == FISHER else 2.0
    x = math.sqrt(kappa / variance) * lab.law(family, lab.pole(dim), kappa).sample((20_000,))[..., 1:3]
    first = x[..., 0]
    scores = {
        "mean": z_score(first, 0.0),
        "variance": z_score(first.square(), 1.0),
        "fourth moment": z_score(first.pow(4), 3.0),
    }
    return scores if dim == 2 else scores | {"correlation": z_score(first * x[..., 1], 0.0)}
