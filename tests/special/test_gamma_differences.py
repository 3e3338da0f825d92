"""Differences of log Γ, ψ, ψ′ … at x and x + b against mpmath."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference.special import lgamma_difference, polygamma_difference

MPMATH_DIGITS = 100  # at x = 1e38 a difference of two log Γ of 1e40 loses the first 78

ARGUMENTS = (1e-3, 0.5, 1.0, 15.5, 16.0, 317.25, 1e4, 1e9, 1e17, 1e38)
SHIFTS = (0.5, 1.0, 7.5, 1023.5, 49999.5)


def _relative_error(value: float, reference: mpmath.mpf) -> float:
    return float(abs(mpmath.mpf(value) / reference - 1))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("b", SHIFTS)
def test_polygamma_difference_has_no_cancellation(order: int, b: float) -> None:
    x = torch.tensor(ARGUMENTS, dtype=torch.float64)
    for value, argument in zip(polygamma_difference(order, x, b).tolist(), ARGUMENTS, strict=True):
        reference = mpmath.psi(order, argument) - mpmath.psi(order, mpmath.mpf(argument) + b)
        assert _relative_error(value, reference) < 4e-15


@pytest.mark.parametrize("b", SHIFTS)
def test_lgamma_difference_has_no_cancellation(b: float) -> None:
    x = torch.tensor(ARGUMENTS, dtype=torch.float64)
    for value, argument in zip(lgamma_difference(x, b).tolist(), ARGUMENTS, strict=True):
        reference = mpmath.loggamma(argument) - mpmath.loggamma(mpmath.mpf(argument) + b)
        assert float(abs(value - reference)) < 4e-15 * max(1.0, abs(float(reference)))


def test_scale_enters_as_a_power() -> None:
    x = torch.tensor([0.5, 3.0, 1e6], dtype=torch.float64)
    shifted = lgamma_difference(x, 2.5, scale=12.0) - lgamma_difference(x, 2.5)
    torch.testing.assert_close(shifted, torch.full_like(x, 2.5 * float(mpmath.log(12))))


def test_a_known_lower_bound_only_saves_work() -> None:
    x = torch.tensor([20.0, 31.0, 1e5], dtype=torch.float64)
    for order in (0, 1, 2):
        torch.testing.assert_close(
            polygamma_difference(order, x, 3.5, lower=20.0), polygamma_difference(order, x, 3.5), rtol=1e-14, atol=0
        )
    torch.testing.assert_close(lgamma_difference(x, 3.5, lower=20.0), lgamma_difference(x, 3.5), rtol=1e-14, atol=0)


def test_derivatives_pass_gradcheck() -> None:
    x = torch.tensor([0.7, 3.0, 40.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: lgamma_difference(y, 2.5), x)
    assert torch.autograd.gradgradcheck(lambda y: lgamma_difference(y, 2.5), x)
    assert torch.autograd.gradgradcheck(lambda y: polygamma_difference(0, y, 2.5), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: lgamma_difference(x, -1.0), "b must be >= 0, got -1.0"),
        (lambda x: lgamma_difference(x, 1.0, scale=0.0), "scale must be > 0, got 0.0"),
        (lambda x: polygamma_difference(-1, x, 1.0), "order must be from 0 to 8, got -1"),
    ],
    ids=["negative shift", "scale of zero", "negative order"],
)
def test_bad_arguments_are_named(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(1))
