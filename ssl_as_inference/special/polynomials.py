"""Polynomials in few operations: evaluated, subtracted from each other, and lowered in degree."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor


def polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """The sum of `coefficients[k]` x^k by Horner's rule in x², on pairs of coefficients.

    That takes one operation on tensors for a coefficient where plain Horner takes two, and so half the time: a batch of
    concentrations is so small that an operation costs its launch.
    """
    if len(coefficients) == 1:
        return torch.full_like(x, coefficients[0])
    # rsub(x, a, alpha=-b) is a + bx in one operation
    pairs = [torch.rsub(x, low, alpha=-high) for low, high in zip(coefficients[::2], coefficients[1::2], strict=False)]
    total = pairs.pop()
    if len(coefficients) == 2:
        return total
    square = x * x
    if len(coefficients) % 2:
        total = torch.add(total, square, alpha=coefficients[-1])
    for pair in reversed(pairs):
        total = torch.addcmul(pair, total, square)
    return total


def polynomial_difference(coefficients: Sequence[float], x: Tensor, y: Tensor, x_minus_y: Tensor) -> Tensor:
    """p(x) − p(y) as (x − y) times the divided difference p[x, y], by Horner's rule for both at once."""
    value = x * coefficients[-1] + coefficients[-2]
    divided = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-2]):
        divided = torch.addcmul(value, divided, y)
        value = value * x
        if coefficient:  # in Stirling's series every other one is zero
            value = value + coefficient
    return x_minus_y * divided


@functools.cache
def _chebyshev(degree: int) -> tuple[int, ...]:
    """Coefficients of the Chebyshev polynomial of [0, 1], which is within ±1 there."""
    if degree < 2:
        return ((1,), (-1, 2))[degree]
    last, one_before = _chebyshev(degree - 1), _chebyshev(degree - 2)
    following = [0, *(4 * value for value in last)]  # T_{n+1} = 2(2x − 1)T_n − T_{n−1}
    for power, value in enumerate(last):
        following[power] -= 2 * value
    for power, value in enumerate(one_before):
        following[power] -= value
    return tuple(following)


def economized(coefficients: Sequence[Fraction], largest: Fraction, tolerance: float) -> tuple[float, ...]:
    """A polynomial of lower degree that differs by at most `tolerance` on [0, `largest`].

    Multiples of Chebyshev polynomials take one leading coefficient after another away, exactly, in rationals (Lanczos'
    economisation of power series).

    Args:
        coefficients: Lowest power first.
        largest: End of the interval on which the polynomial is used.
        tolerance: Bound of the sum of all that is taken away.

    Example:
        >>> economized([Fraction(1), Fraction(0), Fraction(1, 100)], Fraction(1), 0.01)  # 1 + x²/100 on [0, 1]
        (0.99875, 0.01)
    """
    scaled = [value * largest**power for power, value in enumerate(coefficients)]
    allowed = Fraction(tolerance)
    while len(scaled) > 2:
        degree = len(scaled) - 1
        multiple = scaled[-1] / 2 ** (2 * degree - 1)
        if abs(multiple) > allowed:
            break
        allowed -= abs(multiple)
        scaled = [value - multiple * other for value, other in zip(scaled, _chebyshev(degree), strict=True)][:-1]
    return tuple(float(value / largest**power) for power, value in enumerate(scaled))
