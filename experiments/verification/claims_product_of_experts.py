"""Claims on Eqs. (6) and (10): the product of experts and its normaliser."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.special import eval_gegenbauer

from experiments.verification.checks import Z_SCORE, float64, symbolic, worst_of, z_score
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.claims_multimodal_vi import sphere_grid
from experiments.verification.tables import DIMS, FAMILIES, directions, draw_tables, loss_scale
from experiments.verification.witnesses import (
    HEIGHTS,
    LogHeight,
    cosine_law,
    log_area,
    log_peak,
    mean_over,
    von_mises_fisher_height,
)
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations import product_of_experts as derived
from ssl_as_inference.distributions import PowerSpherical, ProductOfExperts, VonMisesFisher
from ssl_as_inference.sphere import normalize

POWER = "Power Spherical"


def _log_z(settings: Settings) -> Outcome:
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in DIMS:
        for views in range(1, 9):
            kappa = 10 ** rng.uniform(-3, 4, size=views)
            x = directions(rng, views, dim, 10 ** rng.uniform(-1, 0.7))
            if views == 2:  # experts that nearly or wholly cancel
                x[1], kappa[1] = -x[0], kappa[0] * (1 + rng.choice([0.0, 1e-8, 1e-3]))
            resultant = float(np.linalg.norm((kappa[:, None] * x).sum(0)))
            singles = sum(log_peak("von Mises–Fisher", dim, k) - k for k in kappa)
            expected = singles + cosine_law(dim, von_mises_fisher_height(resultant))[3] + resultant
            product = ProductOfExperts(VonMisesFisher(float64(x, settings), float64(kappa, settings)))
            scale = float(kappa.sum()) + views * dim
            errors[f"d = {dim}, M = {views}"] = abs(product.log_normalizer().item() - expected) / scale
            z = float64(directions(rng, 3, dim, 1.0), settings)
            normalized = product.normalized().log_prob(z) - (product.log_prob(z) - product.log_normalizer())
            errors[f"d = {dim}, M = {views}, density"] = normalized.abs().max().item() / scale
    return worst_of(errors, "relative to Σκ + M d, against quadrature")


def _posterior_is_uniform_on_average(settings: Settings) -> Outcome:
    scores = {}
    for dim, views, kappa in ((2, 2, 3.0), (3, 3, 2.0), (8, 2, 6.0)):
        z = normalize(torch.randn(200_000, dim, dtype=torch.float64, device=settings.device))
        spread = z.unsqueeze(1).expand(-1, views, -1)
        x = VonMisesFisher(spread, float64(kappa, settings)).sample()
        posterior = ProductOfExperts(VonMisesFisher(x, float64(kappa, settings))).normalized()
        for axis in range(2):
            point = torch.eye(dim, dtype=torch.float64, device=settings.device)[axis]
            scores[f"d = {dim}, M = {views}, axis {axis}"] = z_score(
                (posterior.log_prob(point) + log_area(dim)).exp(), 1.0
            )
    return worst_of(scores, "z-score of the mean of p(z|X)/C(0)")


def _moment_matching(settings: Settings) -> Outcome:
    """Gradient of the shipped normalised loss in the experts' directions against A(R)η/R − f̄ by quadrature."""
    errors = {}
    rng = np.random.default_rng(settings.seed)
    for table in draw_tables(settings, "von Mises–Fisher", dims=(2, 3, 8, 128, 2048), views=(2, 3), repeat=1):
        kappa = np.minimum(table.kappa, 1e3)
        limited = type(table)(table.family, table.mu, kappa, table.f, table.device)
        views = [view.requires_grad_() for view in limited.views()]
        loss = limited.loss(KLObjective("all", normalized=True), views)
        gradient = torch.autograd.grad(loss, views)[0][0, table.dim : -1].cpu().numpy()
        eta = (kappa[:, None] * table.mu).sum(0)
        resultant = float(np.linalg.norm(eta))
        gap, _, weight, _ = cosine_law(table.dim, von_mises_fisher_height(resultant))
        length = 1 - float(weight @ gap)
        expected = kappa[0] * (length * eta / resultant - table.f.mean(0))
        tangent = rng.standard_normal(table.dim)
        tangent -= tangent @ table.mu[0] * table.mu[0]
        tangent /= np.linalg.norm(tangent)
        for name, direction in (("random", tangent), ("steepest", expected - expected @ table.mu[0] * table.mu[0])):
            unit = direction / np.linalg.norm(direction)
            error = abs(unit @ (gradient - expected)) / max(1.0, kappa[0])
            errors[f"d = {table.dim}, M = {len(kappa)}, {name} tangent"] = float(error)
    return worst_of(errors, "relative to κ")


