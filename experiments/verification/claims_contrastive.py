"""Claims beyond the paper: InfoNCE as inference under a prior that the batch estimates, Barlow Twins and DINO."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import cross_entropy, normalize

from experiments.special_cases.stop_gradient import gradient
from experiments.verification.claim import Derivations, claim, symbolic
from experiments.verification.lab import BOTH, FISHER, Lab, draw_table
from experiments.verification.witnesses import log_log_slope
from inference.fitting.contrastive_objective import ContrastiveObjective
from models.networks import VonMisesFisherHead
from ssl_as_inference.derivations import contrastive as derived
from ssl_as_inference.graphical_model import FullGradientGuide, MultiViewModel


@symbolic("C35", "InfoNCE")
def contrastive_derived() -> Derivations:
    """InfoNCE is the reconstruction term of Eq. (4) under the prior that the experts of the batch average to.

    The model is z ~ that prior and views drawn by Bayes' rule from their experts, the guide a point at the other view's
    output. A collapsed encoder has loss 0, N log N above what InfoNCE ≥ 0 allows. The prior's own term of Eq. (4) is
    left out; with it the negatives would cancel.
    """
    densities = derived.VON_MISES_FISHER, derived.POWER_SPHERICAL
    return *densities, derived.COLLAPSE_IS_NO_OPTIMUM, derived.THE_DIVERGENCE_HAS_NO_NEGATIVES


@claim("C35", "InfoNCE", 1e-12, family=BOTH, dim=(2, 8, 128), images=(2, 7), views=(2, 3))
def contrastive_loss(lab: Lab, family: str, dim: int, images: int, views: int) -> float:
    """The shipped contrastive objective is the derived loss, a mean over the other views, of both families.

    Error: relative to Σκ + N d.
    """
    constant = family == FISHER
    batch = [draw_table(lab, family, dim, images, constant=constant) for _ in range(views)]
    if constant:
        batch = [table.with_kappa(batch[0].kappa) for table in batch]
    expression = (derived.VON_MISES_FISHER if constant else derived.POWER_SPHERICAL).result
    model, guide = batch[0].pair()
    shipped = ContrastiveObjective()(model, guide)([torch.cat(table.views()) for table in batch]).item()
    pairs = permutations(batch, 2)
    expected = sum(replace(experts, f=atoms.f).derived(expression) / (views - 1) for experts, atoms in pairs)
    return float(abs(shipped - expected)) / sum(table.scale for table in batch)


def info_nce(projections: list[Tensor], temperature: float) -> Tensor:
    """InfoNCE as it is published, summed over the batch: which image does the second view show?"""
    labels = torch.arange(len(projections[0]), device=projections[0].device)
    losses = [
        cross_entropy(second @ first.T / temperature, labels, reduction="sum")
        for first, second in permutations([normalize(z) for z in projections], 2)
    ]
    return torch.stack(losses).sum() / (len(projections) - 1)


@claim("C35", "InfoNCE", 1e-12, dim=(2, 8, 128), views=(2, 3), temperature=(0.05, 0.5, 2.0))
def published_info_nce(lab: Lab, dim: int, views: int, temperature: float) -> dict[str, float]:
    """The pair of an encoder, no predictor and no stop-gradient has InfoNCE in plain PyTorch as its loss, less log N.

    κ is 1/temperature. The loss and its gradient by the encoder's weights agree.

    Error: loss and gradient, relative to their size.
    """
    torch.manual_seed(lab.seed)
    ours = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, dim)).double().to(lab.device)
    plain = copy.deepcopy(ours)
    batch = [torch.randn(7, 5, dtype=torch.float64).to(lab.device) for _ in range(views)]
    model = MultiViewModel(ours, VonMisesFisherHead(nn.Identity(), 1 / temperature)).double().to(lab.device)
    loss = ContrastiveObjective()(model, FullGradientGuide(ours))(batch)
    published = info_nce([plain(view) for view in batch], temperature)
    slopes, expected = gradient(loss, list(ours.parameters())), gradient(published, list(plain.parameters()))
    constant = views * 7 * math.log(7)
    return {
        "loss": abs(loss.item() + constant - published.item()) / max(1.0, abs(published.item()), constant),
        "gradient": ((slopes - expected).abs().max() / expected.abs().max()).item(),
    }


@claim("C36", "Barlow Twins", 1e-12, dim=(2, 8, 64), images=(5, 50))
def invariance_of_barlow_twins(lab: Lab, dim: int, images: int) -> float:
    """Gaussian experts of variance 1 about outputs that the batch standardises give its diagonal, not squared.

    Their loss is N times the sum of the one-sided differences from 1 of the cross-correlation's diagonal, up to a
    constant. Barlow Twins squares each difference, and a square of a mean over the batch is no sum over images.

    Error: relative to N d.
    """
    outputs = lab.tensor(lab.rng.standard_normal((2, images, dim)))
    mu, f = (outputs - outputs.mean(1, keepdim=True)) / outputs.std(1, correction=0, keepdim=True)
    loss = -Normal(mu, lab.tensor(1.0)).log_prob(f).sum().item()
    constant = images * dim * math.log(2 * math.pi) / 2
    return float(abs(loss - constant - images * (1 - (mu * f).mean(0)).sum().item())) / (images * dim)


@claim("C36", "Barlow Twins", 0.02, dim=(3, 8))
def redundancy_of_barlow_twins(lab: Lab, dim: int) -> float:
    """The divergence of a Gaussian aggregate of unit variances from a standard normal prior is its second term.

    It is a quarter of the sum of the squared correlations off the diagonal, up to terms of third order. Barlow Twins
    has the correlations between two views in the place of those within one.

    Error: slope of the rest in the correlations, less 3.
    """
    drawn = lab.rng.uniform(0.2, 1.0, (dim, dim))  # of one sign, so that the terms of third order do not cancel
    off_diagonal, sizes, rests = (drawn + drawn.T) / 2 * (1 - np.eye(dim)), [1e-3, 3e-4, 1e-4], []
    zero, one = lab.tensor(np.zeros(dim)), np.eye(dim)
    for size in sizes:
        laws = [MultivariateNormal(zero, lab.tensor(covariance)) for covariance in (one + size * off_diagonal, one)]
        rests.append(abs(kl_divergence(*laws).item() - ((size * off_diagonal) ** 2 / 4).sum()))
    return abs(log_log_slope(sizes, rests) - 3)


@claim("C37", "DINO", 1e-12, prototypes=(2, 10, 1000), temperature=(0.04, 0.1))
def dino(lab: Lab, prototypes: int, temperature: float) -> dict[str, float]:
    """DINO's loss is Eq. (5) for a discrete z: the divergence of the teacher's classes from the student's.

    It lacks the teacher's entropy, which has no gradient. To centre the teacher's outputs is to divide its
    probabilities, before they are normalised, by their geometric mean over the images: a prior, in the guide.
    """
    student, teacher = lab.tensor(lab.rng.standard_normal((2, 8, prototypes)))
    centred = teacher - teacher.mean(0)
    loss = -(centred / temperature).softmax(-1).mul((student / 0.1).log_softmax(-1)).sum(-1)  # as it is published
    unnormalised = (teacher / temperature).exp()
    guide = Categorical(probs=unnormalised / unnormalised.log().mean(0).exp())
    inferred = kl_divergence(guide, Categorical(logits=student / 0.1)) + guide.entropy()
    return {"loss": ((loss - inferred).abs() / loss.clamp(min=1)).max().item()}
