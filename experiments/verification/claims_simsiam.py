"""Claims on Eq. (9), on what of SimSiam is recovered, and on Pyro's estimators of the same loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from experiments.verification.checks import Z_SCORE, compare_loss, float64, symbolic, worst_of
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.tables import DIMS, FAMILIES, directions, draw_table, draw_tables, loss_scale
from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import NoStopGradient, StopGradientCopy
from models.networks import PowerSphericalHead, VonMisesFisherHead, two_layer_mlp
from models.vi_simsiam import relative_concentration
from ssl_as_inference.derivations import simsiam as derived
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair
from ssl_as_inference.sphere import normalize

FISHER, POWER = "von Mises–Fisher", "Power Spherical"


def _all_pairs(settings: Settings) -> Outcome:
    return compare_loss(derived.LOSS.result, draw_tables(settings, FISHER, constant=True), KLObjective("all"))


def _cross_pairs(settings: Settings) -> Outcome:
    tables = draw_tables(settings, FISHER, views=(2,), repeat=5, constant=True)
    return compare_loss(derived.CROSS_PAIRS.result, tables, KLObjective("cross"))


def _gradient_is_scaled(settings: Settings) -> Outcome:
    """Autograd through the shipped pair in μ against κ times the gradient of Eq. (1), along the sphere."""
    errors = {}
    for table in draw_tables(settings, FISHER, views=(2,), repeat=3, constant=True):
        views = [view.requires_grad_() for view in table.views()]
        gradients = torch.autograd.grad(table.loss(KLObjective(), views), views)
        kappa = table.kappa[0]
        worst = 0.0
        for number, gradient in enumerate(gradients):
            mu, f = table.mu[number], table.f[1 - number]
            ours = gradient[0, table.dim : -1].cpu().numpy()
            ours -= ours @ mu * mu
            tangent = f - f @ mu * mu
            worst = max(worst, float(np.abs(ours / kappa + tangent).max()))
        errors[f"d = {table.dim}, κ = {kappa:.3g}"] = worst
    return worst_of(errors, "relative to κ")


def _published_simsiam(settings: Settings) -> Outcome:
    """At κ = 1 half the loss of the cross pairs is SimSiam's D/2 + D/2 up to log C(1), with its gradient."""
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in DIMS:
        drawn = draw_table(rng, FISHER, dim, 2, settings, constant=True)
        table = type(drawn)(FISHER, drawn.mu, np.ones(2), drawn.f, drawn.device)
        other = type(drawn)(FISHER, drawn.f, np.ones(2), drawn.mu[::-1].copy(), drawn.device)
        simsiam = [
            -np.dot(t.mu[0], t.f[1]) / 2 - np.dot(t.mu[1], t.f[0]) / 2 for t in (table, other)
        ]  # two tables: the constant must be the same
        ours = [t.loss(KLObjective()).item() / 2 for t in (table, other)]
        errors[f"d = {dim}"] = abs((ours[0] - ours[1]) - (simsiam[0] - simsiam[1])) / loss_scale(table)
    return worst_of(errors, "differences of two losses")


def _weight_of_the_cosine(settings: Settings) -> Outcome:
    """Slope of the shipped losses in the cosine: constant for vMF, κ/(1+c) for PS; the spread is what is claimed."""
    errors, spread = {}, {}
    for family in (FISHER, POWER):
        slopes = []
        for cosine in (-0.5, 0.0, 0.5, 0.9):
            angle = float64(math.acos(cosine), settings).requires_grad_()
            mu = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)])
            f = torch.eye(3, dtype=torch.float64, device=settings.device)[0]
            expert = FAMILIES[family](mu, float64(6.0, settings), validate_args=False)
            slope = torch.autograd.grad(expert.log_prob(f), angle)[0].item() / -math.sqrt(1 - cosine**2)
            expected = 6.0 if family == FISHER else 6.0 / (1 + cosine)
            errors[f"{family}, c = {cosine}"] = abs(slope - expected)
            slopes.append(slope)
        spread[family] = max(slopes) / min(slopes)
    if spread[POWER] < 2:
        errors["PS must not be SimSiam"] = math.inf
    return worst_of(errors, f"largest over smallest weight: {spread[FISHER]:.6f} (vMF), {spread[POWER]:.6f} (PS)")


