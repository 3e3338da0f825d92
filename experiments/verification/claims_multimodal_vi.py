"""Claims on Eqs. (2)–(5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.distributions import kl_divergence

from experiments.verification.checks import Z_SCORE, float64, symbolic, worst_of, z_score
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.tables import FAMILIES, directions
from experiments.verification.witnesses import cosine_law, log_area, log_peak, von_mises_fisher_height
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.derivations.multimodal_vi import (
    BAYES,
    COLLAPSE_IS_OPTIMAL,
    KL_IS_CROSS_ENTROPY_MINUS_ENTROPY,
    KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE,
)
from ssl_as_inference.derivations.product_of_experts import LOG_EVIDENCE_OF_THE_CONJUGATE_MODEL
from ssl_as_inference.distributions import (
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)


def _evidence(settings: Settings) -> Outcome:
    """Log p(X) of M directions about a uniform z, and KL = negative ELBO + log p(X)."""
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in (2, 3, 8, 128, 2048):
        for views in (1, 2, 3, 8):
            kappa = 10 ** rng.uniform(-2, 4)
            x = directions(rng, views, dim, 10 ** rng.uniform(-1, 0.5))
            eta = kappa * x.sum(0)
            resultant = float(np.linalg.norm(eta))
            peak = log_peak("von Mises–Fisher", dim, kappa) - kappa
            # the integral over z of C(0) Π C(κ) exp(κ xᵀz) by quadrature over the cosine with η
            integral = cosine_law(dim, von_mises_fisher_height(resultant))[3] + resultant
            evidence = views * peak - log_area(dim) + integral
            experts = VonMisesFisher(float64(x, settings), float64(kappa, settings))
            shipped = ProductOfExperts(experts).log_normalizer().item() - log_area(dim)
            q = VonMisesFisher(float64(directions(rng, 1, dim, 1.0)[0], settings), float64(kappa / 2, settings))
            prior = SphericalUniform(dim, dtype=torch.float64, device=settings.device)
            divergence = kl_divergence(q, ProductOfExperts(experts).normalized()).item()
            negative_elbo = (cross_entropy(q, ProductOfExperts(experts)) + kl_divergence(q, prior)).item()
            scale = views * (kappa + dim)
            name = f"d = {dim}, M = {views}"
            errors[f"{name}, log p(X)"] = abs(shipped - evidence) / scale
            errors[f"{name}, KL"] = abs(divergence - negative_elbo - evidence) / scale
    return worst_of(errors, "relative to M(κ + d)")


def _evidence_by_sampling(settings: Settings) -> Outcome:
    """The mean of p(X|z) over uniform z is p(X)."""
    scores = {}
    for dim, views, kappa in ((2, 2, 2.0), (3, 3, 3.0), (8, 2, 5.0), (128, 3, 20.0)):
        rng = np.random.default_rng(settings.seed)
        experts = VonMisesFisher(float64(directions(rng, views, dim, 1.0), settings), float64(kappa, settings))
        product = ProductOfExperts(experts)
        z = SphericalUniform(dim, dtype=torch.float64, device=settings.device).sample((100_000,))
        # p(X|z) over p(X) has the mean 1; log p(X) = log Z + log C(0)
        weights = (product.log_prob(z) - product.log_normalizer() + log_area(dim)).exp()
        scores[f"d = {dim}, M = {views}"] = z_score(weights, 1.0)
    return worst_of(scores, "z-score of the mean of p(X|z)/p(X)")


def sphere_grid(points: int, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of a product rule on the sphere in space: Gauss–Legendre in height, equal angles around."""
    height, weight = np.polynomial.legendre.leggauss(points)
    angle = 2 * math.pi * np.arange(2 * points) / (2 * points)
    ring = np.sqrt(1 - height**2)[:, None]
    z = np.stack([ring * np.cos(angle), ring * np.sin(angle), height[:, None] + 0 * angle], -1).reshape(-1, 3)
    w = np.repeat(weight, 2 * points) * math.pi / points
    return float64(z, settings), float64(w, settings)


def _loss_by_quadrature(settings: Settings) -> Outcome:
    """Eq. (5) in space with a guide of finite concentration: every term by quadrature and as shipped."""
    rng = np.random.default_rng(settings.seed)
    z, weight = sphere_grid(160, settings)
    errors = {}
    for guide in FAMILIES:
        for views in (1, 2, 3):
            for tau in (1.0, 10.0, 60.0):
                family: Any = FAMILIES[guide]
                q = SphericalMixture(family(float64(directions(rng, views, 3, 1.0), settings), float64(tau, settings)))
                kappa = float64(rng.uniform(0.5, 20, views), settings)
                product = ProductOfExperts(VonMisesFisher(float64(directions(rng, views, 3, 1.0), settings), kappa))
                log_q, log_p = q.log_prob(z), product.normalized().log_prob(z)
                density = log_q.exp() * weight
                divergence = (density * (log_q - log_p)).sum().item()
                shipped = (cross_entropy(q, product) + product.log_normalizer()).item() + (density * log_q).sum().item()
                errors[f"{guide} guide, M = {views}, τ = {tau:g}"] = abs(divergence - shipped) / max(1, divergence)
    return worst_of(errors)


CLAIMS = (
    Claim(
        "C2",
        "Eqs. (2)–(4)",
        r"$\mathcal{L}_{KL} = \mathcal{L}_{ELBO} + \log p_\theta(\mathbb{X})$, where $\mathcal{L}_{ELBO}$ of Eq. (4) is"
        r" the negative ELBO; for M directions about a uniform z,"
        r" $\log p(\mathbb{X}) = M\log C(\kappa) + \log C(0) - \log C(R)$.",
        "symbolic",
        0,
        symbolic(BAYES, KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE, LOG_EVIDENCE_OF_THE_CONJUGATE_MODEL),
        correction="Eq. (3) into Eq. (2) is not Eq. (4): the log evidence is missing, which depends on θ.",
    ),
    Claim(
        "C2",
        "Eqs. (2)–(4)",
        r"The same on the conjugate von Mises–Fisher model, log p(X) by quadrature.",
        "numeric",
        1e-10,
        _evidence,
    ),
    Claim(
        "C2",
        "Eqs. (2)–(4)",
        r"$\mathbb{E}_{z\sim\mathrm{uniform}}\,p(\mathbb{X}\mid z) = p(\mathbb{X})$ as shipped.",
        "Monte Carlo",
        Z_SCORE,
        _evidence_by_sampling,
    ),
    Claim(
        "C3",
        "Eq. (5)",
        r"$\mathcal{L}_{KL} = -\mathbb{E}_q\log p_\psi + \mathbb{E}_q\log q$, 0 for $q = p_\psi$ whether or not"
        r" they depend on $\mathbb{X}$.",
        "symbolic",
        0,
        symbolic(KL_IS_CROSS_ENTROPY_MINUS_ENTROPY, COLLAPSE_IS_OPTIMAL),
        correction="Collapse is a global optimum of Eq. (5), which the paper does not say.",
    ),
    Claim(
        "C3",
        "Eq. (5)",
        r"Eq. (5) for guides of finite concentration in space, shipped cross-entropies against quadrature.",
        "numeric",
        1e-10,
        _loss_by_quadrature,
    ),
)
