r"""Tails of the Beta distribution and how they move with its parameter, by quadrature that never subtracts.

$H = (1-\mu^\top z)/2 \sim \mathrm{Beta}(b, a)$ is half the gap of a Power Spherical variable, F its distribution
function, $b = (d-1)/2$, $a = b+\kappa$. In the variable $\ell = -\log(1-h)$ its density is
$(1-e^{-\ell})^{b-1}e^{-a\ell}/B(b,a)$ and $\mathbb{E}\,\ell = \psi(a+b)-\psi(a) = D$. So

$$\partial_a F(h) = \int_0^{\ell(h)} (D-\ell)\,p(\ell)\,d\ell = \int_{\ell(h)}^\infty (\ell-D)\,p(\ell)\,d\ell ,$$

the first with a positive integrand if $\ell(h) \le D$ and the second if not: the side is chosen accordingly, so that
digits are lost neither there nor in the far tails. The integrand is log-concave in log ℓ below, and in ℓ above; a few
Newton steps find where it has fallen by $e^{-38}$, and Gauss and Legendre's rule does the rest. The number of steps and
nodes is fixed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NODES = 40
_FALL = 38.0  # e^{−38} = 3e-17: what lies farther out is below the rounding of the integral
_NEWTON_STEPS = 8  # each halves the distance to the end of the window at least; stopping early only widens it
_LEGENDRE = np.polynomial.legendre.leggauss(_NODES)
_ABSCISSAE = tuple(((_LEGENDRE[0] + 1) / 2).tolist())
_WEIGHTS = tuple((_LEGENDRE[1] / 2).tolist())


def negative_log_complement(h: Tensor, c: Tensor) -> Tensor:
    """ℓ = −log(1 − h), from c = 1 − h where that is the smaller."""
    return torch.where(h < 0.5, -(-h).log1p(), -c.log())


def beta_tail(a: Tensor, b: float, mean: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mass and first moment of the tail of Beta(b, a) beyond h, on the side away from the mean of ℓ.

    Args:
        a: Second parameter, float64.
        b: First parameter, a multiple of one half.
        mean: $D = \psi(a+b)-\psi(a)$.
        h: Point in (0, 1), broadcastable with `a`.
        c: 1 − h, given separately so that both may be small.

    Returns:
        `below`, whether the tail is the lower one; the mass P(H ≤ h) or P(H > h); and the moment $\partial_a F(h) > 0$;
        both divided by $p(h)(1-h)$, the density of ℓ. Broadcast shape.
    """
    start = negative_log_complement(h, c)
    below = start <= mean
    y, v = _window(a.detach(), b, h.detach(), start.detach(), below)

    x = torch.tensor(_ABSCISSAE, dtype=h.dtype, device=h.device)
    weight = torch.tensor(_WEIGHTS, dtype=h.dtype, device=h.device)
    shape = torch.broadcast_shapes(a.shape, h.shape)
    a, mean, h, start, below, y, v = (t.expand(shape).unsqueeze(-1) for t in (a, mean, h, start, below, y, v))
    width = -torch.expm1(-y) * x
    offset = torch.where(below, -start * width * (2 - width), v * x.square())
    jacobian = torch.where(below, -2 * start * (1 - width) * torch.expm1(-y), 2 * v * x)
    ell = start + offset
    density = ((b - 1) * (-torch.expm1(-ell) / h).log() - a * offset).exp() * jacobian * weight
    return below.squeeze(-1), density.sum(-1), (density * (ell - mean).abs()).sum(-1)


def _window(a: Tensor, b: float, h: Tensor, start: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Where the density has fallen by e^{−38} on either side; what is integrated there does not depend on it."""
    exponent = b * torch.log(start / h)
    # Lower side, ℓ = start·r² with r = e^{−y}: −expm1(−ℓ) ≤ ℓ bounds the fall from above.
    y = (_FALL + exponent + a * start) / (2 * b)
    # Upper side, ℓ = start + v: −expm1(−ℓ) ≤ 1 does.
    v = (_FALL - b * h.log()) / a
    for _ in range(_NEWTON_STEPS):
        ell = torch.where(below, start * (-2 * y).exp(), start + v)
        offset = torch.where(below, start * torch.expm1(-2 * y), v)
        excess = b * (-torch.expm1(-ell) / h).log() - a * offset + _FALL
        slope = b / torch.expm1(ell) - a
        # Newton's steps from the far side of a concave function's root never pass it.
        y = torch.where(below, (y + excess / (2 * ell * slope)).clamp_min(0), y)
        v = torch.where(below, v, (v - excess / slope).clamp_min(0))
    return y, v
