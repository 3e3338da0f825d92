"""Differences of the von Mises–Fisher peak, and its normaliser as a function of the squared concentration."""

from __future__ import annotations

import mpmath
import pytest
import torch

from ssl_as_inference.special import (
    von_mises_fisher_log_normalizer,
    von_mises_fisher_log_normalizer_of_square,
    von_mises_fisher_peak_difference,
    von_mises_fisher_resultant_slope,
)

# Amos (1974): the ratio of two Bessel functions in closed form for half-integer orders, by mpmath elsewhere
SLOPE_DIMS = (2, 3, 5, 64, 2048)


def _peak(dim: int, kappa: mpmath.mpf) -> mpmath.mpf:
    """Log C + κ but for a constant."""
    nu = mpmath.mpf(dim) / 2 - 1
    return kappa - mpmath.log(mpmath.hyp0f1(nu + 1, kappa**2 / 4))


@pytest.mark.parametrize("dim", [2, 3, 16, 61, 62, 2048])
def test_peak_difference_keeps_its_relative_accuracy(dim: int) -> None:
    with mpmath.workdps(50):
        for kappa in (0.5, 29.0, 30.5, 500.0, 1e4):
            for share in (1e-12, 1e-6, 0.01, 0.4, 0.999, -0.3):
                k, delta = torch.tensor([kappa, kappa * share], dtype=torch.float64)
                exact_k, exact_delta = mpmath.mpf(k.item()), mpmath.mpf(delta.item())
                expected = _peak(dim, exact_k) - _peak(dim, exact_k - exact_delta)
                got = von_mises_fisher_peak_difference(dim, k, delta).item()
                series = dim < 62 and min(kappa, kappa * (1 - share)) < 30
                error = float(abs(got - expected))
                bound = 3e-14 * max(1, float(abs(_peak(dim, exact_k))) / 30) if series else 4e-15 * abs(float(expected))
                assert error <= bound, (kappa, share, error)


def test_peak_difference_passes_gradcheck_and_broadcasts() -> None:
    for dim in (3, 64):
        kappa = torch.tensor([[0.7], [40.0], [900.0]], dtype=torch.float64, requires_grad=True)
        delta = torch.tensor([0.0, 0.2, 0.6], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda k, x, d=dim: von_mises_fisher_peak_difference(d, k, x), (kappa, delta))
        assert torch.autograd.gradgradcheck(
            lambda k, x, d=dim: von_mises_fisher_peak_difference(d, k, x), (kappa, delta)
        )


@pytest.mark.parametrize("dim", SLOPE_DIMS)
def test_slope_of_the_mean_resultant_length_is_the_variance_of_the_cosine(dim: int) -> None:
    with mpmath.workdps(50):
        for kappa in (0.0, 1e-3, 1.0, 35.0, 1e4):
            nu, k = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa)
            ratio = mpmath.hyp0f1(nu + 2, k * k / 4) / mpmath.hyp0f1(nu + 1, k * k / 4) / dim  # A/κ
            expected = float(1 - (k * ratio) ** 2 - (dim - 1) * ratio)
            got = von_mises_fisher_resultant_slope(dim, torch.tensor(kappa, dtype=torch.float64)).item()
            assert got == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 16, 64, 2048])
def test_normaliser_of_the_square_has_three_derivatives_at_zero(dim: int) -> None:
    # log ₀F₁(; d/2; x/4) = x/2d − x²/(4d²(d+2)) + x³/(6d³(d+2)(d+4)) …
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = von_mises_fisher_log_normalizer_of_square(dim, x)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x, create_graph=True)
    (third,) = torch.autograd.grad(second, x)
    assert first.item() == pytest.approx(-1 / (2 * dim), rel=1e-14)
    assert second.item() == pytest.approx(1 / (2 * dim**2 * (dim + 2)), rel=1e-11)
    assert third.item() == pytest.approx(-2 / (dim**3 * (dim + 2) * (dim + 4)), rel=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_normaliser_of_the_square_is_the_normaliser(dim: int) -> None:
    kappa = torch.logspace(-8, 6, 15, dtype=torch.float64)
    got = von_mises_fisher_log_normalizer_of_square(dim, kappa.square())
    torch.testing.assert_close(got, von_mises_fisher_log_normalizer(dim, kappa), rtol=1e-14, atol=1e-14)
    square = torch.tensor([0.3, 20.0, 4e4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: von_mises_fisher_log_normalizer_of_square(dim, x), square)
    assert torch.autograd.gradgradcheck(lambda x: von_mises_fisher_log_normalizer_of_square(dim, x), square)
