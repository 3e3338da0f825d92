"""Weights of the objective's terms, beside the same losses written by hand in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import scipy.special
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from inference.fitting.kl_objective import KLObjective
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import StopGradientCopy
from inference.fitting.term_weights import TermWeight, tempered_concentration, unit_pull
from models.power_spherical_simsiam import PowerSphericalSimSiam
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam, relative_concentration
from ssl_as_inference.distributions import PowerSpherical, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewPair

INPUTS, FEATURES, DIM, IMAGES = 7, 8, 6, 5
KAPPA = 3.0


def make(method: Any = VISimSiam, **options: Any) -> MultiViewPair:
    torch.manual_seed(3)
    pair: MultiViewPair = method(nn.Linear(INPUTS, FEATURES), FEATURES, dim=DIM, hidden=4, **options).double()
    return pair


def make_views(count: int) -> list[Tensor]:
    return [torch.randn(IMAGES, INPUTS, dtype=torch.float64) for _ in range(count)]


def log_power_spherical(cosine: Tensor, kappa: Tensor) -> Tensor:
    """Eq. (11) with the normaliser of De Cao and Aziz, arXiv:2006.04437, as it stands there."""
    beta = (DIM - 1) / 2
    alpha = beta + kappa
    log_normalizer = (
        (alpha + beta) * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    )
    return kappa * torch.log(1 + cosine) - log_normalizer


def log_von_mises_fisher(cosine: Tensor, kappa: float) -> Tensor:
    order = DIM / 2 - 1
    log_bessel = float(math.log(scipy.special.iv(order, kappa)))
    log_normalizer = order * math.log(kappa) - DIM / 2 * math.log(2 * math.pi) - log_bessel
    log_density: Tensor = kappa * cosine + log_normalizer
    return log_density


Term = Callable[[Tensor, Any], Tensor]
"""Cosine and κ of a pair of views, a value an image, to the weighted term."""


def pull_of_power_spherical(cosine: Tensor, kappa: Tensor) -> Tensor:
    return -log_power_spherical(cosine, kappa) * ((1 + cosine) / kappa).detach()


def tempered(beta: float) -> Term:
    def term(cosine: Tensor, kappa: Tensor) -> Tensor:
        weight: Tensor = (DIM - 1) ** beta / kappa.detach() ** beta
        return -log_power_spherical(cosine, kappa) * weight

    return term


def pull_of_von_mises_fisher(cosine: Tensor, kappa: Tensor) -> Tensor:
    del kappa
    return -log_von_mises_fisher(cosine, KAPPA) / KAPPA


def by_hand(pair: MultiViewPair, views: list[Tensor], term: Term, *, targets: int, own: bool) -> Tensor:
    """The sum over images and views of the mean of the terms over the targets."""
    network: Any = pair.model.predictor.get_submodule("network")
    projections = [pair.model.encoder(view) for view in views]
    z = [normalize(projection.detach(), dim=1) for projection in projections[:targets]]
    loss = torch.zeros((), dtype=torch.float64)
    for i, projection in enumerate(projections):
        output = network(projection)
        mu = normalize(output[:, :DIM], dim=1)
        predicted = output.size(1) > DIM
        kappa = relative_concentration(output[:, -1], DIM) if predicted else torch.tensor(KAPPA, dtype=torch.float64)
        counted = [j for j in range(targets) if own or j != i]
        for j in counted:
            loss = loss + term((mu * z[j]).sum(1), kappa).sum() / len(counted)
    return loss


CASES: dict[str, tuple[Any, TermWeight, Term]] = {
    "pull": (VISimSiam, unit_pull, pull_of_power_spherical),
    "pull of a constant κ": (PowerSphericalSimSiam, unit_pull, pull_of_power_spherical),
    "pull of von Mises–Fisher": (SimSiam, unit_pull, pull_of_von_mises_fisher),
    "β = 0": (VISimSiam, partial(tempered_concentration, beta=0.0), tempered(0.0)),
    "β = 0.5": (VISimSiam, tempered_concentration, tempered(0.5)),
    "β = 1": (VISimSiam, partial(tempered_concentration, beta=1.0), tempered(1.0)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("pairs", "views", "targets"), [("cross", 2, 2), ("all", 2, 2), ("cross", 4, 2), ("cross", 3, 3)]
)
def test_the_weighted_loss_and_its_gradient_are_those_of_plain_pytorch(
    name: str, pairs: Any, views: int, targets: int
) -> None:
    method, weight, term = CASES[name]
    options = {} if method is VISimSiam else {"concentration": KAPPA}
    pair = make(method, guide_views=targets, **options)
    x = make_views(views)
    loss = KLObjective(pairs, weight=weight)(pair.model, pair.guide)(x)
    expected = by_hand(pair, x, term, targets=targets, own=pairs == "all")
    assert abs((loss - expected).item()) <= 1e-12 * max(1.0, abs(expected.item()))
    parameters = list(pair.parameters())
    gradients, witness = torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters)
    largest = max(gradient.abs().max().item() for gradient in witness)
    assert largest > 1e-3
    for gradient, other in zip(gradients, witness, strict=True):
        assert (gradient - other).abs().max().item() <= 1e-12 * max(1.0, largest)


@pytest.mark.parametrize("method", [VISimSiam, PowerSphericalSimSiam, SimSiam])
def test_under_unit_pull_the_mean_direction_learns_as_in_simsiam(method: Any) -> None:
    # κ's own gradient is kept from the network: what is left has to be that of the negative cosine similarity.
    options = {"concentration_gradient": "head"} if method is VISimSiam else {"concentration": KAPPA}
    pair = make(method, **options)
    x = make_views(2)
    loss = KLObjective(weight=unit_pull)(pair.model, pair.guide)(x) / IMAGES / 2

    def negative_cosine(first: Tensor, second: Tensor) -> Tensor:
        network: Any = pair.model.predictor.get_submodule("network")
        p = network(pair.model.encoder(first))[:, :DIM]
        return -(normalize(p, dim=1) * normalize(pair.model.encoder(second), dim=1).detach()).sum(1).mean()

    simsiam = (negative_cosine(x[0], x[1]) + negative_cosine(x[1], x[0])) / 2
    parameters = dict(pair.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    witness = torch.autograd.grad(simsiam, list(parameters.values()))
    for name, gradient, other in zip(parameters, gradients, witness, strict=True):
        learns_from_mu = slice(0, DIM) if name.startswith("model.predictor.network.3") else slice(None)
        assert other[learns_from_mu].abs().max() > 0
        assert (gradient - other)[learns_from_mu].abs().max().item() <= 1e-12, name


def test_without_a_weight_and_with_weights_of_one_the_bits_are_the_same() -> None:
    pair, x = make(), make_views(3)
    losses = [
        KLObjective(weight=weight)(pair.model, pair.guide)(x)
        for weight in (None, partial(tempered_concentration, beta=0.0), lambda *_: torch.ones(()))
    ]
    found = [(loss, *torch.autograd.grad(loss, list(pair.parameters()))) for loss in losses]
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_tempered_weights_leave_a_power_of_the_concentration_on_the_cosine(beta: float) -> None:
    torch.manual_seed(0)
    mu = normalize(torch.randn(4, DIM, dtype=torch.float64), dim=1).requires_grad_()
    z = normalize(torch.randn(1, 4, DIM, dtype=torch.float64), dim=-1)
    kappa = torch.tensor([0.1, 1.0, 10.0, 1e3], dtype=torch.float64)
    expert = PowerSpherical(mu, kappa)
    (gradient,) = torch.autograd.grad((expert.log_prob(z) * tempered_concentration(expert, z, beta=beta)).sum(), mu)
    cosine = (mu * z[0]).sum(1, keepdim=True)
    expected = (DIM - 1) * (kappa[:, None] / (DIM - 1)) ** (1 - beta) / (1 + cosine) * z[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_stay_finite_where_the_concentration_vanishes_or_the_atom_is_opposite(dtype: torch.dtype) -> None:
    mu = torch.eye(3, dtype=dtype)[:1]
    tiny, eps = torch.finfo(dtype).tiny, torch.finfo(dtype).eps
    for kappa in (0.0, tiny, 1e3):
        power, fisher = PowerSpherical(mu, kappa), VonMisesFisher(mu, kappa)
        for z in (mu[None], -mu[None]):
            for weight in (unit_pull(power, z), unit_pull(fisher, z), tempered_concentration(power, z, beta=1.0)):
                assert weight.dtype == dtype
                assert weight.isfinite().all()
                assert (weight > 0).all()
    # An atom opposite to μ, where the density's own derivative is bounded: the pull is still of order one.
    mu = mu.requires_grad_()
    expert, z = PowerSpherical(mu, 5.0), torch.tensor([[[-1.0, 2 * math.sqrt(eps), 0.0]]], dtype=dtype)
    pull = unit_pull(expert, z).detach() * expert.log_prob(z)
    assert torch.autograd.grad(pull.sum(), mu)[0].norm().item() == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: KLObjective(normalized=True, weight=unit_pull),
            "weight must be None where normalized is True, .*, got <function unit_pull",
            id="normalised",
        ),
        pytest.param(
            lambda: unit_pull(SphericalUniform(3), torch.eye(3)),
            "expert must be VonMisesFisher or PowerSpherical, whose pull is known, got SphericalUniform",
            id="another family",
        ),
        pytest.param(
            lambda: tempered_concentration(PowerSpherical(torch.eye(3), 1.0), torch.eye(3), beta=1.5),
            r"beta must be in \[0, 1\], got 1.5",
            id="β above 1",
        ),
        pytest.param(
            lambda: _loss_with(lambda expert, atoms: torch.ones(2, IMAGES)),  # noqa: ARG005
            r"weight must return a shape that broadcasts with \(1, 5\), got \(2, 5\)",
            id="a weight of more atoms than there are",
        ),
        pytest.param(
            lambda: _loss_with(lambda expert, atoms: torch.ones(1, 1, IMAGES)),  # noqa: ARG005
            r"weight must return a shape that broadcasts with \(1, 5\), got \(1, 1, 5\)",
            id="a weight of too many dimensions",
        ),
        pytest.param(
            lambda: _learner(unit_pull, "dimension"),
            'nats_per must be "image" with the weights unit_pull, whose loss is not in nats, got "dimension"',
            id="no nats for a dimension",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_other_combinations_are_accepted() -> None:
    combinations: tuple[tuple[TermWeight | None, str], ...] = (
        (unit_pull, "image"),
        (tempered_concentration, "dimension"),
        (None, "dimension"),
    )
    for weight, nats_per in combinations:
        loss = _learner(weight, nats_per)(make_views(2))
        assert loss.isfinite()


def _loss_with(weight: TermWeight) -> Tensor:
    pair = make()
    loss: Tensor = KLObjective(weight=weight)(pair.model, pair.guide)(make_views(2))
    return loss


def _learner(weight: TermWeight | None, nats_per: Any) -> StepwiseLearner:
    objective = KLObjective(weight=weight)
    return StepwiseLearner(make(), objective, StopGradientCopy(), schedule=lambda _: 0.1, nats_per=nats_per)
