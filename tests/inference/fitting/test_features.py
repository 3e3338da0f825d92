"""Fixed targets: what the optimum satisfies, that it is no collapse, and that fitting finds it."""

from __future__ import annotations

from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch import Tensor

from inference.fitting.features import calibrate, fit_to_features
from inference.fitting.kl_objective import KLObjective
from models.frozen_encoder import Family, FrozenEncoderPair
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.special import power_spherical_log_normalizer, von_mises_fisher_log_normalizer
from ssl_as_inference.sphere import normalize


def normal_on_the_interval(dim: int, sharpness: float) -> tuple[float, float]:
    """E[log(1+c)] and E[c] under a density of the cosine that is of neither family, ∝ (1−c²)^((d−3)/2) exp(s c³)."""

    def weighted(function: object) -> float:
        return quad(lambda c: function(c) * (1 - c * c) ** ((dim - 3) / 2) * np.exp(sharpness * c**3), -1, 1)[0]  # type: ignore[operator]

    total = weighted(np.ones_like)
    return weighted(np.log1p) / total, weighted(lambda c: c) / total


@pytest.mark.parametrize("dim", [3, 8, 128])
@pytest.mark.parametrize("sharpness", [1.0, 200.0])
def test_the_best_power_spherical_concentration_solves_the_equation_of_the_log_heights(
    dim: int, sharpness: float
) -> None:
    log_height, _ = normal_on_the_interval(dim, sharpness)

    def risk(log_kappa: float) -> float:
        kappa = torch.tensor(np.exp(log_kappa), dtype=torch.float64)
        return -float(power_spherical_log_normalizer(dim, kappa) + kappa * log_height)

    kappa = np.exp(minimize_scalar(risk, bounds=(-8, 12), method="bounded", options={"xatol": 1e-10}).x)
    b = mpmath.mpf(dim - 1) / 2
    a = b + kappa
    right = mpmath.log(2) + mpmath.digamma(a) - mpmath.digamma(a + b)
    assert float(right) == pytest.approx(log_height, abs=1e-6)


@pytest.mark.parametrize("dim", [3, 8, 128])
@pytest.mark.parametrize("sharpness", [1.0, 200.0])
def test_the_best_von_mises_fisher_concentration_has_the_mean_resultant_length(dim: int, sharpness: float) -> None:
    _, length = normal_on_the_interval(dim, sharpness)

    def risk(log_kappa: float) -> float:
        kappa = torch.tensor(np.exp(log_kappa), dtype=torch.float64)
        return -float(von_mises_fisher_log_normalizer(dim, kappa) + kappa * length)

    kappa = np.exp(minimize_scalar(risk, bounds=(-8, 12), method="bounded", options={"xatol": 1e-10}).x)
    half = mpmath.mpf(dim) / 2
    ratio = mpmath.besseli(half, kappa) / mpmath.besseli(half - 1, kappa)
    assert float(ratio) == pytest.approx(length, abs=1e-6)


def known(items: int, dim: int, family: Family, *, seed: int = 0) -> tuple[Tensor, Tensor, FrozenEncoderPair]:
    """Features that hold μ(x) and log κ(x), and a target drawn from the expert of these: nothing else predicts it."""
    generator = torch.Generator().manual_seed(seed)
    direction = normalize(torch.randn(items, dim, generator=generator))
    kappa = torch.tensor([2.0, 8.0, 40.0])[torch.randint(3, (items,), generator=generator)]
    law = PowerSpherical if family == "power_spherical" else VonMisesFisher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        targets = law(direction, kappa).sample((4,))
    told = torch.cat([direction, kappa.log()[:, None]], dim=1)
    features = torch.cat([told.expand(4, -1, -1), targets], dim=2)
    pair = FrozenEncoderPair.of(features, dim=dim, hidden=64, family=family)
    projector = pair.guide.network.get_submodule("projector")
    projector.get_buffer("mean").zero_()
    projector.get_buffer("projection").copy_(torch.eye(2 * dim + 1)[:, -dim:])
    return features, kappa, pair


@pytest.mark.parametrize("family", ["power_spherical", "von_mises_fisher"])
def test_concentrations_that_are_known_are_recovered(family: Family) -> None:
    features, _, pair = known(20_000, 4, family)
    fit_to_features(pair, features, epochs=8, learning_rate=1e-2)
    new, kappa, _ = known(3000, 4, family, seed=1)
    expert = pair.expert(new[0])
    law = type(expert)
    for value in (2.0, 8.0, 40.0):
        expected = float(law(torch.eye(4)[0], torch.tensor(value)).mean_resultant_length)
        assert float(expert.mean_resultant_length[kappa == value].mean()) == pytest.approx(expected, abs=0.03)
    assert float((expert.mean_direction * new[0, :, :4]).sum(-1).mean()) > 0.99


def test_one_expert_for_all_is_no_optimum_where_targets_differ_and_is_where_they_do_not() -> None:
    """The gain of an expert for each item over the best of one for all, by quadrature on the circle of two items."""
    dim, spread = 3, 0.7
    _, length = normal_on_the_interval(dim, 20.0)

    def best(resultant: float) -> float:
        result = minimize_scalar(
            lambda log_kappa: (
                -float(
                    von_mises_fisher_log_normalizer(dim, torch.tensor(np.exp(log_kappa), dtype=torch.float64))
                    + np.exp(log_kappa) * resultant
                )
            ),
            bounds=(-8, 8),
            method="bounded",
        )
        return float(result.fun)

    apart = best(length * np.cos(spread)) - best(length)  # mean directions at ±0.7 around the common one
    together = best(length * np.cos(0.0)) - best(length)
    assert apart > 0.05
    assert together == pytest.approx(0, abs=1e-12)


