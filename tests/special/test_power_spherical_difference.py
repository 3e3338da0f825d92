"""Differences of the Power Spherical's peak against mpmath."""

from __future__ import annotations

import mpmath
import pytest
import torch

from ssl_as_inference.special import power_spherical_peak_difference

MPMATH_DIGITS = 60


@pytest.mark.parametrize("dim", [2, 3, 20, 33, 34, 128, 10_000, 100_000])
def test_peak_difference_keeps_its_digits_beside_large_peaks(dim: int) -> None:
    b = mpmath.mpf(dim - 1) / 2
    for lower in (0.0, 0.3, 40.0, dim / 3, 1e6):
        scale = lower + dim / 2
        for share in (1e-12, 1e-6, 0.1, 1.9, -1e-9, -0.3):
            kappa = max(0.0, lower + share * scale)
            ends = torch.tensor([kappa, lower], dtype=torch.float64)
            rise = [mpmath.loggamma(x + 2 * b) - mpmath.loggamma(x + b) for x in (mpmath.mpf(kappa), mpmath.mpf(lower))]
            exact = float(rise[0] - rise[1])
            got = power_spherical_peak_difference(dim, *ends).item()
            assert got == pytest.approx(exact, rel=1e-14, abs=2e-15 * abs(kappa - lower) + 2e-18), (lower, share)


def test_derivatives_pass_gradcheck() -> None:
    kappa = torch.tensor([0.3, 40.0, 900.0], dtype=torch.float64, requires_grad=True)
    lower = torch.tensor([0.7, 31.0, 600.0], dtype=torch.float64, requires_grad=True)
    for dim in (3, 64):
        assert torch.autograd.gradcheck(lambda x, y, d=dim: power_spherical_peak_difference(d, x, y), (kappa, lower))
        assert torch.autograd.gradgradcheck(
            lambda x, y, d=dim: power_spherical_peak_difference(d, x, y), (kappa, lower)
        )
