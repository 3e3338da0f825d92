"""Tails, quantiles and derivative of the gap, and the inverse of A, against quadrature and closed forms."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference.special import (
    von_mises_fisher_concentration,
    von_mises_fisher_gap_derivative,
    von_mises_fisher_gap_quantile,
    von_mises_fisher_log_gap_tail,
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
)

KAPPAS = [0.0, 1e-3, 1.0, 10.0, 50.0, 1e3, 1e6, 1e12, 1e30]


def _double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _mass(dim: int, concentration: float, start: mpmath.mpf, end: mpmath.mpf) -> mpmath.mpf:
    """Integral of the unnormalised density of the angle, with break points on its scale."""

    def density(s: mpmath.mpf) -> mpmath.mpf:
        bend = (dim - 2) * mpmath.log(mpmath.sin(s)) if dim > 2 else 0
        return mpmath.exp(-2 * concentration * mpmath.sin(s / 2) ** 2 + bend + offset)

    mode = mpmath.atan(mpmath.sqrt(mpmath.mpf(dim) / max(concentration, 1e-9))) if dim > 2 else mpmath.mpf(0)
    offset = 2 * concentration * mpmath.sin(mode / 2) ** 2 - (
        (dim - 2) * mpmath.log(mpmath.sin(mode)) if dim > 2 else 0
    )
    width = 1 / mpmath.sqrt(concentration + dim)
    points = {start, end, *(mode + j * width for j in range(-24, 41, 2) if start < mode + j * width < end)}
    return mpmath.quad(density, sorted(points))


@pytest.mark.parametrize(
    ("dim", "concentration", "gap"),
    [(2, 118.0, 1.84), (2, 30.0, 1.3), (2, 25.0, 1.13), (2, 1e4, 1.9), (3, 50.0, 1.5), (3, 1e4, 1.9), (8, 200.0, 1.7)],
)
def test_the_derivative_holds_where_the_density_bends_the_other_way(dim: int, concentration: float, gap: float) -> None:
    kappa, point = _double([concentration]), _double([gap])
    mean = von_mises_fisher_mean_resultant_complement(dim, kappa).item()
    with mpmath.workdps(30):
        theta = mpmath.acos(1 - mpmath.mpf(gap))

        def weighted(s: mpmath.mpf) -> mpmath.mpf:
            bend = (mpmath.sin(s) / mpmath.sin(theta)) ** (dim - 2)
            return mpmath.exp(concentration * (mpmath.cos(s) - mpmath.cos(theta))) * bend * (1 - mpmath.cos(s) - mean)

        integral = mpmath.quad(weighted, [theta + (mpmath.pi - theta) * j / 40 for j in range(41)])
        expected = float(-mpmath.sin(theta) * integral)
    found = von_mises_fisher_gap_derivative(dim, kappa, point)
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("dim", [2, 3, 16, 128, 2048])
@pytest.mark.parametrize("concentration", [0.0, 1.0, 50.0, 1e4])
def test_both_tails_agree_with_quadrature_in_30_digits(concentration: float, dim: int) -> None:
    kappa = torch.tensor(concentration, dtype=torch.float64)
    mean = von_mises_fisher_mean_resultant_complement(dim, kappa).item()
    deviation = math.sqrt(von_mises_fisher_resultant_slope(dim, kappa).item())
    with mpmath.workdps(30):
        whole = _mass(dim, concentration, mpmath.mpf(0), mpmath.pi)
        for gap in (mean + score * deviation for score in (-3, -1, 0.01, 2, 6)):
            if not 0 < gap < 2:
                continue
            theta = 2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(gap) / 2))
            point = torch.tensor(gap, dtype=torch.float64)
            for upper, (start, end) in enumerate([(mpmath.mpf(0), theta), (theta, mpmath.pi)]):
                exact = float(mpmath.log(_mass(dim, concentration, start, end) / whole))
                value = von_mises_fisher_log_gap_tail(dim, kappa, point, upper=bool(upper)).item()
                assert value == pytest.approx(exact, abs=1e-11, rel=1e-11), (gap, upper)


def test_tails_in_space_are_those_of_the_truncated_exponential() -> None:
    kappa, gap = _double([1e-3, 1.0, 50.0])[:, None], _double([1e-8, 0.1, 1.0, 1.9])
    lower = torch.expm1(-kappa * gap) / torch.expm1(-2 * kappa)
    upper = (torch.exp(-kappa * gap) - torch.exp(-2 * kappa)) / -torch.expm1(-2 * kappa)
    torch.testing.assert_close(
        von_mises_fisher_log_gap_tail(3, kappa, gap, upper=False), lower.log(), rtol=1e-12, atol=1e-13
    )
    torch.testing.assert_close(
        von_mises_fisher_log_gap_tail(3, kappa, gap, upper=True), upper.log(), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("dim", [2, 3, 5, 128, 65536])
def test_quantile_undoes_the_tails(dim: int) -> None:
    kappa, log_odds = _double(KAPPAS)[:, None], _double([-30.0, -10.0, -1.0, 0.0, 0.1, 3.0, 10.0])
    gap = von_mises_fisher_gap_quantile(dim, kappa, log_odds)
    lower, upper = (von_mises_fisher_log_gap_tail(dim, kappa, gap, upper=upper) for upper in (False, True))
    torch.testing.assert_close(lower - upper, log_odds.expand_as(gap), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3, 16, 128])
def test_tails_and_quantiles_are_differentiable_in_both_arguments(dim: int) -> None:
    kappa = _double([0.3, 4.0, 60.0]).requires_grad_()
    mean = von_mises_fisher_mean_resultant_complement(dim, kappa.detach())
    for factor in (0.6, 1.2):
        gap = (factor * mean).clamp(max=1.9).requires_grad_()
        for upper in (False, True):
            assert torch.autograd.gradcheck(
                lambda k, w, upper=upper: von_mises_fisher_log_gap_tail(dim, k, w, upper=upper), (kappa, gap)
            )
    log_odds = _double([-2.0, 0.5, 3.0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda k, x: von_mises_fisher_gap_quantile(dim, k, x), (kappa, log_odds))


@pytest.mark.parametrize("dim", [2, 3, 65536])
def test_ends_of_the_range_give_no_nan(dim: int) -> None:
    kappa = _double(KAPPAS)[:, None].requires_grad_()
    gap = _double([0.0, 1e-40, 1.0, 2.0])
    for upper in (False, True):
        tail = von_mises_fisher_log_gap_tail(dim, kappa, gap, upper=upper)
        assert not tail.isnan().any()
        assert (tail <= 0).all()
    quantile = von_mises_fisher_gap_quantile(dim, kappa, _double([-math.inf, -800.0, 800.0, math.inf]))
    assert ((quantile >= 0) & (quantile <= 2)).all()
    derivative = von_mises_fisher_gap_derivative(dim, kappa, _double([0.0, 1e-300, 1e-30, 1.0, 2 - 1e-15, 2.0]))
    assert derivative.isfinite().all()
    assert (derivative <= 0).all()
    assert (derivative[:, [0, -1]].abs() < 1e-290).all()


@pytest.mark.parametrize("dim", [2, 3, 16, 128, 2048, 100_000])
def test_concentration_undoes_the_mean_resultant_length(dim: int) -> None:
    kappa = torch.logspace(-30, 30, 241, dtype=torch.float64)
    length = von_mises_fisher_mean_resultant_length(dim, kappa)
    complement = von_mises_fisher_mean_resultant_complement(dim, kappa)
    torch.testing.assert_close(von_mises_fisher_concentration(dim, length, complement), kappa, rtol=1e-12, atol=0)


def test_concentration_at_the_ends_and_its_derivative() -> None:
    ends = von_mises_fisher_concentration(5, torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [0.0, math.inf]
    length = _double([0.01, 0.3, 0.6, 0.99]).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: von_mises_fisher_concentration(5, r), length)