class _FirstViews(MultiViewGuide):
    """A guide over the global crops, which come first."""

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__(network)
        self.count = count

    def locations(self, views: Sequence[Tensor]) -> Tensor:
        return super().locations(views[: self.count])


def _multi_crop(settings: Settings) -> Outcome:
    """Local crops against every global atom, global ones against the other; two views are Algorithm 1."""
    errors = {}
    for family in FAMILIES:
        for table in draw_tables(settings, family, views=(2, 3, 8), repeat=1):
            model, guide = table.pair()
            loss = KLObjective()(model, _FirstViews(guide.network, 2))(table.views()).item()
            # written out from the experts one by one, by their density alone
            expected = 0.0
            for view in range(len(table.kappa)):
                expert = FAMILIES[family](float64(table.mu[view], settings), float64(table.kappa[view], settings))
                others = [atom for atom in (0, 1) if atom != view]
                values = [expert.log_prob(float64(table.f[atom], settings)).item() for atom in others]
                expected -= sum(values) / len(values)
            errors[f"{family}, d = {table.dim}, M = {len(table.kappa)}"] = abs(loss - expected) / loss_scale(table)
    return worst_of(errors, "relative to Σκ + M d")


def _trainable_pair(family: str, settings: Settings) -> tuple[MultiViewPair, list[Tensor]]:
    torch.manual_seed(settings.seed)
    encoder = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 5))
    head: nn.Module = (
        VonMisesFisherHead(two_layer_mlp(5, 6, 5), 3.0)
        if family == FISHER
        else PowerSphericalHead(two_layer_mlp(5, 6, 6), relative_concentration)
    )
    pair = MultiViewPair(5, MultiViewModel(encoder, head), MultiViewGuide(encoder)).double().to(settings.device)
    return pair, [torch.randn(6, 7, dtype=torch.float64).to(settings.device) for _ in range(3)]


def _gradient(pair: MultiViewPair, guide: MultiViewGuide, views: list[Tensor], pairs: Any) -> Tensor:
    loss = KLObjective(pairs)(pair.model, guide)(views)
    found = torch.autograd.grad(loss, list(pair.model.parameters()), allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(pair.model.parameters(), found, strict=True)
        ]
    )


def _targets_path(settings: Settings) -> Outcome:
    """Full gradient − stop-gradient = the gradient through the target alone, the experts held fixed."""
    errors, share = {}, 0.0
    for family in FAMILIES:
        for pairs in ("cross", "all"):
            pair, views = _trainable_pair(family, settings)
            pair.eval()
            full = _gradient(pair, NoStopGradient().guide(pair), views, pairs)
            stopped = _gradient(pair, StopGradientCopy().guide(pair), views, pairs)
            experts = [pair.model.expert(view) for view in views]
            held = [type(e)(e.mean_direction.detach(), e.concentration.detach()) for e in experts]
            atoms = [normalize(pair.guide.network(view)) for view in views]
            loss = torch.zeros((), dtype=torch.float64, device=settings.device)
            for i, expert in enumerate(held):
                which = [j for j in range(3) if pairs == "all" or j != i]
                loss = loss - sum(expert.log_prob(atoms[j]).sum() for j in which) / len(which)
            found = torch.autograd.grad(loss, list(pair.model.parameters()), allow_unused=True)
            path = torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for p, g in zip(pair.model.parameters(), found, strict=True)
                ]
            )
            errors[f"{family}, {pairs}"] = (full - stopped - path).abs().max().item() / full.abs().max().item()
            share = max(share, (path.norm() / full.norm()).item())
    return worst_of(errors, f"relative; the target's path is up to {share:.2f} of the full gradient")


def _enumerated_elbo(settings: Settings) -> Outcome:
    errors = {}
    for family in FAMILIES:
        for table in draw_tables(settings, family, views=(1, 2, 3, 8), repeat=1):
            model, guide = table.pair()
            given = [view.requires_grad_() for view in table.views()]  # Pyro refuses a loss without gradient
            stock = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, given).item()
            loss = table.loss(KLObjective("all")).item()
            views = len(table.kappa)
            errors[f"{family}, d = {table.dim}, M = {views}"] = abs(loss - math.log(views) - stock) / loss_scale(table)
    return worst_of(errors, "relative to Σκ + M d")


