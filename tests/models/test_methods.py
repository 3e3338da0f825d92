from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.byol import BYOL
from models.networks import (
    PowerSphericalHead,
    VonMisesFisherHead,
    resnet18_backbone,
    simsiam_projector,
    small_convolutional_backbone,
    two_layer_mlp,
)
from models.simsiam import SimSiam
from models.vi_simsiam import MAX_MEAN_RESULTANT_LENGTH, VISimSiam, relative_concentration
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewPair

METHODS = pytest.mark.parametrize("method", [SimSiam, BYOL, VISimSiam])


def layers(module: nn.Module) -> list[str]:
    """What the layers of a network are, in order: 'linear 512→2048 + bias', 'norm 2048', …"""
    described = []
    for layer in module.children():
        if isinstance(layer, nn.Linear):
            bias = "" if layer.bias is None else " + bias"
            described.append(f"linear {layer.in_features}→{layer.out_features}{bias}")
        elif isinstance(layer, nn.BatchNorm1d):
            described.append(f"norm {layer.num_features}" + ("" if layer.affine else " without affine"))
        else:
            described.append(type(layer).__name__)
    return described


@pytest.mark.parametrize(("method", "outputs"), [(SimSiam, 2048), (VISimSiam, 2049)])
def test_the_widths_are_those_of_the_official_simsiam(method: Any, outputs: int) -> None:
    # facebookresearch/simsiam: projector as wide as the backbone, 2048 outputs, last normalisation without affine;
    # predictor 2048–512–2048. VI-SimSiam's predictor has one more output, κ.
    pair = method(resnet18_backbone(), 512)
    assert layers(pair.model.encoder.projector) == [
        "linear 512→512", "norm 512", "ReLU",
        "linear 512→512", "norm 512", "ReLU",
        "linear 512→2048", "norm 2048 without affine",
    ]  # fmt: skip
    assert layers(pair.model.predictor.network) == [
        "linear 2048→512", "norm 512", "ReLU", f"linear 512→{outputs} + bias",
    ]  # fmt: skip
    assert pair.guide.network is pair.model.encoder
    assert pair.dim == 2048


def test_the_widths_of_byol_are_those_of_its_paper() -> None:
    pair = BYOL(resnet18_backbone(), 512)
    expected = ["norm 4096", "ReLU", "linear 4096→256 + bias"]
    assert layers(pair.model.encoder.get_submodule("projector")) == ["linear 512→4096", *expected]
    assert layers(pair.model.predictor.get_submodule("network")) == ["linear 256→4096", *expected]
    assert pair.dim == 256


def test_byols_target_is_a_frozen_copy_of_its_own() -> None:
    pair = BYOL(small_convolutional_backbone(width=4), 16, dim=8, hidden=8)
    online, target = pair.model.encoder.state_dict(), pair.guide.network.state_dict()
    assert online.keys() == target.keys()
    for name, value in online.items():
        assert torch.equal(value, target[name])
        assert value.data_ptr() != target[name].data_ptr()
    assert not any(parameter.requires_grad for parameter in pair.guide.network.parameters())
    assert all(parameter.requires_grad for parameter in pair.model.parameters())


@METHODS
def test_an_encoder_gives_an_expert_on_the_sphere_for_every_image(method: Any) -> None:
    pair: MultiViewPair = method(small_convolutional_backbone(width=4), 16, dim=8, hidden=6)
    expert = pair.model.expert(torch.rand(3, 1, 16, 16))
    assert isinstance(expert, PowerSpherical if method is VISimSiam else VonMisesFisher)
    assert expert.batch_shape == (3,)
    assert expert.event_shape == (8,)
    torch.testing.assert_close(expert.mean_direction.norm(dim=-1), torch.ones(3))


@METHODS
def test_a_pair_survives_its_state_dict(method: Any) -> None:
    def make() -> MultiViewPair:
        pair: MultiViewPair = method(small_convolutional_backbone(width=4), 16, dim=8, hidden=6)
        return pair.eval()

    pair, other, image = make(), make(), torch.rand(3, 1, 16, 16)
    other.load_state_dict(pair.state_dict())
    assert torch.equal(other.model.expert(image).mean, pair.model.expert(image).mean)


@METHODS
def test_a_narrow_sphere_still_has_a_predictor(method: Any) -> None:
    options = {"hidden": 4} if method is BYOL else {}
    pair = method(small_convolutional_backbone(width=4), 16, dim=2, **options)
    assert pair.model.expert(torch.rand(3, 1, 16, 16)).event_shape == (2,)


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, 64), ({"channels": 1}, 64), ({"small_images": True}, 32), ({"small_images": True, "channels": 1}, 16)],
    ids=str,
)
def test_resnet18_gives_512_features(options: dict[str, Any], size: int) -> None:
    features = resnet18_backbone(**options).eval()(torch.rand(2, options.get("channels", 3), size, size))
    assert features.shape == (2, 512)


