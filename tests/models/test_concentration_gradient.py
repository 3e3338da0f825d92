"""Where κ comes from and where its gradient goes: through the network, to its own row, or nowhere (a constant κ)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from inference.fitting.kl_objective import KLObjective
from models.networks import ConstantPowerSphericalHead, LinearWithDetachedLast, small_convolutional_backbone
from models.power_spherical_simsiam import PowerSphericalSimSiam
from models.vi_simsiam import VISimSiam, relative_concentration
from ssl_as_inference.distributions import PowerSpherical

INPUTS, FEATURES, DIM, HIDDEN, IMAGES = 7, 8, 6, 4, 5
KAPPA = 2.5


def make(method: Any = VISimSiam, **options: Any) -> Any:
    torch.manual_seed(3)
    return method(nn.Linear(INPUTS, FEATURES), FEATURES, dim=DIM, hidden=HIDDEN, **options).double()


def make_views() -> list[Tensor]:
    return [torch.randn(IMAGES, INPUTS, dtype=torch.float64) for _ in range(2)]


def log_power_spherical(cosine: Tensor, kappa: Tensor) -> Tensor:
    """Eq. (11) with the normaliser of De Cao and Aziz, arXiv:2006.04437, as it stands there."""
    beta = (DIM - 1) / 2
    alpha = beta + kappa
    log_normalizer = (
        (alpha + beta) * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    )
    return kappa * torch.log(1 + cosine) - log_normalizer


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_with_a_detached_last_output_is_a_linear_layer_forwards(bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(4, 3, bias=bias).double()
    torch.manual_seed(0)
    layer = LinearWithDetachedLast(4, 3, bias=bias).double()
    assert layer.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(layer.weight, plain.weight)
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-14, atol=1e-15)


def test_under_head_no_gradient_of_the_concentration_reaches_what_comes_before() -> None:
    pair = make(concentration_gradient="head")
    kappa = pair.model.expert(make_views()[0]).concentration
    parameters = dict(pair.model.named_parameters())
    gradients = torch.autograd.grad(kappa.sum(), list(parameters.values()), allow_unused=True)
    last = {id(parameter) for parameter in pair.concentration_rows}
    assert len(last) == 2
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        if id(parameter) in last:
            assert gradient is not None
            assert gradient[-1].abs().min() > 0
            assert (gradient[:-1] == 0).all()
        else:
            assert gradient is None or (gradient == 0).all(), name


def test_under_head_the_loss_has_the_gradient_of_a_detached_hidden_layer() -> None:
    pair, x = make(concentration_gradient="head"), make_views()
    loss = KLObjective()(pair.model, pair.guide)(x)
    plain = make()
    torch.testing.assert_close(loss, KLObjective()(plain.model, plain.guide)(x), rtol=1e-13, atol=0)

    # By hand, from networks of nn.Linear: κ of the hidden layer without its history.
    network = plain.model.predictor.network
    projections = [plain.model.encoder(view) for view in x]
    expected = torch.zeros((), dtype=torch.float64)
    for own, other in (projections, projections[::-1]):
        hidden = network[:-1](own)
        mu = normalize(network[-1](hidden)[:, :DIM], dim=1)
        kappa = relative_concentration(network[-1](hidden.detach())[:, DIM], DIM)
        cosine = (mu * normalize(other.detach(), dim=1)).sum(1)
        expected = expected - log_power_spherical(cosine, kappa).sum()
    assert abs((loss - expected).item()) <= 1e-12 * abs(expected.item())
    gradients = torch.autograd.grad(loss, list(pair.parameters()))
    witness = torch.autograd.grad(expected, list(plain.parameters()))
    through = torch.autograd.grad(KLObjective()(plain.model, plain.guide)(x), list(plain.parameters()))
    largest = max(other.abs().max().item() for other in witness)
    for gradient, other in zip(gradients, witness, strict=True):
        assert (gradient - other).abs().max().item() <= 1e-12 * max(1.0, largest)
    assert any((gradient - other).abs().max() > 1e-2 for gradient, other in zip(gradients, through, strict=True))
    for gradient, other in zip(gradients[-2:], through[-2:], strict=True):  # the last layer itself learns as ever
        torch.testing.assert_close(gradient, other, rtol=1e-11, atol=1e-12)


def test_weights_go_from_one_to_the_other() -> None:
    through, head, image = make(), make(concentration_gradient="head"), make_views()[0]
    assert all(torch.equal(one, other) for one, other in zip(through.parameters(), head.parameters(), strict=True))
    with torch.no_grad():
        through.model.predictor.network[-1].weight.mul_(2)
    head.load_state_dict(through.state_dict())
    through.eval()
    head.eval()
    torch.testing.assert_close(
        head.model.expert(image).concentration, through.model.expert(image).concentration, rtol=1e-14, atol=0
    )


def test_the_loss_of_a_constant_concentration_is_that_of_plain_pytorch() -> None:
    pair, x = make(PowerSphericalSimSiam, concentration=KAPPA), make_views()
    loss = KLObjective()(pair.model, pair.guide)(x)
    z = [pair.model.encoder(view) for view in x]
    expected = torch.zeros((), dtype=torch.float64)
    for own, other in (z, z[::-1]):
        mu = normalize(pair.model.predictor.network(own), dim=1)
        cosine = (mu * normalize(other.detach(), dim=1)).sum(1)
        expected = expected - log_power_spherical(cosine, torch.tensor(KAPPA, dtype=torch.float64)).sum()
    assert abs((loss - expected).item()) <= 1e-12 * max(1.0, abs(expected.item()))
    gradients = torch.autograd.grad(loss, list(pair.parameters()))
    witness = torch.autograd.grad(expected, list(pair.parameters()))
    largest = max(other.abs().max().item() for other in witness)
    for gradient, other in zip(gradients, witness, strict=True):
        assert (gradient - other).abs().max().item() <= 1e-12 * max(1.0, largest)


def test_a_constant_concentration_has_no_output_and_survives_a_state_dict() -> None:
    pair = PowerSphericalSimSiam(small_convolutional_backbone(width=4), 16, dim=DIM, concentration=0.1)
    assert pair.model.predictor.get_submodule("network")[-1].out_features == DIM  # type: ignore[index]
    expert = pair.model.expert(torch.rand(3, 1, 16, 16))
    assert isinstance(expert, PowerSpherical)
    assert expert.concentration.tolist() == [pytest.approx(0.1, rel=1e-7)] * 3
    other = PowerSphericalSimSiam(small_convolutional_backbone(width=4), 16, dim=DIM)
    other.load_state_dict(pair.state_dict())
    assert other.double().model.expert(torch.rand(3, 1, 16, 16).double()).concentration[0].item() == 0.1


@pytest.mark.parametrize("concentration", [0.0, -1.0, math.inf, math.nan])
def test_a_constant_concentration_must_be_positive_and_finite(concentration: float) -> None:
    with pytest.raises(ValueError, match="concentration must be positive and finite, got"):
        ConstantPowerSphericalHead(nn.Identity(), concentration)


def test_another_way_for_the_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match='concentration_gradient must be "through" or "head", got \'nowhere\''):
        make(concentration_gradient="nowhere")
