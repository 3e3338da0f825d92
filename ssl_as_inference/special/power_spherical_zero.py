r"""log C(κ) of the Power Spherical distribution around the concentration at which it vanishes.

From d = 19 on the sphere's area is below one, so that log C is positive at κ = 0. It rises a little, then falls through
zero at one $\kappa_0$, of the size of d log d. There the log density at the mode and κ log 2 cancel, and the rounding
of either is the error, 1e-10 at d = 100,000. Here the *difference* of log C from its zero is taken, term by term
(`power_spherical_difference.py`), with $\delta = \kappa-\kappa_0$ and $\kappa_0$ known to twice the digits.
"""

from __future__ import annotations

import decimal
import math
from decimal import Decimal

import torch
from torch import Tensor

from ssl_as_inference.special.constant import constant
from ssl_as_inference.special.gamma_differences import BERNOULLI
from ssl_as_inference.special.power_spherical_difference import peak_difference_by_terms

FIRST_DIM = 20
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_DIGITS = 45
_SHIFTED_TO = 100  # with eight terms Stirling's series is then cut at 1e-36


def _log_gamma_tail(x: Decimal) -> Decimal:
    total = Decimal(0)
    for k, bernoulli in enumerate(BERNOULLI, start=1):
        total += Decimal(bernoulli.numerator) / (bernoulli.denominator * 2 * k * (2 * k - 1) * x ** (2 * k - 1))
    return total


def _exact_log_normalizer(dim: int, concentration: Decimal) -> Decimal:
    b = Decimal(dim - 1) / 2
    a = b + concentration
    value = -b * (4 * _PI).ln() - concentration * Decimal(2).ln()
    steps = Decimal(1)
    while a < _SHIFTED_TO:
        steps *= a / (a + b)
        a += 1
    far = a + b
    value += (far - Decimal("0.5")) * far.ln() - (a - Decimal("0.5")) * a.ln() - b + steps.ln()
    return value + _log_gamma_tail(far) - _log_gamma_tail(a)


@constant
def _zero(dim: int) -> tuple[float, float]:
    with decimal.localcontext(prec=_DIGITS):
        kappa = Decimal(dim)
        while _exact_log_normalizer(dim, kappa) > 0:
            kappa *= 2
        for _ in range(60):  # Newton's steps; log C is concave, so that they fall to the zero from above
            near = float(kappa) + (dim - 2) / 2
            slope = math.log1p((dim - 1) / 2 / near) - math.log(2)
            step = _exact_log_normalizer(dim, kappa) / Decimal(slope)
            kappa -= step
            if abs(step) < kappa * Decimal("1e-36"):
                break
        high = float(kappa)
        return high, float(kappa - Decimal(high))


def log_normalizer_from_zero(dim: int, kappa: Tensor) -> Tensor:
    """Log C(κ) for d ≥ 20 and float64 κ, without a derivative."""
    high, low = _zero(dim)
    delta = kappa - high - low
    return peak_difference_by_terms(dim, kappa, torch.full_like(kappa, high), delta) - delta * math.log(2)
