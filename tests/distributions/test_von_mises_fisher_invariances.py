"""What must hold for every von Mises–Fisher distribution: symmetries, bounds and limits."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.special import (
    von_mises_fisher_kl_to_uniform,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
)
from ssl_as_inference.sphere import log_surface_area, normalize

dims = st.integers(2, 300)
concentrations = st.floats(0, 1e8)
seeds = st.integers(0, 2**31)
steady = settings(max_examples=50, deadline=None, derandomize=True)


def _points(seed: int, dim: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator))


@steady
@given(dim=dims, concentration=concentrations, seed=seeds)
def test_density_is_symmetric_in_point_and_mean_direction(dim: int, concentration: float, seed: int) -> None:
    z, m = _points(seed, dim)
    assert torch.equal(VonMisesFisher(m, concentration).log_prob(z), VonMisesFisher(z, concentration).log_prob(m))


@steady
@given(dim=st.integers(2, 20), concentration=concentrations, seed=seeds)
def test_density_does_not_change_under_rotation(dim: int, concentration: float, seed: int) -> None:
    z, m = _points(seed, dim)
    generator = torch.Generator().manual_seed(seed + 1)
    rotation, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator))
    turned = VonMisesFisher(normalize(rotation @ m), concentration).log_prob(normalize(rotation @ z))
    expected = VonMisesFisher(m, concentration).log_prob(z)
    torch.testing.assert_close(turned, expected, rtol=1e-13, atol=1e-13 * (1 + concentration))


@steady
@given(dim=dims, low=concentrations, high=concentrations)
def test_concentrating_raises_the_resultant_and_the_divergence_from_uniform(dim: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    kappa = torch.tensor([low, high], dtype=torch.float64)
    resultant = von_mises_fisher_mean_resultant_length(dim, kappa)
    divergence = von_mises_fisher_kl_to_uniform(dim, kappa)
    assert 0 <= resultant[0] <= resultant[1] * (1 + 4e-15)
    assert resultant[1] <= 1
    assert 0 <= divergence[0] <= divergence[1] * (1 + 1e-14) + 1e-15
    assert ((von_mises_fisher_resultant_slope(dim, kappa) >= 0) & (kappa * resultant >= divergence)).all()


@steady
@given(dim=dims, seed=seeds)
def test_zero_concentration_is_the_uniform_distribution(dim: int, seed: int) -> None:
    z, m = _points(seed, dim)
    log_prob = VonMisesFisher(m, 0.0).log_prob(z).item()
    assert math.isclose(log_prob, -log_surface_area(dim), rel_tol=1e-13, abs_tol=1e-13)


@steady
@given(dim=st.integers(2, 50), seed=seeds)
def test_large_concentration_is_the_gaussian_on_the_tangent(dim: int, seed: int) -> None:
    tangent, m = _points(seed, dim)
    kappa = 1e12
    tangent = 2 * normalize(tangent - (tangent @ m) * m)
    z = normalize(m + tangent / math.sqrt(kappa))
    gaussian = (dim - 1) / 2 * math.log(kappa / (2 * math.pi)) - 2.0
    assert abs(VonMisesFisher(m, kappa).log_prob(z).item() - gaussian) < 1e-8
