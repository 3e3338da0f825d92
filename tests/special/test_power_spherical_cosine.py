"""Distribution function and quantile of the cosine against mpmath and SciPy."""

from __future__ import annotations

import mpmath
import pytest
import scipy.stats
import torch

from ssl_as_inference.special import power_spherical_cosine_cdf, power_spherical_cosine_icdf

DIMS = (2, 3, 4, 16, 128, 2048, 65536)
CONCENTRATIONS = torch.tensor([0.0, 1e-3, 1.0, 20.0, 1e3, 1e6], dtype=torch.float64)
PROBABILITIES = torch.tensor([1e-9, 1e-3, 0.1, 0.5, 0.77, 0.999], dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 3, 4, 16, 129])
def test_cdf_is_the_incomplete_beta_function(dim: int) -> None:
    b = mpmath.mpf(dim - 1) / 2
    for concentration in (0.0, 0.7, 30.0):
        cosine = torch.tensor([-0.9, -0.2, 0.0, 0.3, 0.8, 0.99], dtype=torch.float64)
        kappa = torch.tensor(concentration, dtype=torch.float64)
        got = power_spherical_cosine_cdf(dim, kappa, cosine)
        for value, t in zip(got.tolist(), cosine.tolist(), strict=True):
            with mpmath.workdps(40):
                expected = mpmath.betainc(b + concentration, b, 0, (1 + mpmath.mpf(t)) / 2, regularized=True)
            assert value == pytest.approx(float(expected), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("dim", DIMS)
def test_quantile_inverts_the_cdf(dim: int) -> None:
    kappa, p = CONCENTRATIONS.unsqueeze(-1), PROBABILITIES
    cosine = power_spherical_cosine_icdf(dim, kappa, p).requires_grad_()
    back = power_spherical_cosine_cdf(dim, kappa, cosine)
    # A cosine rounded to 1e-16 fixes the probability no better than the density times that.
    (density,) = torch.autograd.grad(back.sum(), cosine)
    rounding = torch.where(cosine.abs() < 1, density, torch.inf) * 2e-16
    assert ((back - p).abs() < 2e-10 * p + rounding).all()
    assert (cosine.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("dim", [3, 16, 2048])
def test_quantile_agrees_with_scipy(dim: int) -> None:
    b = (dim - 1) / 2
    for concentration in (0.5, 50.0, 1e4):
        got = power_spherical_cosine_icdf(dim, torch.tensor(concentration, dtype=torch.float64), PROBABILITIES)
        expected = 2 * scipy.stats.beta(b + concentration, b).ppf(PROBABILITIES.numpy()) - 1
        torch.testing.assert_close(got, torch.as_tensor(expected), rtol=1e-9, atol=1e-11)


def test_ends_and_middle() -> None:
    ends = torch.tensor([-1.0, 1.0])
    for dim in (2, 3, 100):
        for concentration in (0.0, 1.0, 1e5):
            got = power_spherical_cosine_cdf(dim, torch.tensor(concentration), ends)
            torch.testing.assert_close(got, torch.tensor([0.0, 1.0]))
        half = power_spherical_cosine_icdf(dim, torch.tensor(0.0, dtype=torch.float64), torch.tensor(0.5).double())
        assert abs(half.item()) < 1e-12


def test_derivatives_pass_gradcheck() -> None:
    for dim in (2, 3, 30):
        kappa = torch.tensor([0.4, 3.0, 25.0], dtype=torch.float64, requires_grad=True)
        cosine = torch.tensor([-0.3, 0.2, 0.6], dtype=torch.float64, requires_grad=True)
        p = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda k, t, d=dim: power_spherical_cosine_cdf(d, k, t), (kappa, cosine))
        assert torch.autograd.gradcheck(lambda k, q, d=dim: power_spherical_cosine_icdf(d, k, q), (kappa, p))
