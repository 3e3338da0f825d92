"""Claims on Eq. (1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from experiments.verification.checks import float64, symbolic, worst_of
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.tables import DIMS, directions, draw_table, relative_error
from inference.fitting.kl_objective import KLObjective
from models.networks import VonMisesFisherHead
from ssl_as_inference.derivations.ssl_loss import BYOL_IS_AFFINE_IN_SSL, SSL_IS_TWICE_SIMSIAM
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel
from ssl_as_inference.special import von_mises_fisher_log_normalizer


def _losses(mu: Tensor, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (1), SimSiam's and BYOL's loss, each written as it was published."""
    ssl = -(mu[0] @ f[1]) - (mu[1] @ f[0])
    simsiam = sum(-(p / p.norm() * (t / t.norm())).sum() / 2 for p, t in ((mu[0], f[1]), (mu[1], f[0])))
    byol = sum((p / p.norm() - t / t.norm()).square().sum() for p, t in ((mu[0], f[1]), (mu[1], f[0])))
    return ssl, torch.as_tensor(simsiam), torch.as_tensor(byol)


def _published_losses(settings: Settings) -> Outcome:
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in DIMS:
        for spread in (0.1, 1.0, 5.0):
            vectors = float64(directions(rng, 4, dim, spread), settings)
            raw = vectors[:2].clone().requires_grad_()
            f = vectors[2:]
            mu = raw / raw.norm(dim=-1, keepdim=True)  # the gradients then lie along the sphere
            ssl, simsiam, byol = _losses(mu, f)
            gradients = [torch.autograd.grad(loss, raw, retain_graph=True)[0] for loss in (ssl, simsiam, byol)]
            errors[f"d = {dim}, spread {spread}"] = max(
                (ssl - 2 * simsiam).abs().item(),
                (byol - 4 - 2 * ssl).abs().item(),
                (gradients[0] - 2 * gradients[1]).abs().max().item(),
                (gradients[2] - 2 * gradients[0]).abs().max().item(),
            )
    return worst_of(errors, "losses and gradients")


def _shipped_loss(settings: Settings) -> Outcome:
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in DIMS:
        table = draw_table(rng, "von Mises–Fisher", dim, 2, settings, constant=True)
        table = type(table)(table.family, table.mu, np.ones(2), table.f, table.device)
        ssl = _losses(float64(table.mu, settings), float64(table.f, settings))[0]
        constant = 2 * von_mises_fisher_log_normalizer(dim, torch.ones((), dtype=torch.float64)).item()
        errors[f"d = {dim}"] = relative_error(table.loss(KLObjective()).item() + constant, ssl.item(), abs(constant))
    return worst_of(errors, "shipped objective at κ = 1")


def _heads_normalize(settings: Settings) -> Outcome:
    """SimSiam's head and guide on outputs of any length, against Eq. (1) of the directions."""
    rng = np.random.default_rng(settings.seed)
    errors = {}
    for dim in DIMS:
        views = [float64(rng.standard_normal((1, dim)), settings) for _ in range(2)]
        network = nn.Linear(dim, dim, bias=False).double().to(settings.device)
        model = MultiViewModel(nn.Identity(), VonMisesFisherHead(network).double())
        loss = KLObjective()(model, MultiViewGuide(nn.Identity()))(views).item()
        with torch.no_grad():
            predicted = [network(view)[0] for view in views]
        mu = torch.stack([p / p.norm() for p in predicted])
        f = torch.stack([view[0] / view[0].norm() for view in views])
        constant = 2 * von_mises_fisher_log_normalizer(dim, torch.ones((), dtype=torch.float64)).item()
        errors[f"d = {dim}"] = relative_error(loss + constant, _losses(mu, f)[0].item(), abs(constant))
    return worst_of(errors, "vectors of any length")


_STATEMENT = (
    r"Eq. (1) is twice SimSiam's loss, $\mathcal{L}_{SSL} = 2\mathcal{L}_{SimSiam}$, and BYOL's, over both orders,"
    r" is $4 + 2\mathcal{L}_{SSL}$; their gradients have one direction."
)
CLAIMS = (
    Claim("C1", "Eq. (1)", _STATEMENT, "symbolic", 0, symbolic(SSL_IS_TWICE_SIMSIAM, BYOL_IS_AFFINE_IN_SSL)),
    Claim("C1", "Eq. (1)", _STATEMENT, "numeric", 1e-12, _published_losses),
    Claim(
        "C1",
        "Eq. (1)",
        r"The shipped pair at κ = 1 gives $\mathcal{L}_{SSL} - 2\log C(1)$.",
        "numeric",
        1e-12,
        _shipped_loss,
    ),
    Claim(
        "C1",
        "Eq. (1)",
        "SimSiam's head and guide normalise what the networks give, as Eq. (1) needs.",
        "numeric",
        1e-12,
        _heads_normalize,
        correction="Eq. (1) is the cosine similarity for unit vectors only; the paper does not say that g and f are.",
    ),
)