def _sampled_elbo(settings: Settings) -> Outcome:
    scores = {}
    rng = np.random.default_rng(settings.seed)
    for family in FAMILIES:
        for dim, views in ((3, 2), (8, 3), (128, 8)):
            table = type(drawn := draw_table(rng, family, dim, views, settings))(
                family, directions(rng, views, dim, 1.0), np.full(views, 5.0 + dim), drawn.f, settings.device
            )
            model, guide = table.pair()
            particles = 4000
            elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "(?s).*you need to use TraceEnum_ELBO instead")  # sampling is meant
                estimate = elbo.loss(model, guide, table.views())
            values = table.experts().log_prob(table.atoms().unsqueeze(-2)).sum(-1)
            expected = -values.mean().item() - math.log(views)
            error = values.std(correction=0).item() / math.sqrt(particles)
            scores[f"{family}, d = {dim}, M = {views}"] = abs(estimate - expected) / error
    return worst_of(scores, "z-scores")


CLAIMS = (
    Claim(
        "C9",
        "Eq. (9)",
        r"For constant κ, $\mathcal{L}_{paper} = -M\log C(\kappa) - \frac\kappa M\sum_{i,j}g_i^\top f_j$; for M = 2 its"
        r" terms i ≠ j are $\frac\kappa2\mathcal{L}_{SSL}$, Algorithm 1 is $\kappa\mathcal{L}_{SSL}$, up to constants.",
        "symbolic",
        0,
        symbolic(derived.LOSS, derived.CROSS_PAIRS, derived.OFF_DIAGONAL),
        correction='Eq. (9) prints "∝"; the loss is affine in the double sum, with the factor κ/M.',
    ),
    Claim("C9", "Eq. (9)", "The shipped loss over all pairs is the derived expression.", "numeric", 1e-12, _all_pairs),
    Claim(
        "C9",
        "Eq. (9)",
        r"The shipped loss over the cross pairs, M = 2, is $\kappa\mathcal{L}_{SSL} - 2\log C(\kappa)$.",
        "numeric",
        1e-12,
        _cross_pairs,
    ),
    Claim(
        "C9",
        "Eq. (9)",
        r"Its gradient along the sphere is κ times that of Eq. (1).",
        "numeric",
        1e-12,
        _gradient_is_scaled,
    ),
    Claim(
        "C9",
        "Eq. (9)",
        "At κ = 1 half of it is SimSiam's published loss up to a constant.",
        "numeric",
        1e-12,
        _published_simsiam,
    ),
    Claim(
        "C11",
        "Eqs. (9), (12)",
        r"Power Spherical experts of constant κ are not SimSiam: the weight of the cosine is $\kappa/(1+c)$, not κ.",
        "symbolic",
        0,
        symbolic(derived.VON_MISES_FISHER_SLOPE, derived.POWER_SPHERICAL_SLOPE),
    ),
    Claim(
        "C11",
        "Eqs. (9), (12)",
        "The same weights by autograd through the shipped densities.",
        "numeric",
        1e-12,
        _weight_of_the_cosine,
    ),
    Claim(
        "C14",
        "Alg. 1",
        "With more views than atoms (multi-crop) a view is compared with the global crops other than itself; M = 2 is"
        " Algorithm 1.",
        "numeric",
        1e-12,
        _multi_crop,
    ),
    Claim(
        "C27",
        "Eq. (1)",
        "The full gradient less the one with stop-gradient is the gradient through the target alone.",
        "numeric",
        1e-10,
        _targets_path,
    ),
    Claim(
        "C29",
        "Eq. (5)",
        r"Pyro's `TraceEnum_ELBO` is the loss over all pairs less log M an image.",
        "numeric",
        1e-10,
        _enumerated_elbo,
    ),
    Claim(
        "C29",
        "Eq. (5)",
        "Pyro's `Trace_ELBO` is an unbiased estimate of the same.",
        "Monte Carlo",
        Z_SCORE,
        _sampled_elbo,
    ),
)
