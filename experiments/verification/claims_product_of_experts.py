"""Claims on Eqs. (6) and (10): the product of experts and its normaliser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sympy import Eq, Symbol, exp, log

from experiments.verification import witnesses
from experiments.verification.claim import Derivations, claim, symbolic, z_score
from experiments.verification.lab import BOTH, DIMS, FISHER, POWER, Lab, Table, Tables
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations import notation
from ssl_as_inference.derivations import product_of_experts as derived
from ssl_as_inference.derivations.multimodal_vi import evidence, expectation, posterior
from ssl_as_inference.derivations.notation import LogNormalizer, MeanResultantLength, SphereIntegral, i, mu, z


@symbolic("C4", "Eq. (6)")
def log_z_derived() -> Derivations:
    """The normaliser of a product of von Mises–Fisher experts has a closed form in the length of η = Σ κ_i μ_i.

    Correction: Eqs. (6) and (10) print "=" where "∝" is meant: the product lacks 1/Z(X).
    """
    return (derived.VON_MISES_FISHER_LOG_Z,)


@claim("C4", "Eq. (6)", 1e-12, dim=DIMS, views=range(1, 9))
def log_z(lab: Lab, dim: int, views: int) -> dict[str, float]:
    """The shipped log Z and the product, which is vMF(η/R, R), for M = 1 … 8, also as R → 0.

    Error: relative to Σκ + M d, against quadrature.
    """
    kappa = 10 ** lab.rng.uniform(-3, 4, size=views)
    x = lab.directions(views, dim, 10 ** lab.rng.uniform(-1, 0.7))
    if views == 2:  # experts that nearly or wholly cancel
        x[1], kappa[1] = -x[0], kappa[0] * (1 + lab.rng.choice([0.0, 1e-8, 1e-3]))
    product = lab.product(FISHER, x, kappa)
    scale = float(kappa.sum()) + views * dim
    z = lab.tensor(lab.directions(3, dim))
    density = product.normalized().log_prob(z) - (product.log_prob(z) - product.log_normalizer())
    return {
        "log Z": abs(product.log_normalizer().item() - witnesses.log_integral_of_product(x, kappa)) / scale,
        "density": density.abs().max().item() / scale,
    }


@claim("C4", "Eqs. (6), (10)", 1e-12, family=BOTH)
def product_on_a_grid(lab: Lab, family: str) -> float:
    """The shipped Z of two experts is their product's integral.

    Error: the product integrates to Z.
    """
    z, weight = lab.grid(60)
    product = lab.product(family, lab.directions(2, 3), [4.0, 9.0])
    return abs(((product.log_prob(z).exp() * weight).sum().log() - product.log_normalizer()).item())


@symbolic("C5", "Eqs. (6), (10)")
def product_derived() -> Derivations:
    """Conditionally independent views and a uniform prior give a product of experts, divided by Z."""
    return (derived.PRODUCT_OF_EXPERTS,)


_CASES = ((2, 2, 3.0), (3, 3, 2.0), (8, 2, 6.0))
_AVERAGE = Eq(SphereIntegral(posterior(z) * evidence, notation.X), exp(LogNormalizer(0)))


@claim("C5", "Eqs. (6), (10)", shows=(_AVERAGE,), dim__views__kappa=_CASES)
def posterior_is_uniform_on_average(lab: Lab, dim: int, views: int, kappa: float) -> dict[str, float]:
    """The posteriors of the conjugate model average to its uniform prior: {0}.

    Each has the mean of the z that the views were drawn from.

    Error: z-scores of the mean of p(z|X)/C(0), and of the cosine of z with the posterior's mean direction.
    """
    z = lab.uniform(dim).sample((200_000,))
    x = lab.law(FISHER, z.unsqueeze(1).expand(-1, views, -1), kappa).sample()
    posterior = lab.product(FISHER, x, kappa).normalized()
    ratios = [(posterior.log_prob(lab.pole(dim, axis)) + witnesses.log_area(dim)).exp() for axis in range(2)]
    scores = {f"axis {axis}": z_score(ratio, 1.0) for axis, ratio in enumerate(ratios)}
    # By symmetry alone any posteriors that turn with the views average to the uniform one.
    cosine = (posterior.mean_direction * z).sum(-1)
    return scores | {"cosine": z_score(cosine - posterior.mean_resultant_length, 0.0)}


@symbolic("C16", "Eq. (6)")
def moment_matching_derived() -> Derivations:
    """The gradient of the normalised loss matches moments, in every direction v.

    For two views at angles ±θ from the target the normaliser multiplies the pull by 1 − A(R).

    Correction: 1 − A(R) is what remains of the pull, not the share that is lost.
    """
    return derived.MOMENT_MATCHING, derived.ATTENUATION


_R, _GRADIENT = Symbol("R"), notation.named_function("gradient", template=r"\nabla_{{{0}}} {1}")
_MOMENTS = Eq(
    _GRADIENT(mu[i], Symbol(r"\mathcal{L}_{exact}")),
    notation.concentrations[i] * (MeanResultantLength(_R) * Symbol("eta") / _R - Symbol(r"\bar{f}")),
)


@claim("C16", "Eq. (6)", 1e-8, shows=(_MOMENTS,), table=Tables((FISHER,), views=(2, 3)))
def moment_matching(table: Table) -> dict[str, float]:
    """Along the sphere the shipped normalised loss has the gradient {0}, R the length of η, the sum of κ_i μ_i.

    Error: relative to κ.
    """
    table = table.with_kappa(np.minimum(table.kappa, 1e3))
    kappa, mu = table.kappa[0], table.mu[0]
    gradient = table.gradient(KLObjective("all", normalized=True))[0]
    eta = table.kappa @ table.mu
    resultant = float(np.linalg.norm(eta))
    expected = kappa * ((1 - witnesses.mean_gap(FISHER, table.dim, resultant)) * eta / resultant - table.f.mean(0))
    directions = np.stack([table.lab.rng.standard_normal(table.dim), expected])
    tangents = directions - (directions @ mu)[:, None] * mu
    errors = np.abs(tangents @ (gradient - expected)) / np.linalg.norm(tangents, axis=1) / max(1.0, kappa)
    return dict(zip(("random tangent", "steepest tangent"), errors, strict=True))


_ANGLES: dict[str, Any] = {"dim": (2, 3, 8, 128), "kappa": (0.5, 10.0, 300.0), "theta": (0.1, 0.7, 1.3)}


@claim("C16", "Eq. (6)", 1e-8, shows=(1 - MeanResultantLength(_R),), **_ANGLES)
def attenuation(lab: Lab, dim: int, kappa: float, theta: float) -> float:
    """The pull of two views at ±θ is multiplied by {0}.

    Error: pull of the normalised product over that of the bare one, against 1 − A(R) by quadrature.
    """
    angle = lab.tensor(theta).requires_grad_()
    mu = torch.stack([angle.cos() * lab.pole(dim) + sign * angle.sin() * lab.pole(dim, 1) for sign in (1, -1)])
    product = lab.product(FISHER, mu, kappa)
    bare = -product.log_prob(lab.pole(dim))
    plain = torch.autograd.grad(bare, angle, retain_graph=True)[0].item()
    exact = torch.autograd.grad(product.log_normalizer() + bare, angle)[0].item()
    return abs(exact - plain * witnesses.mean_gap(FISHER, dim, 2 * kappa * math.cos(theta))) / abs(plain)


@symbolic("C17", "Eqs. (4), (6)")
def symmetry_derived() -> Derivations:
    """The unnormalised loss with the entropy of the guide is the negative ELBO of the embeddings.

    Each is drawn about z from its expert's family: the densities are symmetric in argument and mean direction.
    """
    return derived.SYMMETRY


_EMBEDDINGS = notation.named_function("embeddings", template=r"p({0}_{{1:M}}\mid {1})")(Symbol("mu"), z)
_PAPER = Eq(Symbol(r"\mathcal{L}_{paper}"), -expectation(log(_EMBEDDINGS)))


@claim("C17", "Eqs. (4), (6)", 1e-12, shows=(_PAPER,), table=Tables())
def negative_elbo(table: Table) -> float:
    """The shipped unnormalised loss is {0}, each embedding drawn about z from its expert's family.

    Error: relative to Σκ + M d.
    """
    # the likelihood of the embedding μ_i at z = f_j: a distribution about f_j, evaluated at μ_i
    likelihood = table.lab.law(table.family, table.f[:, None], table.kappa)
    reconstruction = likelihood.log_prob(table.lab.tensor(table.mu)).sum(-1).mean().item()
    return float(abs(table.loss(KLObjective("all")) + reconstruction)) / table.scale


@symbolic("C25", "Eq. (10)", shown=1)
def pair_normalizer_derived() -> Derivations:
    """The normaliser of two Power Spherical experts is a series in harmonics, finite at integer κ.

    Correction: One integer concentration of the two is enough for the series to terminate.
    """
    return derived.PAIR_NORMALIZER


def _log_z_of_a_pair(lab: Lab, dim: int, cosine: float, first: float, second: float) -> float:
    directions = witnesses.two_directions(dim, cosine)
    return float(lab.product(POWER, directions, [first, second]).log_normalizer())


_INTEGERS = ((1, 1), (2, 5), (3, 12), (1, 40), (0, 7))


@claim("C25", "Eq. (10)", 1e-12, dim=(2, 3, 5, 8), cosine=(0.9, 0.3, -0.4), first__second=_INTEGERS)
def pair_normalizer_at_integers(lab: Lab, dim: int, cosine: float, first: int, second: int) -> float:
    """The shipped normaliser of two Power Spherical experts of integer κ against the finite series."""
    expected = witnesses.log_pair_series(dim, first, second, cosine) - witnesses.log_area(dim)
    return abs(_log_z_of_a_pair(lab, dim, cosine, first, second) - expected)


@claim("C25", "Eq. (10)", 1e-12, dim=(4, 8, 64, 512), draw=range(3))
def pair_normalizer(lab: Lab, dim: int, draw: int) -> float:  # noqa: ARG001  # three of a kind
    """The shipped normaliser of two Power Spherical experts against quadrature over both angles."""
    kappas = 10 ** lab.rng.uniform(0.7, 3, size=2)  # smooth enough at −μ for the quadrature
    cosine = lab.rng.uniform(-0.3, 0.99)
    first, second = (witnesses.power_spherical_height(kappa) for kappa in kappas)
    # E under the first expert of the second's density
    mean = witnesses.mean_over(dim, first, cosine, lambda *gaps: np.exp(second(*gaps)), 1200, 400.0)
    expected = witnesses.log_peak(POWER, dim, kappas[1]) + math.log(mean)
    return abs(_log_z_of_a_pair(lab, dim, cosine, *kappas) - expected) / max(1.0, abs(expected))
