"""The objective through our pairs against the published algorithms, written here by hand in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.special
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from inference.fitting.kl_objective import KLObjective
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam, relative_concentration
from ssl_as_inference.graphical_model import MultiViewPair

INPUTS, FEATURES, DIM, HIDDEN, IMAGES = 10, 12, 16, 6, 9


def backbone() -> nn.Sequential:
    return nn.Sequential(nn.Linear(INPUTS, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())


class PlainNetworks(nn.Module):
    """f and h of the two papers, made of torch's layers alone."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone()
        self.projector = nn.Sequential(
            nn.Linear(FEATURES, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
            nn.Linear(FEATURES, DIM, bias=False),
            nn.BatchNorm1d(DIM, affine=False),
        )
        self.h = nn.Sequential(
            nn.Linear(DIM, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )

    def f(self, x: Tensor) -> Tensor:
        projection: Tensor = self.projector(self.backbone(x))
        return projection

    def copy_weights(self, pair: MultiViewPair) -> None:
        encoder = pair.model.encoder
        self.backbone.load_state_dict(encoder.get_submodule("backbone").state_dict())
        self.projector.load_state_dict(encoder.get_submodule("projector").state_dict())
        self.h.load_state_dict(pair.model.predictor.get_submodule("network").state_dict())


def simsiam_loss(networks: PlainNetworks, x1: Tensor, x2: Tensor) -> Tensor:
    """Algorithm 1 of SimSiam, arXiv:2011.10566: L = D(p1, z2)/2 + D(p2, z1)/2."""

    def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
        z = z.detach()
        return -(normalize(p, dim=1) * normalize(z, dim=1)).sum(dim=1).mean()

    z1, z2 = networks.f(x1), networks.f(x2)
    p1, p2 = networks.h(z1), networks.h(z2)
    return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2


def power_spherical_log_density(z: Tensor, mu: Tensor, kappa: Tensor) -> Tensor:
    """Eq. (11) with the normaliser of De Cao and Aziz, arXiv:2006.04437, as it stands there."""
    d = mu.size(-1)
    beta = (d - 1) / 2
    alpha = beta + kappa
    log_normalizer = (
        (alpha + beta) * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    )
    return kappa * torch.log(1 + (mu * z).sum(-1)) - log_normalizer


def split(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean direction and concentration, for which the paper's pseudocode leaves the maps open."""
    return normalize(output[:, :-1], dim=1), relative_concentration(output[:, -1], DIM)


def vi_simsiam_loss(networks: PlainNetworks, x1: Tensor, x2: Tensor) -> Tensor:
    """Algorithm 1 of VI-SimSiam, arXiv:2203.11437v1: L = −p1.log_prob(z2) − p2.log_prob(z1)."""
    z1, z2 = networks.f(x1), networks.f(x2)
    (mu1, kappa1), (mu2, kappa2) = split(networks.h(z1)), split(networks.h(z2))
    z1, z2 = normalize(z1.detach(), dim=1), normalize(z2.detach(), dim=1)
    loss = -power_spherical_log_density(z2, mu1, kappa1) - power_spherical_log_density(z1, mu2, kappa2)
    return loss.mean()


def log_vmf_normalizer(dim: int, kappa: float) -> float:
    order = dim / 2 - 1
    log_bessel = math.log(scipy.special.ive(order, kappa)) + kappa
    return order * math.log(kappa) - dim / 2 * math.log(2 * math.pi) - log_bessel


def views(count: int = 2) -> list[Tensor]:
    return [torch.randn(IMAGES, INPUTS, dtype=torch.float64) for _ in range(count)]


def make(method: Any, **options: Any) -> tuple[MultiViewPair, PlainNetworks]:
    pair = method(backbone(), FEATURES, dim=DIM, hidden=HIDDEN, **options).double()
    plain = PlainNetworks(DIM if method is SimSiam else DIM + 1).double()
    plain.copy_weights(pair)
    return pair, plain


def assert_same_networks(pair: MultiViewPair, plain: PlainNetworks, scale: float, tolerance: float) -> None:
    """The gradients of `pair` are `scale` times those of `plain`; the buffers of batch normalisation are equal."""
    parts = [
        (pair.model.encoder.get_submodule("backbone"), plain.backbone),
        (pair.model.encoder.get_submodule("projector"), plain.projector),
        (pair.model.predictor.get_submodule("network"), plain.h),
    ]
    for ours, theirs in parts:
        for (name, parameter), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert parameter.grad is not None, name
            assert expected.grad is not None
            assert expected.grad.abs().max() > 0, f"the gradient of {name} tests nothing"
            torch.testing.assert_close(parameter.grad, scale * expected.grad, rtol=0, atol=tolerance)
        for (name, buffer), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            assert torch.equal(buffer, other), name


def test_at_concentration_one_the_loss_is_simsiams_up_to_a_constant() -> None:
    pair, plain = make(SimSiam, concentration=1.0)
    x1, x2 = views()
    loss = KLObjective()(pair.model, pair.guide)([x1, x2]) / IMAGES / 2
    expected = simsiam_loss(plain, x1, x2)
    assert abs((loss + log_vmf_normalizer(DIM, 1.0) - expected).item()) <= 1e-12
    loss.backward()
    expected.backward()
    assert_same_networks(pair, plain, 1.0, 1e-10)


@pytest.mark.parametrize("concentration", [0.25, 8.0, 64.0])
def test_the_concentration_of_simsiam_scales_the_gradient_and_shifts_the_loss(concentration: float) -> None:
    pair, plain = make(SimSiam, concentration=concentration)
    x1, x2 = views()
    loss = KLObjective()(pair.model, pair.guide)([x1, x2]) / IMAGES / 2
    expected = simsiam_loss(plain, x1, x2)
    shift = log_vmf_normalizer(DIM, concentration)
    assert loss.item() == pytest.approx(concentration * expected.item() - shift, abs=1e-12 * (1 + concentration))
    loss.backward()
    expected.backward()
    assert_same_networks(pair, plain, concentration, 1e-10 * (1 + concentration))


def test_the_loss_is_algorithm_1_of_vi_simsiam() -> None:
    pair, plain = make(VISimSiam)
    x1, x2 = views()
    loss = KLObjective()(pair.model, pair.guide)([x1, x2]) / IMAGES
    expected = vi_simsiam_loss(plain, x1, x2)
    assert abs((loss - expected).item()) <= 1e-12 * max(1.0, expected.abs().item())
    loss.backward()
    expected.backward()
    assert_same_networks(pair, plain, 1.0, 1e-10)


@pytest.mark.parametrize("method", [SimSiam, VISimSiam])
def test_ten_steps_of_sgd_end_at_the_weights_of_the_published_algorithm(method: Any) -> None:
    pair, plain = make(method)
    published = simsiam_loss if method is SimSiam else vi_simsiam_loss
    objective = KLObjective()(pair.model, pair.guide)
    optimizers = [
        torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4) for module in (objective, plain)
    ]
    for _ in range(10):
        x1, x2 = views()
        for optimizer in optimizers:
            optimizer.zero_grad()
        unit = 2 * IMAGES if method is SimSiam else DIM * IMAGES
        (objective([x1, x2]) / unit).backward()
        (published(plain, x1, x2) * (1 if method is SimSiam else 1 / DIM)).backward()
        for optimizer in optimizers:
            optimizer.step()
    trained = PlainNetworks(DIM if method is SimSiam else DIM + 1).double()
    trained.copy_weights(pair)
    for parameter, expected in zip(trained.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-10)


def test_algorithm_1_is_the_sum_of_leave_one_out_likelihoods_and_eq_12_adds_the_diagonal() -> None:
    # C13: the corrected Eq. (12), which keeps i = j, is half of Algorithm 1 plus half of its diagonal, for M = 2.
    pair, plain = make(VISimSiam)
    x = views()
    loss = KLObjective("all")(pair.model, pair.guide)(x) / IMAGES
    algorithm_1 = vi_simsiam_loss(plain, *x)
    plain.copy_weights(pair)
    diagonal = torch.zeros((), dtype=torch.float64)
    for view in x:
        z = plain.f(view)
        mu, kappa = split(plain.h(z))
        diagonal = diagonal - power_spherical_log_density(normalize(z.detach(), dim=1), mu, kappa).mean()
    assert loss.item() == pytest.approx((algorithm_1 + diagonal).item() / 2, abs=1e-12)


def networks_outputs(plain: PlainNetworks, x: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """μ_i and κ_i of every view and f_j of every atom, each with the view first."""
    mu, kappa, f = [], [], []
    for view in x:
        z = plain.f(view)
        direction, concentration = split(plain.h(z))
        mu.append(direction)
        kappa.append(concentration)
        f.append(normalize(z.detach(), dim=1))
    return torch.stack(mu), torch.stack(kappa), torch.stack(f)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_eq_12_holds_with_the_sign_of_its_second_term_corrected_and_not_as_printed(count: int) -> None:
    pair, plain = make(VISimSiam)
    x = views(count)
    mu, kappa, f = networks_outputs(plain, x)
    loss = KLObjective("all")(pair.model, pair.guide)(x) / IMAGES
    corrected, printed = torch.zeros(2, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            log_c = power_spherical_log_density(f[j], mu[i], kappa[i]) - kappa[i] * (1 + (mu[i] * f[j]).sum(-1)).log()
            similarity = kappa[i] * (1 + (mu[i] * f[j]).sum(-1)).log()
            corrected = corrected - (log_c + similarity).mean() / count
            printed = printed - (log_c - similarity).mean() / count
    assert abs((loss - corrected).item()) <= 1e-12 * max(1.0, corrected.abs().item())
    assert abs((loss - printed).item()) > 1e-3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_eq_9_holds_for_a_constant_concentration_with_its_constant_and_its_1_over_m(count: int) -> None:
    kappa = 5.0
    pair, plain = make(SimSiam, concentration=kappa)
    x = views(count)
    g = [normalize(plain.h(plain.f(view)), dim=1) for view in x]
    f = [normalize(plain.f(view), dim=1) for view in x]
    loss = KLObjective("all")(pair.model, pair.guide)(x) / IMAGES
    double_sum = torch.stack([(g[i] * f[j]).sum(-1).mean() for i in range(count) for j in range(count)]).sum()
    expected = -count * log_vmf_normalizer(DIM, kappa) - kappa / count * double_sum
    assert abs((loss - expected).item()) <= 1e-12 * max(1.0, expected.abs().item())