# κ from the predictor's raw output


@pytest.mark.parametrize("dim", [2, 128, 2048])
def test_the_concentration_is_positive_bounded_and_increasing(dim: int) -> None:
    raw = torch.linspace(-50, 50, 2001, dtype=torch.float64)
    kappa = relative_concentration(raw, dim)
    bound = (dim - 1) * MAX_MEAN_RESULTANT_LENGTH / (1 - MAX_MEAN_RESULTANT_LENGTH)
    assert (kappa > 0).all()
    assert (kappa < bound).all()
    assert (kappa.diff() > 0).all()


@pytest.mark.parametrize("magnitude", [0.0, 1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_value_and_derivative_stay_finite_and_positive_in_float32(magnitude: float, sign: float) -> None:
    raw = torch.tensor(sign * magnitude, requires_grad=True)
    kappa = relative_concentration(raw, 2048)
    (derivative,) = torch.autograd.grad(kappa, raw)
    for value in (kappa, derivative):
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert value > 0
    exact = torch.tensor(sign * magnitude, dtype=torch.float64, requires_grad=True)
    expected = relative_concentration(exact, 2048)
    (expected_derivative,) = torch.autograd.grad(expected, exact)
    assert kappa.item() == pytest.approx(expected.item(), rel=1e-6)
    # The derivative at −r is 1 − r/√(r²+4) times a factor: a difference that float32 must not lose.
    assert derivative.item() == pytest.approx(expected_derivative.item(), rel=1e-3)


def test_the_derivative_decays_algebraically_on_both_sides() -> None:
    # As 1/r², from which a head that was pushed far can return; softplus decays as exp(−|r|).
    for sign in (-1.0, 1.0):
        raw = sign * torch.tensor([1e5, 1e6], dtype=torch.float64)
        raw.requires_grad_()
        (derivative,) = torch.autograd.grad(relative_concentration(raw, 2).sum(), raw)
        slope = (derivative[1] / derivative[0]).log10().item()
        assert slope == pytest.approx(-2, abs=0.01)


@pytest.mark.parametrize("dim", [2, 128, 2048])
def test_a_raw_output_of_zero_expects_a_cosine_of_about_one_half(dim: int) -> None:
    # k = 1 below the cap K = 99: k = 1/(1 + 1/99) = 0.99, and the mean resultant length is k/(1 + k).
    kappa = relative_concentration(torch.zeros((), dtype=torch.float64), dim)
    assert kappa.item() == pytest.approx((dim - 1) * 0.99, rel=1e-14)
    assert kappa.item() / (kappa.item() + dim - 1) == pytest.approx(0.4975, abs=1e-4)


def test_the_expected_cosine_approaches_its_bound() -> None:
    kappa = relative_concentration(torch.tensor(1e9, dtype=torch.float64), 128).item()
    assert kappa / (kappa + 127) == pytest.approx(MAX_MEAN_RESULTANT_LENGTH, abs=1e-8)


# Errors


def plain_map(raw: Tensor, _: int) -> Tensor:
    return raw


@pytest.mark.parametrize("concentration", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("method", [SimSiam, BYOL])
def test_a_constant_concentration_must_be_positive_and_finite(method: Any, concentration: float) -> None:
    with pytest.raises(ValueError, match="concentration must be positive and finite, got"):
        method(small_convolutional_backbone(width=4), 16, dim=8, hidden=8, concentration=concentration)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: PowerSphericalHead(nn.Identity(), plain_map)(-torch.ones(2, 4)),
            "concentration must be finite and >= 0, got -1.0|concentration must be .*>= 0",
            id="a map that gives a negative concentration",
        ),
        pytest.param(
            lambda: PowerSphericalHead(nn.Identity(), plain_map)(torch.ones(2, 2)),
            r"network must give at least 3 outputs, .* got shape \(2, 2\)",
            id="a predictor with too few outputs for a direction and κ",
        ),
        pytest.param(
            lambda: VonMisesFisherHead(nn.Identity())(torch.zeros(2, 4)),
            "mean_direction must have unit length .* length 0",
            id="a predictor that gives zero",
        ),
        pytest.param(
            lambda: VonMisesFisherHead(nn.Identity())(torch.ones(2, 1)),
            r"mean_direction must have shape \(\*batch, dim\) with dim >= 2, got \(2, 1\)",
            id="a sphere in one dimension",
        ),
        pytest.param(lambda: two_layer_mlp(4, 0, 4), "hidden must be at least 1, got 0", id="no hidden unit"),
        pytest.param(
            lambda: two_layer_mlp(4, 4, 4)(torch.ones(1, 4)),
            "views must hold at least 2 images in training, got 1: batch normalisation",
            id="predictor, batch of one image",
        ),
        pytest.param(
            lambda: simsiam_projector(4, 4)(torch.ones(1, 4)),
            "views must hold at least 2 images in training, got 1: batch normalisation",
            id="projector, batch of one image",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
