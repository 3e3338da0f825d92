"""Differences of log Γ and its derivatives at x and x + b, to the last digits at every size of x.

Subtracting two values of `lgamma` or `digamma` leaves the rounding error of the larger one: at x = 1e6 nine digits of
ψ(x) − ψ(x+1) are gone, at x = 1e16 all of them. Here the subtraction is done term by term in Stirling's series, where
it is exact: with i = 1/x and i' = 1/(x+b) every term is a power, and i − i' = b i i'.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.special.constant import constant
from ssl_as_inference.special.polynomials import polynomial, polynomial_difference

# Stirling's series is used from here on. With the eight terms below it is cut at the ninth, which relative to the
# leading term is at most B₁₈ (19·20/2) / 16^18 = 2e-18 for every order up to three.
_STIRLING_FROM = 16.0
BERNOULLI = [
    Fraction(*pair) for pair in ((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510))
]


def recurrence_steps(lower: float) -> int:
    """How often x → x + 1 is applied so that x ≥ `lower` comes to where Stirling's series holds."""
    return max(0, math.ceil(_STIRLING_FROM - lower))


def _stirling_coefficients(order: int) -> tuple[float, ...]:
    r"""Coefficients of $1, i, i^2, …$ in the power part of the series of $(-1)^{n+1}\psi^{(n)}(1/i)$, n = `order`.

    DLMF 5.11.1 (n = −1, log Γ), 5.11.2 (n = 0) and 5.15.8 with its derivatives (n ≥ 1). The terms that are no
    powers, $\log x$ for n ≤ 0, are left to the caller.
    """
    size = max(order, 0) + 2 * len(BERNOULLI) + 2
    coefficients = [Fraction(0)] * size
    if order >= 1:
        coefficients[order] += math.factorial(order - 1)
    if order >= 0:
        coefficients[order + 1] += Fraction(math.factorial(order), 2)
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        coefficients[2 * k + order] += bernoulli * Fraction(math.factorial(2 * k + order - 1), math.factorial(2 * k))
    return tuple(float(c) for c in coefficients)


HIGHEST_ORDER = 8
STIRLING_COEFFICIENTS = {order: _stirling_coefficients(order) for order in range(-1, HIGHEST_ORDER + 1)}


@constant
def _needed_coefficients(order: int, start: float) -> tuple[float, ...]:
    """The series without the terms that are below the rounding of the leading one for every 1/i ≥ `start`."""
    coefficients = STIRLING_COEFFICIENTS[order]
    leading = math.factorial(max(order, 0))
    size = len(coefficients)
    while size > 2:
        power = size - 1  # the derivative of the term over that of the leading one, up to b and a power of i
        if power * abs(coefficients[power]) > 1e-18 * leading * start ** (power - max(order, 0)):
            break
        size -= 1
    return coefficients[:size]


def stirling_tail_difference(near: Tensor, far: Tensor, lower: float) -> Tensor:
    """The power part of Stirling's series of log Γ at `near` less that at `far`, both ≥ `lower` ≥ 16."""
    inverse = torch.stack((near, far)).reciprocal()
    tail = polynomial(_needed_coefficients(-1, lower)[1::2], inverse.square()) * inverse
    return tail[0] - tail[1]


def _stirling_difference(near: Tensor, far: Tensor, b: float, lower: float, order: int, scale: float) -> Tensor:
    """The difference of two Stirling series at `far` = `near` + b, with the sign that makes it positive for n ≥ 0."""
    if order == -1:
        tail = stirling_tail_difference(near, far, lower).sub((far / (math.e * scale)).log(), alpha=b)
        return torch.addcmul(tail, near - 0.5, (b / near).log1p(), value=-1)
    needed = _needed_coefficients(order, lower)
    inverse = torch.stack((near, far)).reciprocal()
    inverse_near, inverse_far = inverse
    if order > 0:
        return polynomial_difference(needed, inverse_near, inverse_far, b * inverse_near * inverse_far)
    # What is left of the series beside the leading terms falls off so fast that a plain difference of it is exact.
    square = inverse.square()
    tail = polynomial(needed[2::2], square) * square
    step: Tensor = b * inverse_near
    return torch.addcmul(tail[0] - tail[1], step, inverse_far, value=0.5) + step.log1p()


