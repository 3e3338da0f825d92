"""Claims on SimSiam, Eqs. (1) and (9): what of it is recovered, and Pyro's estimators of the same loss."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from experiments.special_cases.stop_gradient import gradient
from experiments.verification.claim import Derivations, Outcome, claim, largest, symbolic
from experiments.verification.lab import BOTH, DIMS, FISHER, Lab, Table, Tables, at, cosine_slope, relative_error
from experiments.verification.witnesses import log_peak
from inference.fitting.kl_objective import KLObjective, Pairs
from inference.fitting.targets import NoStopGradient, StopGradientCopy
from models.networks import PowerSphericalHead, VonMisesFisherHead, two_layer_mlp
from models.vi_simsiam import relative_concentration
from ssl_as_inference.derivations import simsiam as derived
from ssl_as_inference.derivations.ssl_loss import BYOL_IS_AFFINE_IN_SSL, SSL_IS_TWICE_SIMSIAM
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair
from ssl_as_inference.sphere import normalize


def published_losses(mu: Tensor, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (1), SimSiam's and BYOL's loss of two views, each written as it was published."""
    other = f.flip(0)
    p, z = (vectors / vectors.norm(dim=-1, keepdim=True) for vectors in (mu, other))
    return -(mu * other).sum(), -(p * z).sum(-1).mean(), (p - z).square().sum()


def _against_eq_1(loss: float, mu: Tensor, f: Tensor) -> float:
    """Error of a loss at κ = 1, M = 2, which is Eq. (1) less twice log C(1)."""
    constant = 2 * (log_peak(FISHER, mu.shape[-1], 1.0) - 1)  # log C(κ) + κ, less κ = 1
    return relative_error(loss + constant, published_losses(mu, f)[0].item(), abs(constant))


@symbolic("C1", "Eq. (1)")
def published_losses_derived() -> Derivations:
    """Eq. (1) is twice SimSiam's loss, and BYOL's, over both orders, is affine in it."""
    return SSL_IS_TWICE_SIMSIAM, BYOL_IS_AFFINE_IN_SSL


@claim("C1", "Eq. (1)", 1e-12, dim=DIMS, spread=(0.1, 1.0, 5.0))
def the_published_losses_agree(lab: Lab, dim: int, spread: float) -> float:
    """Eq. (1) is 2 × SimSiam's loss, BYOL's is 4 + 2 × Eq. (1), and their gradients have one direction.

    Error: losses and gradients.
    """
    vectors = lab.tensor(lab.directions(4, dim, spread))
    raw = vectors[:2].clone().requires_grad_()
    losses = published_losses(raw / raw.norm(dim=-1, keepdim=True), vectors[2:])  # gradients then lie along the sphere
    ssl, simsiam, byol = losses
    slopes = [torch.autograd.grad(loss, raw, retain_graph=True)[0] for loss in losses]
    differences = (ssl - 2 * simsiam, byol - 4 - 2 * ssl, slopes[0] - 2 * slopes[1], slopes[2] - 2 * slopes[0])
    return largest(difference.abs().max().item() for difference in differences)


@claim("C1", "Eq. (1)", 1e-12, table=Tables((FISHER,), views=(2,), kappa=1.0))
def the_shipped_loss(table: Table) -> float:
    """The shipped pair at κ = 1 gives Eq. (1) less 2 log C(1)."""
    return _against_eq_1(table.loss(KLObjective()), *map(table.lab.tensor, (table.mu, table.f)))


@claim("C1", "Eq. (1)", 1e-12, dim=DIMS)
def heads_normalize(lab: Lab, dim: int) -> float:
    """SimSiam's head and guide normalise what the networks give, vectors of any length, as Eq. (1) needs.

    Correction: Eq. (1) is the cosine similarity for unit vectors only. The paper says that its embeddings lie on the
    hypersphere; neither Eq. (1) nor Algorithm 1 shows where they are normalised.
    """
    views = lab.tensor(lab.rng.standard_normal((2, 1, dim)))
    network = nn.Linear(dim, dim, bias=False).double().to(lab.device)
    model = MultiViewModel(nn.Identity(), VonMisesFisherHead(network).double())
    loss = KLObjective()(model, MultiViewGuide(nn.Identity()))(list(views)).item()
    vectors = (network(views).detach()[:, 0], views[:, 0])
    return _against_eq_1(loss, *(each / each.norm(dim=-1, keepdim=True) for each in vectors))


@symbolic("C9", "Eq. (9)")
def loss_derived() -> Derivations:
    """For constant κ the loss is affine in the double sum of cosines.

    For M = 2 Algorithm 1 and the terms i ≠ j are Eq. (1), scaled and shifted.

    Correction: Eq. (9) prints "∝"; the loss is affine in the double sum, with the factor κ/M.
    """
    return derived.LOSS, derived.CROSS_PAIRS, derived.OFF_DIAGONAL


@claim("C9", "Eq. (9)", 1e-12, table=Tables((FISHER,), repeat=2, constant=True))
def all_pairs(table: Table) -> float:
    """The shipped loss over all pairs is the derived expression.

    Error: relative to Σκ + M d.
    """
    return table.error(derived.LOSS.result, KLObjective("all"))


_TWO_VIEWS = Tables((FISHER,), views=(2,), repeat=5, constant=True)


@claim("C9", "Eq. (9)", 1e-12, table=_TWO_VIEWS)
def cross_pairs(table: Table) -> float:
    """The shipped loss over the cross pairs, M = 2, is the derived multiple of Eq. (1).

    Error: relative to Σκ + M d.
    """
    return table.error(derived.CROSS_PAIRS.result, KLObjective("cross"))