def _attenuation(settings: Settings) -> Outcome:
    errors = {}
    for dim, kappa, theta in itertools.product((2, 3, 8, 128), (0.5, 10.0, 300.0), (0.1, 0.7, 1.3)):
        angle = float64(theta, settings).requires_grad_()
        zero = torch.zeros(dim - 2, dtype=torch.float64, device=settings.device)
        mu = torch.stack([torch.cat([torch.stack([angle.cos(), s * angle.sin()]), zero]) for s in (1, -1)])
        product = ProductOfExperts(VonMisesFisher(mu, float64(kappa, settings), validate_args=False))
        target = torch.eye(dim, dtype=torch.float64, device=settings.device)[0]
        plain = torch.autograd.grad(-product.log_prob(target), angle, retain_graph=True)[0].item()
        exact = torch.autograd.grad(product.log_normalizer() - product.log_prob(target), angle)[0].item()
        gap, _, weight, _ = cosine_law(dim, von_mises_fisher_height(2 * kappa * math.cos(theta)))
        errors[f"d = {dim}, κ = {kappa}, θ = {theta}"] = abs(exact - plain * float(weight @ gap)) / abs(plain)
    return worst_of(errors, "pull of the normalised product over that of the bare one, against 1 − A(R) by quadrature")


def _negative_elbo(settings: Settings) -> Outcome:
    """L_paper − log C(0) is the reconstruction and prior part of the ELBO of the embeddings; densities symmetric."""
    errors = {}
    for family in FAMILIES:
        for table in draw_tables(settings, family, repeat=1):
            f, mu = table.atoms(), table.experts().mean_direction
            # the likelihood of the embedding μ_i at z = f_j: a law about f_j, evaluated at μ_i
            likelihood = FAMILIES[family](f.unsqueeze(-2), table.experts().concentration)
            reconstruction = likelihood.log_prob(mu).sum(-1).mean().item()
            loss = table.loss(KLObjective("all")).item()
            errors[f"{family}, d = {table.dim}, M = {len(f)}"] = abs(loss + reconstruction) / loss_scale(table)
    return worst_of(errors, "relative to Σκ + M d")


def _pair_series(dim: int, first: float, second: float, cosine: float) -> float:
    r"""$\log\{Z/C(0)\}$ from $\sum_l N(d,l)\lambda_l(\kappa_1)\lambda_l(\kappa_2)P_l(c)$."""
    total, product, nu = 0.0, 1.0, dim / 2 - 1
    for degree in range(2000):
        if nu == 0:
            harmonic = (1.0 if degree == 0 else 2.0) * math.cos(degree * math.acos(cosine))
        else:  # N P_l = (2l+d−2)/(d−2) times the Gegenbauer polynomial
            harmonic = (2 * degree + dim - 2) / (dim - 2) * float(eval_gegenbauer(degree, nu, cosine))
        total += product * harmonic
        step = (first - degree) * (second - degree)
        product *= step / ((first + dim - 1 + degree) * (second + dim - 1 + degree))
        if product == 0 or (degree > max(first, second) and abs(product) * (degree + dim) ** dim < 1e-18):
            break
    return math.log(total)


def _density_over_peak(kappa: float) -> LogHeight:
    return lambda gap, height: np.exp(HEIGHTS[POWER](kappa)(gap, height))


def _pair_normalizer(settings: Settings) -> Outcome:
    errors = {}
    for dim, cosine in itertools.product((2, 3, 5, 8), (0.9, 0.3, -0.4)):
        for first, second in ((1, 1), (2, 5), (3, 12), (1, 40), (0, 7)):  # integer κ: the series is finite
            mu = np.zeros((2, dim))
            mu[0, 0], mu[1, :2] = 1, (cosine, math.sqrt(1 - cosine**2))
            experts = PowerSpherical(float64(mu, settings), float64([first, second], settings))
            shipped = ProductOfExperts(experts).log_normalizer().item() + log_area(dim)
            errors[f"d = {dim}, c = {cosine}, κ = {first}, {second}, series"] = abs(
                shipped - _pair_series(dim, first, second, cosine)
            )
    rng = np.random.default_rng(settings.seed)
    for dim in (4, 8, 64, 512):
        for _ in range(3):
            first, second = 10 ** rng.uniform(0.7, 3, size=2)  # smooth enough at −μ for the quadrature
            cosine = rng.uniform(-0.3, 0.99)
            mu = np.zeros((2, dim))
            mu[0, 0], mu[1, :2] = 1, (cosine, math.sqrt(1 - cosine**2))
            experts = PowerSpherical(float64(mu, settings), float64([first, second], settings))
            shipped = ProductOfExperts(experts).log_normalizer().item()
            # E under the first expert of the second's density, by quadrature over both angles
            peak = log_peak("Power Spherical", dim, second)
            mean = mean_over(dim, HEIGHTS[POWER](first), cosine, _density_over_peak(second), 1200, 400.0)
            error = abs(shipped - peak - math.log(mean)) / max(1.0, abs(shipped))
            errors[f"d = {dim}, c = {cosine:.2f}, κ = {first:.3g}, {second:.3g}, quadrature"] = error
    return worst_of(errors, "against the finite series and quadrature")


