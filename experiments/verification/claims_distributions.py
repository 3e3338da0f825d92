"""Claims on Eqs. (7) and (11): the two densities, their moments, and where they meet."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch.distributions import kl_divergence

from experiments.verification.checks import Z_SCORE, float64, symbolic, worst_of, z_score
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.tables import DIMS, FAMILIES
from experiments.verification.witnesses import HEIGHTS, cosine_law, log_area, log_log_slope, log_peak
from ssl_as_inference.derivations.normalizers import (
    MEAN_RESULTANT_LENGTH,
    POWER_SPHERICAL_NORMALIZES,
    VON_MISES_FISHER_NORMALIZES,
)
from ssl_as_inference.distributions import SphericalUniform
from ssl_as_inference.special import (
    power_spherical_log_normalizer,
    power_spherical_mean_log_height,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_mean_resultant_length,
)

LOG_NORMALIZERS = {
    "von Mises–Fisher": von_mises_fisher_log_normalizer,
    "Power Spherical": power_spherical_log_normalizer,
}
MEANS = {
    "von Mises–Fisher": von_mises_fisher_mean_resultant_length,
    "Power Spherical": power_spherical_mean_log_height,
}

_KAPPAS = (1e-3, 0.3, 10.0, 1e3, 1e5)


def _pole(dim: int, settings: Settings) -> torch.Tensor:
    return torch.eye(dim, dtype=torch.float64, device=settings.device)[0]


def _law(family: str, dim: int, kappa: float, settings: Settings) -> Any:
    return FAMILIES[family](_pole(dim, settings), float64(kappa, settings))


def _density_and_moments(settings: Settings) -> Outcome:
    """Height of the mode, mean resultant length and entropy against quadrature of the unnormalised density."""
    errors = {}
    for family, height in HEIGHTS.items():
        for dim in DIMS:
            for kappa in _KAPPAS:
                law = _law(family, dim, kappa, settings)
                log_height = height(kappa)
                gap, other, weight, log_integral = cosine_law(dim, log_height)
                name = f"{family}, d = {dim}, κ = {kappa:g}"
                peak = law.log_prob(_pole(dim, settings)).item()
                errors[f"{name}, integral"] = abs(peak + log_integral) / max(1.0, abs(log_integral))
                length = 1 - float(weight @ gap)
                errors[f"{name}, mean resultant length"] = abs(law.mean.norm().item() - length)
                entropy = log_integral - float(weight @ log_height(gap, other))
                errors[f"{name}, entropy"] = abs(law.entropy().item() - entropy) / max(1.0, abs(entropy))
                if family == "Power Spherical":
                    errors[f"{name}, κ/(κ+d−1)"] = abs(kappa / (kappa + dim - 1) - length)
    return worst_of(errors, "against quadrature")


def _slopes_in_the_concentration(settings: Settings) -> Outcome:
    """Log-normalisers, and their derivatives in κ and those of log densities: minus an expectation."""
    errors = {}
    for family, height in HEIGHTS.items():
        for dim in DIMS:
            for kappa in _KAPPAS:
                gap, other, weight, _ = cosine_law(dim, height(kappa))
                # what κ multiplies in the logarithm of the density: the cosine, or log(1 + cosine)
                at_mode = 1.0 if family == "von Mises–Fisher" else math.log(2)
                mean = at_mode + float(weight @ height(1.0)(gap, other))
                name = f"{family}, d = {dim}, κ = {kappa:g}"
                k = float64(kappa, settings).requires_grad_()
                log_c = LOG_NORMALIZERS[family](dim, k)
                expected = log_peak(family, dim, kappa) - kappa * at_mode
                errors[f"{name}, log C"] = abs(log_c.item() - expected) / max(1.0, abs(expected))
                slope = torch.autograd.grad(log_c, k)[0].item()
                errors[f"{name}, slope of log C"] = abs(slope + mean)
                errors[f"{name}, mean"] = abs(MEANS[family](dim, k.detach()).item() - mean)
                z = torch.eye(dim, dtype=torch.float64, device=settings.device)[1]  # at a right angle the height is 0
                slope = torch.autograd.grad(FAMILIES[family](_pole(dim, settings), k).log_prob(z), k)[0].item()
                errors[f"{name}, slope of log p"] = abs(slope + mean)
    return worst_of(errors, "against quadrature")


def _samples_have_the_mean(settings: Settings) -> Outcome:
    scores = {}
    for family, height in HEIGHTS.items():
        for dim, kappa in ((2, 0.3), (2, 1e3), (3, 10.0), (8, 10.0), (128, 1e3), (2048, 1e3)):
            law = _law(family, dim, kappa, settings)
            z = law.sample((4000 if dim > 100 else 40_000,))
            gap, _, weight, _ = cosine_law(dim, height(kappa))
            name = f"{family}, d = {dim}, κ = {kappa:g}"
            # 1 − t from the chord: next to the mode the cosine itself has lost its digits
            drawn = (z - _pole(dim, settings)).square().sum(-1) / 2
            scores[f"{name}, mean"] = z_score(drawn, float(weight @ gap))
            scores[f"{name}, square"] = z_score(drawn.square(), float(weight @ gap**2))
            scores[f"{name}, entropy"] = z_score(-law.log_prob(z), law.entropy().item())
            scores[f"{name}, across"] = z_score(z[..., 1], 0.0)
    return worst_of(scores, "z-scores of samples")


def _meet_at_large_concentration(settings: Settings) -> Outcome:
    kappas = np.array([1e2, 1e3, 1e4, 1e5])
    found = {}
    for dim in (2, 3, 8, 16):
        scaled = kappas * (dim - 1) / 2  # the same multiples of the dimension
        values = [
            kl_divergence(
                _law("Power Spherical", dim, k, settings), _law("von Mises–Fisher", dim, k / 2, settings)
            ).item()
            for k in scaled
        ]
        found[dim] = log_log_slope(scaled, np.array(values))
    values = [
        kl_divergence(_law("Power Spherical", 3, k, settings), _law("von Mises–Fisher", 3, k / 2, settings)).item()
        for k in (1e2, 1e3, 1e4)
    ]
    printed = ", ".join(f"{value:.2e}" for value in values)
    error = max(abs(slope + 2) for slope in found.values())
    slopes = ", ".join(f"{slope:.4f} (d = {dim})" for dim, slope in found.items())
    return Outcome(error, f"slopes {slopes}; KL at d = 3, κ = 1e2, 1e3, 1e4: {printed}")


def _divergences_by_quadrature(settings: Settings) -> Outcome:
    """The divergences of both limits as numbers: a slope would not notice a wrong factor."""
    errors = {}
    families = tuple(HEIGHTS)
    for dim, kappa, (p, q) in itertools.product((2, 3, 8, 128), (0.1, 1.0, 1e2, 1e3), (families, families[::-1])):
        for ratio in (0.5, 1.0, 2.0):
            gap, height, weight, total = cosine_law(dim, HEIGHTS[p](kappa))
            log_p = HEIGHTS[p](kappa)(gap, height) - total
            log_q = HEIGHTS[q](ratio * kappa)(gap, height) + log_peak(q, dim, ratio * kappa)
            expected = float(weight @ (log_p - log_q))
            shipped = kl_divergence(_law(p, dim, kappa, settings), _law(q, dim, ratio * kappa, settings)).item()
            name = f"d = {dim}, {p} κ = {kappa:g} to {q} {ratio * kappa:g}"
            errors[name] = abs(shipped - expected) / max(1.0, dim)
    return worst_of(errors, "relative to d")


def _meet_at_small_concentration(settings: Settings) -> Outcome:
    kappas = np.array([1e-2, 1e-3, 1e-4, 1e-5])
    slopes, uniform = {}, {}
    for dim in (2, 3, 8, 128):
        values = [
            kl_divergence(_law("Power Spherical", dim, k, settings), _law("von Mises–Fisher", dim, k, settings)).item()
            for k in kappas
        ]
        slopes[dim] = log_log_slope(kappas, np.array(values))
        prior = SphericalUniform(dim, dtype=torch.float64, device=settings.device)
        for family in FAMILIES:
            values = [kl_divergence(_law(family, dim, k, settings), prior).item() for k in kappas]
            uniform[family, dim] = log_log_slope(kappas, np.array(values))
    error = max(abs(slope - 2) for slope in (*slopes.values(), *uniform.values()))
    return Outcome(
        error,
        "slopes of KL(PS(κ) ‖ vMF(κ)) in κ: " + ", ".join(f"{slope:.3f} (d = {dim})" for dim, slope in slopes.items()),
    )


def _gradient_vanishes(settings: Settings) -> Outcome:
    errors = {}
    for family in FAMILIES:
        for kappa in (1e-2, 1e-4, 1e-6):
            mu = _pole(8, settings).clone().requires_grad_()
            z = torch.eye(8, dtype=torch.float64, device=settings.device)[1]
            FAMILIES[family](mu, float64(kappa, settings)).log_prob(z).backward()
            assert mu.grad is not None  # noqa: S101  # just computed
            # at right angles the tangent gradient is κ for either family
            errors[f"{family}, κ = {kappa:g}"] = abs(mu.grad[1].item() / kappa - 1)
    return worst_of(errors, "gradient over κ at a right angle")


def _ratio_at_a_matched_length(settings: Settings) -> Outcome:
    errors = {}
    for dim in (512, 2048, 8192):
        for length in (0.05, 0.3, 0.6, 0.9, 0.99):
            power = (dim - 1) * length / (1 - length)

            def excess(log_kappa: float, dim: int = dim, length: float = length) -> float:
                kappa = float64(math.exp(log_kappa), settings)
                return von_mises_fisher_mean_resultant_length(dim, kappa).item() - length

            fisher = math.exp(float(brentq(excess, -5, 20, xtol=1e-12)))
            errors[f"d = {dim}, r = {length}"] = abs(fisher / power / (dim / ((dim - 1) * (1 + length))) - 1)
    return worst_of(errors, "relative")


def _tangent_is_normal(settings: Settings) -> Outcome:
    """Second and fourth moment of √κ times the tangent coordinates, variance 1 for vMF and 2 for PS."""
    scores = {}
    for family, variance in (("von Mises–Fisher", 1.0), ("Power Spherical", 2.0)):
        for dim in (2, 3, 8, 128):
            kappa = 1e8
            z = _law(family, dim, kappa, settings).sample((20_000,))
            x = math.sqrt(kappa / variance) * z[..., 1]
            scores[f"{family}, d = {dim}, mean"] = z_score(x, 0.0)
            scores[f"{family}, d = {dim}, variance"] = z_score(x.square(), 1.0)
            scores[f"{family}, d = {dim}, fourth moment"] = z_score(x.pow(4), 3.0)
            if dim > 2:
                y = math.sqrt(kappa / variance) * z[..., 2]
                scores[f"{family}, d = {dim}, correlation"] = z_score(x * y, 0.0)
    return worst_of(scores, "κ = 1e8, z-scores")


def _uniform_area(settings: Settings) -> Outcome:
    errors = {}
    for dim in DIMS:
        prior = SphericalUniform(dim, dtype=torch.float64, device=settings.device)
        total = cosine_law(dim, lambda a, b: 0 * a + 0 * b)[3]
        errors[f"d = {dim}"] = max(abs(prior.entropy().item() - total), abs(log_area(dim) - total)) / max(1, abs(total))
    return worst_of(errors)


CLAIMS = (
    Claim(
        "C6",
        "Eqs. (7), (11)",
        r"Both densities integrate to one (odd d, integer κ); $A(\kappa) = -\mathrm{d}\log C/\mathrm{d}\kappa ="
        r" I_{\nu+1}(\kappa)/I_\nu(\kappa)$.",
        "symbolic",
        0,
        symbolic(*VON_MISES_FISHER_NORMALIZES, *POWER_SPHERICAL_NORMALIZES, MEAN_RESULTANT_LENGTH),
    ),
    Claim(
        "C6",
        "Eqs. (7), (11)",
        r"The shipped densities integrate to one, with mean resultant lengths $A(\kappa)$ and $\kappa/(\kappa+d-1)$ and"
        r" their entropies.",
        "numeric",
        1e-10,
        _density_and_moments,
    ),
    Claim(
        "C6",
        "Eqs. (7), (11)",
        r"$\log C$ of both families and its derivative, minus the mean of $\mu^\top z$ or $\log(1+\mu^\top z)$.",
        "numeric",
        1e-10,
        _slopes_in_the_concentration,
    ),
    Claim(
        "C6", "Eqs. (7), (11)", "The area of the sphere is that of the uniform law.", "numeric", 1e-12, _uniform_area
    ),
    Claim(
        "C6",
        "Eqs. (7), (11)",
        "Samples have the moments and the entropy of their density.",
        "Monte Carlo",
        Z_SCORE,
        _samples_have_the_mean,
    ),
    Claim(
        "C20",
        "Eqs. (7), (11)",
        r"As κ → ∞, $\mathrm{PS}(\kappa)\approx\mathrm{vMF}(\kappa/2)$: the divergence falls as $\kappa^{-2}$.",
        "numeric",
        0.05,
        _meet_at_large_concentration,
    ),
    Claim(
        "C20",
        "Eqs. (7), (11)",
        "The divergences between the two families, in either direction, by quadrature.",
        "numeric",
        1e-12,
        _divergences_by_quadrature,
    ),
    Claim(
        "C21",
        "Eqs. (7), (11)",
        r"As κ → 0 both families tend to the uniform law: KL to it, and $\mathrm{KL}(\mathrm{PS}(\kappa)\,\|\,"
        r"\mathrm{vMF}(\kappa))$, fall as $\kappa^2$.",
        "numeric",
        0.05,
        _meet_at_small_concentration,
    ),
    Claim("C21", "Eqs. (7), (11)", "As κ → 0 the gradient in μ vanishes as κ.", "numeric", 1e-10, _gradient_vanishes),
    Claim(
        "C21",
        "Eqs. (7), (11)",
        r"At a matched mean resultant length r, $\kappa_{vMF}/\kappa_{PS} \to d/\{(d-1)(1+r)\}$, d ≥ 512.",
        "numeric",
        0.01,
        _ratio_at_a_matched_length,
    ),
    Claim(
        "C22",
        "Eqs. (7), (11)",
        r"$\sqrt\kappa$ times the tangent vector tends to $N(0, I)$ for vMF and $N(0, 2I)$ for PS.",
        "Monte Carlo",
        Z_SCORE,
        _tangent_is_normal,
    ),
)