def _difference(x: Tensor, b: float, lower: float, order: int, scale: float) -> Tensor:
    steps = recurrence_steps(lower)
    series = _stirling_difference(x + steps if steps else x, x + (steps + b), b, lower + steps, order, scale)
    if steps:
        shifted = x.unsqueeze(-1) + torch.arange(steps, dtype=x.dtype, device=x.device)
        low = shifted.reciprocal()
        if order == -1:
            step = (b * low).log1p()
        else:
            high = (shifted + b).reciprocal()
            powers = torch.ones_like(low)  # (low^{n+1} − high^{n+1}) / (low − high)
            for i in range(1, order + 1):
                powers = powers * high + low**i
            step = math.factorial(order) * b * low * high * powers
        series = series + step.sum(-1)
    return series if order % 2 else -series


class _PolygammaDifference(Elementwise):
    """ψ⁽ⁿ⁾(x) − ψ⁽ⁿ⁾(x+b), each derivative from its own formula rather than from that of the value."""

    @staticmethod
    def value(x: Tensor, b: float, lower: float, order: int, scale: float) -> Tensor:
        return _difference(x, b, lower, order, scale)

    @staticmethod
    def partials(x: Tensor, b: float, lower: float, order: int, scale: float) -> tuple[Tensor]:
        del scale  # only log Γ has it, as a term without x
        return (_PolygammaDifference.apply(x, b, lower, order + 1, 1.0),)


def _apply(x: Tensor, b: float, lower: float, order: int, scale: float = 1.0) -> Tensor:
    if b < 0:
        raise ValueError(f"b must be >= 0, got {b}")
    dtype = x.dtype if x.dtype in {torch.float32, torch.float64} else torch.float32
    value: Tensor = _PolygammaDifference.apply(x.double(), float(b), float(lower), order, float(scale))
    return value.to(dtype)


def lgamma_difference(x: Tensor, b: float, *, lower: float = 0.0, scale: float = 1.0) -> Tensor:
    r"""$\log\Gamma(x) - \log\Gamma(x+b) + b\log s$ without cancellation, s = `scale`.

    For y = x + N, with N fixed by `lower`, it is $-\{b\log\frac{y+b}{es} + (y-\tfrac12)\log(1+b/y)\}$ plus the
    difference of the power parts of Stirling's series (DLMF 5.11.1), plus $\sum_{k<N}\log\{1+b/(x+k)\}$ from the
    recurrence. Differentiable nine times.

    Args:
        x: Positive; any shape. Computed in float64, returned in the dtype of `x`.
        b: Shift ≥ 0.
        lower: A number that no x falls below; a larger one saves work, from 16 on the recurrence.
        scale: s > 0; log Γ(x+b) − log Γ(x) is about b log x, and a constant b log s that is to be taken from it loses
            no digits if it enters here.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: If b is negative or s not positive.

    Example:
        >>> lgamma_difference(torch.tensor(1e12, dtype=torch.float64), 1.0)  # −log x
        tensor(-27.6310, dtype=torch.float64)
    """
    if not scale > 0:
        raise ValueError(f"scale must be > 0, got {scale}")
    return _apply(x, b, lower, -1, scale)


def polygamma_difference(order: int, x: Tensor, b: float, *, lower: float = 0.0) -> Tensor:
    r"""$\psi^{(n)}(x) - \psi^{(n)}(x+b)$ without cancellation. Differentiable 8 − n times.

    Args:
        order: n from 0, the digamma function, to 8.
        x: Positive; any shape. Computed in float64, returned in the dtype of `x`.
        b: Shift ≥ 0.
        lower: A number that no x falls below; a larger one saves work, from 16 on the recurrence.

    Returns:
        Shape and dtype of `x`; relative error a few units in the last place for n ≤ 3.

    Raises:
        ValueError: If b is negative or the order out of range.

    Example:
        >>> polygamma_difference(0, torch.tensor(2.0), 1.0)  # ψ(x) − ψ(x+1) = −1/x
        tensor(-0.5000)
    """
    if not 0 <= order <= HIGHEST_ORDER:
        raise ValueError(f"order must be from 0 to {HIGHEST_ORDER}, got {order}")
    return _apply(x, b, lower, order)