def _product_on_a_grid(settings: Settings) -> Outcome:
    """M = 3 Power Spherical experts have no closed form; Z is not one either."""
    z, weight = sphere_grid(60, settings)
    rng = np.random.default_rng(settings.seed)
    mu = float64(directions(rng, 2, 3, 1.0), settings)
    errors = {}
    for family in FAMILIES:
        product = ProductOfExperts(FAMILIES[family](mu, float64([4.0, 9.0], settings)))
        integral = (product.log_prob(z).exp() * weight).sum().log().item()
        errors[family] = abs(integral - product.log_normalizer().item())
    return worst_of(errors, "the product integrates to Z")


_LOG_Z = r"$\log Z(\mathbb{X}) = \sum_i\log C(\kappa_i) - \log C(R)$; the product is proportional to vMF(η/R, R)"
CLAIMS = (
    Claim(
        "C4",
        "Eq. (6)",
        _LOG_Z + ".",
        "symbolic",
        0,
        symbolic(derived.VON_MISES_FISHER_LOG_Z),
        correction='Eqs. (6) and (10) print "=" where "∝" is meant: the product lacks 1/Z(X).',
    ),
    Claim("C4", "Eq. (6)", _LOG_Z + ", M = 1 … 8, also as R → 0.", "numeric", 1e-12, _log_z),
    Claim(
        "C4",
        "Eqs. (6), (10)",
        "The shipped Z of two experts is their product's integral.",
        "numeric",
        1e-12,
        _product_on_a_grid,
    ),
    Claim(
        "C5",
        "Eqs. (6), (10)",
        r"Conditionally independent views and a uniform prior give"
        r" $\log p(z\mid\mathbb{X}) = \sum_i\log p(z\mid x_i) - \log Z(\mathbb{X})$.",
        "symbolic",
        0,
        symbolic(derived.PRODUCT_OF_EXPERTS),
    ),
    Claim(
        "C5",
        "Eqs. (6), (10)",
        r"$\mathbb{E}_{\mathbb{X}}\,p(z\mid\mathbb{X})$ is uniform.",
        "Monte Carlo",
        Z_SCORE,
        _posterior_is_uniform_on_average,
    ),
    Claim(
        "C16",
        "Eq. (6)",
        r"$\nabla_\eta\mathcal{L}_{exact} = A(R)\,\eta/R - \bar f$; for two views at angles ±θ the"
        r" normaliser multiplies the pull by $1 - A(R)$.",
        "symbolic",
        0,
        symbolic(*derived.MOMENT_MATCHING, derived.ATTENUATION),
        correction="1 − A(R) is what remains of the pull, not the share that is lost.",
    ),
    Claim(
        "C16",
        "Eq. (6)",
        r"$\nabla_{\mu_i}\mathcal{L}_{exact} = \kappa_i\{A(R)\,\eta/R - \bar f\}$ along the sphere, as shipped.",
        "numeric",
        1e-8,
        _moment_matching,
    ),
    Claim("C16", "Eq. (6)", r"The pull of two views at ±θ is multiplied by $1 - A(R)$.", "numeric", 1e-8, _attenuation),
    Claim(
        "C17",
        "Eqs. (4), (6)",
        r"$\mathcal{L}_{paper} + \mathbb{E}_q\log q - \log C(0)$ is the negative ELBO of the embeddings.",
        "symbolic",
        0,
        symbolic(derived.SYMMETRY),
    ),
    Claim(
        "C17",
        "Eqs. (4), (6)",
        r"$\mathcal{L}_{paper} = -\mathbb{E}_q\log p(\mu_{1:M}\mid z)$ with $\mu_i\mid z$ of the experts' family.",
        "numeric",
        1e-12,
        _negative_elbo,
    ),
    Claim(
        "C25",
        "Eq. (10)",
        r"For two Power Spherical experts"
        r" $Z = C(0)\sum_l N(d,l)\,\lambda_l(\kappa_1)\lambda_l(\kappa_2)P_l(\mu_1^\top\mu_2)$, finite at integer κ;"
        r" d = 3.",
        "symbolic",
        0,
        symbolic(*derived.PAIR_NORMALIZER),
        correction="One integer concentration of the two is enough for the series to terminate.",
    ),
    Claim(
        "C25",
        "Eq. (10)",
        r"The shipped normaliser of two Power Spherical experts against the finite series and quadrature.",
        "numeric",
        1e-12,
        _pair_normalizer,
    ),
)
