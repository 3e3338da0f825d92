"""Quantile and distribution function of the cosine: next to ±1, at 0 and 1, beyond them, and at huge concentrations."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical, RotationallySymmetric, VonMisesFisher

FAMILIES = {"vmf": VonMisesFisher, "ps": PowerSpherical}
# As in the tails of a 64-bit number: from the least one above 0 to the greatest below 1.
PROBABILITIES = torch.tensor(
    [0.0, 5e-324, 1e-300, 1e-200, 1e-100, 1e-50, 1e-30, 1e-18, 1e-12, 1e-6, 0.01, 0.5, 0.9, 1 - 1e-6, 1 - 2**-53, 1.0],
    dtype=torch.float64,
)


def _pole(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.nn.functional.pad(torch.ones(1, dtype=dtype), (dim - 1, 0))


def _law(family: str, dim: int, kappa: float, *, validate: bool | None = None) -> RotationallySymmetric:
    return FAMILIES[family](_pole(dim), torch.tensor(kappa, dtype=torch.float64), validate_args=validate)


def _mass_below(family: str, dim: int, kappa: float, height: mpmath.mpf) -> mpmath.mpf:
    """P(1 + μᵀz ≤ height) by quadrature of the density in the angle φ from −μ, 1 + μᵀz = 1 − cos φ."""

    def density(angle: mpmath.mpf) -> mpmath.mpf:
        if family == "vmf":
            return mpmath.exp(-kappa * mpmath.cos(angle)) * mpmath.sin(angle) ** (dim - 2)
        return mpmath.sin(angle / 2) ** (2 * kappa) * mpmath.sin(angle) ** (dim - 2)

    end = 2 * mpmath.asin(mpmath.sqrt(height / 2))
    middle = density(end / 2)  # divided by, since mpmath's quadrature stops at an absolute error
    part = mpmath.quad(lambda angle: density(angle) / middle, mpmath.linspace(0, end, 5))
    return part * middle / mpmath.quad(density, mpmath.linspace(0, mpmath.pi, 9))


@pytest.mark.parametrize("dim", [2, 3, 20])
@pytest.mark.parametrize("kappa", [1.0, 30.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_are_the_number_next_to_the_exact_one(family: str, kappa: float, dim: int) -> None:
    law = _law(family, dim, kappa)
    quantiles = law.cosine_icdf(PROBABILITIES).tolist()
    assert quantiles == sorted(quantiles)
    assert (quantiles[0], quantiles[-1]) == (-1.0, 1.0)
    with mpmath.workdps(40):
        for p, t in list(zip(PROBABILITIES.tolist(), quantiles, strict=True))[2:-1:2]:
            width = 5e-16 + 2e-12 * min(1 + t, 1 - t)
            low = _mass_below(family, dim, kappa, mpmath.mpf(t) + 1 - width) if 1 + t > width else 0
            high = _mass_below(family, dim, kappa, min(mpmath.mpf(t) + 1 + width, mpmath.mpf(2)))
            assert low <= p + mpmath.mpf(2) ** -50 * min(p, 1 - p)
            assert high >= p - mpmath.mpf(2) ** -50 * min(p, 1 - p)


@pytest.mark.parametrize("dim", [2, 3, 4, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_distribution_function_keeps_its_digits_next_to_the_antipode(family: str, dim: int) -> None:
    height = torch.tensor([2.0**-53, 3 * 2.0**-53, 1e-14, 1e-9, 1e-3], dtype=torch.float64)
    cosine = height - 1
    for kappa in (0.0, 1.0, 10.0):
        got = _law(family, dim, kappa).cosine_cdf(cosine).tolist()
        with mpmath.workdps(40):
            exact = [float(_mass_below(family, dim, kappa, mpmath.mpf(t) + 1)) for t in cosine.tolist()]
        assert got == pytest.approx(exact, rel=2e-10, abs=0)


@pytest.mark.parametrize("dim", [2, 3, 128, 2048, 65536])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_rise_and_undo_the_distribution_function_at_every_concentration(family: str, dim: int) -> None:
    for kappa in (0.0, 1e-300, 1e-3, 1.0, 10.0, 100.0, 370.0, 1e4, 1e8, 1e16, 1e30):
        law = _law(family, dim, kappa)
        cosine = law.cosine_icdf(PROBABILITIES)
        assert (cosine.diff() >= 0).all()
        assert (cosine[0].item(), cosine[-1].item()) == (-1, 1)
        # As far as the cosine, a number of 53 bits, can tell: the masses one step of it to either side.
        low, high = (law.cosine_cdf((cosine + step).clamp(-1, 1)) for step in (-5e-16, 5e-16))
        tails = torch.minimum(PROBABILITIES, 1 - PROBABILITIES)
        assert (low <= PROBABILITIES + 1e-9 * tails).all()
        assert (high >= PROBABILITIES - 1e-9 * tails).all()


@pytest.mark.parametrize("kappa", [1e3, 1e16, 1e18, 1e30])
def test_the_slopes_of_the_quantile_hold_where_the_cosine_rounds_to_one(kappa: float) -> None:
    # In space F(t) = ((1+t)/2)^{κ+1} for the one and {exp(−κ(1−t)) − exp(−2κ)}/{1 − exp(−2κ)} for the other.
    p = torch.tensor([1e-6, 0.3, 0.99], dtype=torch.float64, requires_grad=True)
    log_p = p.detach().log()
    power = kappa + 1
    expected = {
        "ps": (2 / power * (log_p / power - log_p).exp(), -2 * log_p / power**2 * (log_p / power).exp()),
        "vmf": (1 / (kappa * p.detach()), -log_p / kappa**2),
    }
    for family, slopes in expected.items():
        concentration = torch.full((3,), kappa, dtype=torch.float64, requires_grad=True)
        cosine = FAMILIES[family](_pole(3), concentration).cosine_icdf(p)
        for got, slope in zip(torch.autograd.grad(cosine.sum(), (p, concentration)), slopes, strict=True):
            torch.testing.assert_close(got, slope, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [2, 3, 4, 6, 8, 9, 500])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_ends_of_the_quantile_stay_where_they_are_when_the_concentration_moves(family: str, dim: int) -> None:
    for kappa in (0.0, 1.0, 50.0, 1e20):
        concentration = torch.full((2,), kappa, dtype=torch.float64, requires_grad=True)
        ends = FAMILIES[family](_pole(dim), concentration).cosine_icdf(torch.tensor([0.0, 1.0], dtype=torch.float64))
        (slope,) = torch.autograd.grad(ends.sum(), concentration)
        torch.testing.assert_close(slope, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-200)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_no_probability_or_cosine_is_refused_or_comes_out_as_such(family: str) -> None:
    checking = _law(family, 3, 2.0, validate=True)
    for bad in (math.nan, -1.0, 2.0, math.inf):
        with pytest.raises(ValueError, match=rf"probability must be in \[0, 1\], got {bad}"):
            checking.cosine_icdf(torch.tensor([0.5, bad]))
    for bad in (math.nan, -1.5, 1.5):
        with pytest.raises(ValueError, match=rf"cosine must be in \[-1, 1\], got {bad}"):
            checking.cosine_cdf(torch.tensor([0.5, bad]))
    law = _law(family, 3, 2.0, validate=False)
    assert law.cosine_icdf(torch.tensor([math.nan, -1.0, 2.0, -1e-12])).isnan().all()
    assert law.cosine_cdf(torch.tensor([-math.inf, -1.5, -1.0, 1.0, 1.5])).tolist() == [0, 0, 0, 1, 1]
    assert law.cosine_cdf(torch.tensor(math.nan)).isnan()
    lost = _law(family, 3, math.nan, validate=False)
    assert lost.cosine_icdf(torch.tensor(0.5)).isnan()
    assert lost.cosine_cdf(torch.tensor(0.5)).isnan()


@pytest.mark.parametrize("family", FAMILIES)
def test_results_have_the_wider_dtype(family: str) -> None:
    single = FAMILIES[family](_pole(3, torch.float32), 2.0)
    for law, dtype in ((single, torch.float32), (_law(family, 3, 2.0), torch.float64)):
        assert law.cosine_icdf(torch.tensor(0.5)).dtype == dtype
        assert law.cosine_cdf(torch.tensor(0.5)).dtype == dtype
        assert law.cosine_cdf(torch.tensor(0.5).double()).dtype == torch.float64