@claim("C9", "Eq. (9)", 1e-12, table=_TWO_VIEWS)
def gradient_is_scaled(table: Table) -> float:
    """Its gradient along the sphere is κ times that of Eq. (1).

    Error: relative to κ.
    """
    difference = table.gradient(KLObjective()) / table.kappa[0] + table.f[::-1]
    return float(np.abs(difference - (difference * table.mu).sum(-1, keepdims=True) * table.mu).max())


@claim("C9", "Eq. (9)", 1e-12, first=Tables((FISHER,), views=(2,), kappa=1.0))
def published_simsiam(first: Table) -> float:
    """At κ = 1 half of it is SimSiam's published loss up to a constant.

    Error: differences of two losses.
    """
    second = replace(first, mu=first.f, f=first.mu[::-1].copy())  # the constant must be the same
    simsiam = [published_losses(*map(first.lab.tensor, (t.mu, t.f)))[1].item() for t in (first, second)]
    ours = [t.loss(KLObjective()) / 2 for t in (first, second)]
    return float(abs((ours[0] - ours[1]) - (simsiam[0] - simsiam[1]))) / first.scale


@symbolic("C11", "Eqs. (9), (12)")
def slopes_derived() -> Derivations:
    """Power Spherical experts of constant κ are not SimSiam: the slope in the cosine is not constant."""
    return derived.VON_MISES_FISHER_SLOPE, derived.POWER_SPHERICAL_SLOPE


@claim("C11", "Eqs. (9), (12)", 1e-12, family=BOTH)
def weight_of_the_cosine(lab: Lab, family: str) -> Outcome:
    """The same weights by autograd through the shipped densities; they are constant for vMF alone."""
    cosines = np.array([-0.5, 0.0, 0.5, 0.9])
    weights = np.array([-cosine_slope(lab, family, 3, 6.0, cosine) for cosine in cosines])
    if family == FISHER:
        expected = -at(derived.VON_MISES_FISHER_SLOPE.result, kappa=6.0)
    else:
        expected = -at(derived.POWER_SPHERICAL_SLOPE.result, kappa=6.0, c=cosines)
    spread = weights.max() / weights.min()
    error = np.abs(weights - expected).max() if family == FISHER or spread > 2 else math.inf
    return Outcome(float(error), f"largest over smallest weight {spread:.6f} ({family})")


@claim("C14", "Alg. 1", 1e-12, table=Tables())
def multi_crop(table: Table) -> float:
    """With more views than atoms a view is compared with the global crops other than itself; M = 2 is Algorithm 1.

    Error: relative to Σκ + M d.
    """
    model, guide = table.pair()
    loss = KLObjective()(model, MultiViewGuide(guide.network, views=2))(table.views()).item()
    # written out from the densities alone
    scores = table.log_densities()
    others = [[atom for atom in (0, 1) if atom != view] for view in range(table.count)]
    expected = -sum(scores[view, atoms].mean().item() for view, atoms in enumerate(others))
    return float(abs(loss - expected)) / table.scale


@claim("C27", "Eq. (1)", 1e-10, family=BOTH, pairs=("cross", "all"))
def the_targets_path(lab: Lab, family: str, pairs: Pairs) -> float:
    """The full gradient less the one with stop-gradient is the gradient through the target alone.

    Error: relative.
    """
    torch.manual_seed(lab.seed)
    encoder = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 5))
    head: nn.Module = VonMisesFisherHead(two_layer_mlp(5, 6, 5), 3.0)
    if family != FISHER:
        head = PowerSphericalHead(two_layer_mlp(5, 6, 6), relative_concentration)
    pair = MultiViewPair(5, MultiViewModel(encoder, head), MultiViewGuide(encoder)).double().to(lab.device).eval()
    parameters, views = list(pair.model.parameters()), list(torch.randn(3, 6, 7, dtype=torch.float64).to(lab.device))
    full, stopped = (
        gradient(KLObjective(pairs)(pair.model, rule.guide(pair))(views), parameters)
        for rule in (NoStopGradient(), StopGradientCopy())
    )
    atoms, loss = [normalize(encoder(view)) for view in views], lab.tensor(0.0)
    for i, view in enumerate(views):
        expert = pair.model.expert(view)
        held = type(expert)(expert.mean_direction.detach(), expert.concentration.detach())
        others = torch.stack([atom for j, atom in enumerate(atoms) if pairs == "all" or j != i])
        loss = loss - held.log_prob(others).mean(0).sum()
    return ((full - stopped - gradient(loss, parameters)).abs().max() / full.abs().max()).item()


@claim("C29", "Eq. (5)", 1e-10, table=Tables(views=(1, 2, 3, 8)))
def enumerated_elbo(table: Table) -> float:
    """Pyro's `TraceEnum_ELBO` is the loss over all pairs less log M an image.

    Error: relative to Σκ + M d.
    """
    stock = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(*table.pair(), table.views()).item()
    return float(abs(table.loss(KLObjective("all")) - math.log(table.count) - stock)) / table.scale


@claim("C29", "Eq. (5)", family=BOTH, dim__views=((3, 2), (8, 3), (128, 8)))
def sampled_elbo(lab: Lab, family: str, dim: int, views: int) -> float:
    """Pyro's `Trace_ELBO` is an unbiased estimate of the same.

    Error: z-scores.
    """
    mu, f = lab.directions(views, dim), lab.directions(views, dim, 0.5)
    table, particles = Table(family, mu, np.full(views, 5.0 + dim), f, lab), 4000
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*you need to use TraceEnum_ELBO instead")  # sampling is meant
        estimate = elbo.loss(*table.pair(), table.views())
    values = table.log_densities().sum(0)
    expected = -values.mean().item() - math.log(views)
    return float(abs(estimate - expected) / (values.std(correction=0).item() / math.sqrt(particles)))
