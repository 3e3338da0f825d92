"""Divergences on the sphere against mpmath, limits of large and small concentration, and each other."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ssl_as_inference.distributions import PowerSpherical, SphericalUniform, VonMisesFisher
from ssl_as_inference.special import (
    power_spherical_kl_to_uniform,
    von_mises_fisher_kl_to_uniform,
    von_mises_fisher_mean_resultant_length,
)
from ssl_as_inference.sphere import normalize

FAMILIES = {"vmf": VonMisesFisher, "ps": PowerSpherical}
FAMILY = pytest.mark.parametrize("family", FAMILIES)
PAIRS = pytest.mark.parametrize(("guide", "expert"), [*itertools.product(FAMILIES, repeat=2)])
CONCENTRATIONS = (0.0, 1e-6, 1e-3, 0.7, 12.0, 29.0, 31.0, 500.0, 1e5)


def _direction(dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return normalize(torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).to(dtype)


def _law(name: str, direction: Tensor, concentration: float) -> Any:
    return FAMILIES[name](direction, torch.tensor(concentration, dtype=direction.dtype))


def _bregman(family: str, dim: int, first: float, second: float) -> float:
    """KL between two concentrations about one direction, from −log C and its slope."""
    with mpmath.workdps(80):
        k1, k2 = mpmath.mpf(first), mpmath.mpf(second)
        if family == "vmf":
            order = mpmath.mpf(dim) / 2

            def potential(k: mpmath.mpf) -> mpmath.mpf:
                return mpmath.log(mpmath.hyp0f1(order, k * k / 4))

            slope = k1 / dim * mpmath.hyp0f1(order + 1, k1 * k1 / 4) / mpmath.hyp0f1(order, k1 * k1 / 4)
        else:
            b = mpmath.mpf(dim - 1) / 2

            def potential(k: mpmath.mpf) -> mpmath.mpf:
                return k * mpmath.log(2) + mpmath.loggamma(k + b) - mpmath.loggamma(k + 2 * b)

            slope = mpmath.log(2) + mpmath.digamma(k1 + b) - mpmath.digamma(k1 + 2 * b)
        return float(potential(k2) - potential(k1) - (k2 - k1) * slope)


@FAMILY
@pytest.mark.parametrize("dim", [2, 3, 16, 61, 62, 2048])
def test_divergence_between_concentrations_keeps_its_relative_accuracy(family: str, dim: int) -> None:
    mu = _direction(dim)
    for first, second in itertools.product(CONCENTRATIONS, repeat=2):
        got = kl_divergence(_law(family, mu, first), _law(family, mu, second)).item()
        assert got == pytest.approx(_bregman(family, dim, first, second), rel=2e-11, abs=1e-300), (first, second)


@FAMILY
@pytest.mark.parametrize("dim", [2, 3, 16, 2048])
def test_divergence_between_close_concentrations_keeps_its_relative_accuracy(family: str, dim: int) -> None:
    mu = _direction(dim)
    for kappa, share in itertools.product((1e-3, 5.0, 40.0, 1e4), (1e-12, 1e-6, 1e-2, -1e-6, -0.3)):
        near = kappa * (1 + share)
        got = kl_divergence(_law(family, mu, kappa), _law(family, mu, near)).item()
        assert got == pytest.approx(_bregman(family, dim, kappa, near), rel=1e-11), (kappa, share)


FAR_APART = torch.tensor([0.0, 1e-3, 0.02, 2e4, 1e20], dtype=torch.float64)


@FAMILY
@pytest.mark.parametrize("dim", [2, 3, 62, 2048])
def test_divergence_from_much_concentration_to_none_is_that_to_uniform(family: str, dim: int) -> None:
    mu, zero = _direction(dim), torch.zeros((), dtype=torch.float64)
    to_uniform = {"vmf": von_mises_fisher_kl_to_uniform, "ps": power_spherical_kl_to_uniform}[family]
    divergence = kl_divergence(FAMILIES[family](mu, FAR_APART), FAMILIES[family](mu, zero))
    torch.testing.assert_close(divergence, to_uniform(dim, FAR_APART), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3, 62, 2048])
def test_slope_in_the_second_concentration_keeps_its_digits_far_from_the_first(dim: int) -> None:
    second = FAR_APART.clone().requires_grad_()
    q = VonMisesFisher(_direction(dim), torch.tensor(2e4, dtype=torch.float64))
    (slope,) = torch.autograd.grad(kl_divergence(q, VonMisesFisher(_direction(dim), second)).sum(), second)
    expected = von_mises_fisher_mean_resultant_length(dim, FAR_APART) - q.mean_resultant_length
    torch.testing.assert_close(slope, expected, rtol=1e-14, atol=1e-15)


@PAIRS
def test_divergence_is_not_negative_and_zero_between_equals(guide: str, expert: str) -> None:
    generator = torch.Generator().manual_seed(3)
    for dim in (2, 3, 8, 128, 2048):
        mu = normalize(torch.randn(40, dim, dtype=torch.float64, generator=generator))
        away = 10 ** (torch.rand(40, 1, dtype=torch.float64, generator=generator) * 10 - 9)
        f = normalize(mu + away * torch.randn(40, dim, dtype=torch.float64, generator=generator) / dim**0.5)
        tau = 10 ** (torch.rand(40, dtype=torch.float64, generator=generator) * 9 - 3)
        kappa = tau * torch.rand(40, dtype=torch.float64, generator=generator) * 2
        q, p = FAMILIES[guide](f, tau), FAMILIES[expert](mu, kappa)
        rounding = 0.0 if guide == expert else 1e-14 * dim
        assert (kl_divergence(q, p) >= -rounding).all()
        if guide == expert:
            assert (kl_divergence(q, q) == 0).all()
            assert (kl_divergence(q, FAMILIES[expert](mu, tau)) > 0).all()


@FAMILY
def test_divergence_of_close_directions_keeps_its_relative_accuracy(family: str) -> None:
    for dim, kappa in ((3, 1e6), (128, 1e5), (2048, 1e6)):
        mu, across = _direction(dim), _direction(dim, 1)
        across = normalize(across - (across @ mu) * mu)
        small, large = (
            kl_divergence(_law(family, mu, kappa), _law(family, normalize(mu + angle * across), kappa)).item()
            for angle in (1e-7, 1e-6)
        )
        assert large / small == pytest.approx(100, rel=1e-4)
        resultant = FAMILIES[family](mu, torch.tensor(kappa, dtype=torch.float64)).mean_resultant_length.item()
        if family == "vmf":
            assert small == pytest.approx(kappa * resultant * 0.5e-14, rel=1e-6)
        else:  # κ dE/de at e = 0 with e = angle²/4
            assert small == pytest.approx(kappa * kappa / (kappa + (dim - 1) / 2 - 1) * 0.25e-14, rel=1e-4)


def test_both_families_agree_as_the_concentration_vanishes() -> None:
    """C21: KL(PS(κ) ‖ vMF(κ)) ∝ κ²."""
    for dim in (2, 3, 16, 128, 2048):
        mu = _direction(dim)
        kappa = np.logspace(-4, -2, 3)
        for guide, expert in (("ps", "vmf"), ("vmf", "ps")):
            divergence = [kl_divergence(_law(guide, mu, k), _law(expert, mu, k)).item() for k in kappa]
            assert np.polyfit(np.log(kappa), np.log(divergence), 1)[0] == pytest.approx(2, abs=0.01)


@PAIRS
def test_divergence_is_the_integral_of_the_log_ratio_in_space(guide: str, expert: str) -> None:
    nodes, weights = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(300))
    angle = torch.arange(300, dtype=torch.float64) * (2 * torch.pi / 300)
    radius = (1 - nodes.square()).sqrt()[:, None]
    z = torch.stack(torch.broadcast_tensors(radius * angle.cos(), radius * angle.sin(), nodes[:, None]), -1)
    for tau, kappa in ((4.0, 9.0), (30.0, 2.5), (11.0, 0.0)):
        q, p = _law(guide, _direction(3, 1), tau), _law(expert, _direction(3, 2), kappa)
        log_q = q.log_prob(z)
        integral = ((log_q.exp() * (log_q - p.log_prob(z))).mean(1) * weights).sum() * 2 * torch.pi
        # a rule of 300 × 300 points sees the logarithm's singularity at −μ to five digits
        tolerance = 1e-5 if expert == "ps" else 1e-10
        assert kl_divergence(q, p).item() == pytest.approx(integral.item(), abs=tolerance)


@FAMILY
@pytest.mark.parametrize("dim", [2, 3, 128, 2048])
def test_uniform_distribution_is_the_one_of_no_concentration(family: str, dim: int) -> None:
    uniform, mu = SphericalUniform(dim, dtype=torch.float64), _direction(dim)
    to_uniform = {"vmf": von_mises_fisher_kl_to_uniform, "ps": power_spherical_kl_to_uniform}[family]
    for kappa in CONCENTRATIONS:
        law, flat = _law(family, mu, kappa), _law(family, mu, 0.0)
        assert kl_divergence(law, uniform).item() == to_uniform(dim, law.concentration).item()
        assert kl_divergence(law, uniform).item() == pytest.approx(kl_divergence(law, flat).item(), rel=1e-11)
        assert kl_divergence(uniform, law).item() == pytest.approx(kl_divergence(flat, law).item(), rel=1e-11)
    assert kl_divergence(uniform, uniform).item() == 0


@PAIRS
def test_derivatives_pass_gradcheck_and_are_finite_at_equality(guide: str, expert: str) -> None:
    tau = torch.tensor([0.5, 20.0, 45.0, 900.0], dtype=torch.float64, requires_grad=True)
    kappa = torch.tensor([0.7, 21.0, 4.0, 870.0], dtype=torch.float64, requires_grad=True)
    for dim in (3, 70):
        f, mu = _direction(dim, 1), _direction(dim, 2)

        def function(a: Tensor, b: Tensor, f: Tensor = f, mu: Tensor = mu) -> Tensor:
            return kl_divergence(FAMILIES[guide](f, a), FAMILIES[expert](mu, b))

        assert torch.autograd.gradcheck(function, (tau, kappa), atol=1e-6)
        assert torch.autograd.gradgradcheck(function, (tau, kappa), atol=1e-5, rtol=1e-3)
    mu = _direction(4).requires_grad_()
    q, p = FAMILIES[guide](mu, tau), FAMILIES[expert](mu.detach(), tau.detach())
    for gradient in torch.autograd.grad(kl_divergence(q, p).sum(), (mu, tau)):
        assert gradient.isfinite().all()


@PAIRS
def test_single_precision_and_broadcasting(guide: str, expert: str) -> None:
    f, mu = torch.stack([_direction(8, s, torch.float32) for s in range(3)]), _direction(8, 1, torch.float32)
    q = FAMILIES[guide](f.unsqueeze(1), torch.tensor([1.0, 1e3]))
    value = kl_divergence(q, FAMILIES[expert](mu, torch.tensor(50.0)))
    assert value.shape == (3, 2)
    assert value.dtype == torch.float32
    exact = kl_divergence(
        FAMILIES[guide](normalize(f.double()).unsqueeze(1), torch.tensor([1.0, 1e3], dtype=torch.float64)),
        FAMILIES[expert](normalize(mu.double()), torch.tensor(50.0, dtype=torch.float64)),
    )
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