def test_a_head_that_says_the_same_of_all_items_is_left_by_gradient_descent_unless_the_target_is_constant() -> None:
    features, _, pair = known(400, 3, "power_spherical")
    network = pair.model.predictor.get_submodule("network")
    last = network.get_submodule("3")
    constant = features.clone()
    constant[..., -3:] = torch.tensor([1.0, 0.0, 0.0])
    gradients = []
    with torch.no_grad():
        last.get_parameter("weight").zero_()  # collapsed: the bias alone speaks, of the common direction
        last.get_parameter("bias").copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    for targets in (features, constant):
        pair.zero_grad()
        loss = KLObjective()(pair.model, pair.guide)
        loss([targets[0], targets[1]]).backward()
        weight = last.get_parameter("weight").grad
        assert weight is not None
        gradients.append(weight[:3].norm())  # of the direction's rows: κ grows without bound at a constant target
    assert gradients[0] > 1
    assert gradients[1] < 1e-3 * gradients[0]


def test_the_same_seed_fits_the_same_pair_and_another_seed_another() -> None:
    features, _, _ = known(200, 3, "power_spherical")

    def fitted(seed: int) -> Tensor:
        pair = FrozenEncoderPair.of(features, dim=3, hidden=8)
        return fit_to_features(pair, features, epochs=2, batch_size=32, seed=seed).expert(features[0]).concentration

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = fitted(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, fitted(0))
    assert not torch.equal(first, fitted(1))


def test_two_views_of_a_pair_are_never_the_same_and_every_item_comes_once_an_epoch() -> None:
    items, seen = 40, []
    features = torch.randn(3, items, 6)
    features[..., 0] = torch.arange(3)[:, None]
    features[..., 1] = torch.arange(items)
    pair = FrozenEncoderPair.of(features, dim=3, hidden=8)
    forward = pair.model.forward

    def watched(views: Sequence[Tensor]) -> Tensor:
        seen.append(torch.stack([view[:, :2] for view in views]))
        return forward(views)

    pair.model.forward = watched  # type: ignore[method-assign]
    fit_to_features(pair, features, epochs=5, batch_size=16)
    for epoch in torch.cat(seen, dim=1).split(items, dim=1):
        assert (epoch[0, :, 0] != epoch[1, :, 0]).all()
        assert torch.equal(epoch[0, :, 1].sort().values, torch.arange(items).float())
        assert torch.equal(epoch[0, :, 1], epoch[1, :, 1])


@pytest.mark.parametrize("family", ["power_spherical", "von_mises_fisher"])
def test_calibration_takes_back_what_was_promised_too_much_and_keeps_the_order(family: Family) -> None:
    features, _, pair = known(4000, 4, family)
    fit_to_features(pair, features, epochs=4, learning_rate=1e-2, held_out=0)
    with torch.no_grad():
        last = pair.model.predictor.get_submodule("network")[-1]  # type: ignore[index]
        last.weight[-1] *= 1.7
        last.bias[-1] += 2.0
    new, _, _ = known(3000, 4, family, seed=1)
    before = pair.expert(new[0])
    calibrate(pair, features)
    after = pair.expert(new[0])
    target = pair.guide.network.get_submodule("projector")(new[1])
    cosine = (after.mean_direction * target).sum(-1).mean()
    gaps = [float((expert.mean_resultant_length.mean() - cosine).abs()) for expert in (before, after)]
    assert gaps[1] < min(0.05, gaps[0] / 3)
    in_order = after.concentration[before.concentration.argsort()]
    assert (in_order.diff() > -1e-3).all()  # rounding
    assert in_order[0] < in_order[-1]
    assert torch.equal(before.mean_direction, after.mean_direction)

    def risk(scale: float, shift: float) -> float:
        raw = pair.model.predictor.get_submodule("network")(features.flatten(0, 1))[:, -1] * scale + shift
        expert = pair.expert(features.flatten(0, 1))
        kappa = pair.model.predictor.concentration_map(raw, 4)  # type: ignore[operator]
        answers = pair.guide.network.get_submodule("projector")(features.roll(-1, 0).flatten(0, 1))
        return -float(type(expert)(expert.mean_direction, kappa).log_prob(answers).double().mean())

    with torch.no_grad():
        least = risk(1, 0)
        assert all(risk(*other) > least for other in ((1.1, 0), (0.9, 0), (1, 0.1), (1, -0.1)))


def test_few_items_calibrate_nothing_and_another_loss_neither() -> None:
    features, _, pair = known(100, 4, "power_spherical")
    _, _, same = known(100, 4, "power_spherical")
    some, none = fit_to_features(pair, features, epochs=1), fit_to_features(same, features, epochs=1, held_out=0)
    for one, other in zip(some.parameters(), none.parameters(), strict=True):
        assert torch.equal(one, other)
    for name, value in (("held_out", 1.0), ("at_once", 1), ("at_once", 5)):
        with pytest.raises(ValueError, match=f"{name} must lie"):
            fit_to_features(pair, features, **{name: value})  # type: ignore[arg-type]
