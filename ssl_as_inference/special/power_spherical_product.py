r"""The integral of a product of two Power Spherical densities, in closed form and by a contour integral.

With $b = (d-1)/2$, $h = (1+\mu_1^\top\mu_2)/2$, $e = 1-h$ and $a_i = b+\kappa_i$,

$$Z = \int \mathrm{PS}(z;\mu_1,\kappa_1)\,\mathrm{PS}(z;\mu_2,\kappa_2)\,dz
    = \frac{\Gamma(a_1+b)\,\Gamma(a_2+b)}{(4\pi)^b\,\Gamma(b)\,\Gamma(\kappa_1+\kappa_2+2b)}\;
      {}_2F_1(-\kappa_1,-\kappa_2;b;h),$$

a polynomial in h when a concentration is an integer: the series in Gegenbauer polynomials, resummed. For other and for
large concentrations its loop integral (DLMF 15.6.2, after Pfaff's transformation) is used,

$${}_2F_1(-\kappa_1,-\kappa_2;b;h) = \frac{\Gamma(b)\Gamma(q)}{\Gamma(b+\kappa_2)}\,\frac1{2\pi i}
  \int y^{-q}(1-y)^{-p}(1-ey)^{\kappa_1}\,dy, \qquad q = \kappa_2+1,\; p = \kappa_1+b,$$

over a path that separates 0 from 1. It crosses the real axis at the saddle y* and follows the curve on which the
angles of y at 0 and of 1 − y at 1 are as (1−y*) : y*, along which the integrand hardly oscillates: for e = 0 and e = 1
this is the path of steepest descent, on which it is positive. With $y = y^*\,\frac{\operatorname{sinc}(y^*\xi)}
{\operatorname{sinc}(\xi)}e^{i\pi(1-y^*)\xi}$ the way ξ goes from −1 to 1; it is itself the hyperbolic tangent of a
hyperbolic sine scaled to the width of the saddle, in which the trapezoidal rule with a fixed number of nodes errs
by some ten roundings of max(d, |log Z|), above κ = 1e20 by some 3e-13. The domain is κ ≤ 1e300, d ≥ 2. On the circle
the derivative by e grows without bound as e and the concentrations go to 0, and has a relative error of up to 5e-10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.special.gamma_differences import STIRLING_COEFFICIENTS, lgamma_difference
from ssl_as_inference.sphere import checked_dim

_NODES = 128
# On the circle an integrand of small concentration falls slowly, and so the way is long.
_NODES_ON_THE_CIRCLE = 512
_END = 20.0  # of the variable whose tanh is the fraction of the way: 1 − tanh 20 = 8e-18
_MOST_WIDTHS = 1e6  # of the saddle: what lies farther out is below e^{−10^10}, the more so the narrower it is
_STIRLING_FROM = 16.0
_SMALL_ANGLE = 0.1  # radians; 0.1^18 is what is cut off in a series
_SHORT = 0.25
# −log{sin(πt)/(πt)} = Σ ζ(2k)/k t^{2k}, cut at 0.25^28; from ζ(6) on the sum over n has converged at n = 1000
_ZETA = (math.pi**2 / 6, math.pi**4 / 90, *(math.fsum(n ** (-2.0 * k) for n in range(1, 1000)) for k in range(3, 14)))
_LOG_SINC = tuple(zeta / k for k, zeta in enumerate(_ZETA, start=1))


def _log_sinc(t: Tensor, complement: Tensor) -> Tensor:
    """Log of sin(πt)/(πt) for 0 ≤ t ≤ 1, complement = 1 − t given as well."""
    square = t.clamp_max(_SHORT).square()
    series = torch.zeros_like(t)
    for coefficient in reversed(_LOG_SINC):
        series = (series + coefficient) * square
    sine = torch.sin(math.pi * torch.minimum(t, complement))
    return torch.where(t < _SHORT, -series, (sine / (math.pi * t)).log())


def _cotangent(t: Tensor, complement: Tensor) -> Tensor:
    """Cotangent of πt for 0 ≤ t ≤ 1, complement = 1 − t given as well."""
    return torch.where(t < complement, 1 / (math.pi * t).tan(), -1 / (math.pi * complement).tan())


def _cotangent_fall(t: Tensor, complement: Tensor) -> Tensor:
    """The fall 1 − πt cot(πt) = 2 Σ ζ(2k) t^{2k} for 0 ≤ t < 1."""
    square = t.clamp_max(_SHORT).square()
    series = torch.zeros_like(t)
    for zeta in reversed(_ZETA):
        series = (series + zeta) * square
    return torch.where(t < _SHORT, 2 * series, 1 - math.pi * t * _cotangent(t, complement))


def _stirling_remainder(x: Tensor) -> Tensor:
    """The remainder log Γ(x) − {(x−½) log x − x + ½ log 2π}, for x > 0."""
    # Not clamp, which drops the derivative at the end.
    inverse = torch.where(x < _STIRLING_FROM, _STIRLING_FROM, x).reciprocal()
    series = torch.zeros_like(x)
    for coefficient in reversed(STIRLING_COEFFICIENTS[-1]):
        series = series * inverse + coefficient
    small = torch.where(x < _STIRLING_FROM, x, 1.0)
    direct = small.lgamma() - ((small - 0.5) * small.log() - small + math.log(2 * math.pi) / 2)
    return torch.where(x < _STIRLING_FROM, direct, series)


def _stirling_step(x: Tensor, y: Tensor) -> Tensor:
    """The difference log Γ(x) − log Γ(x+y) for y ≥ 0."""
    total = x + y
    return y - (x - 0.5) * (y / x).log1p() - y * total.log() + _stirling_remainder(x) - _stirling_remainder(total)


def _excess_angle(scale: Tensor, log_size: Tensor, angle: Tensor, factor_angle: Tensor) -> Tensor:
    r"""$\arg\{1+s(e^{L+i\theta}-1)\} - s\theta$, given the first term, without cancellation for small L and θ."""
    theta = angle.clamp_max(_SMALL_ANGLE)
    square = theta.square()
    sine_less_angle = torch.zeros_like(theta)  # (sin θ − θ)/θ³
    for k in range(6, 0, -1):
        sine_less_angle = (-1) ** k / math.factorial(2 * k + 1) + square * sine_less_angle
    sine_less_angle = sine_less_angle * square * theta
    growth = torch.expm1(log_size)
    in_phase = growth * theta.cos() - 2 * (theta / 2).sin().square()  # Re{exp(L+iθ) − 1}
    real = 1 + scale * in_phase
    turned = scale * (growth * theta.sin() + sine_less_angle - scale * theta * in_phase) / real
    tangent = scale * (growth + 1) * theta.sin() / real
    square = tangent.square()
    arc_less_tangent = torch.zeros_like(theta)  # (arctan t − t)/t³
    for k in range(9, 0, -1):
        arc_less_tangent = (-1) ** k / (2 * k + 1) + square * arc_less_tangent
    return torch.where(angle < _SMALL_ANGLE, turned + arc_less_tangent * square * tangent, factor_angle - scale * angle)


def _log_ratio(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """The logarithm of end/start, step = end − start, wherever the two are near each other or far apart."""
    near = step.abs() < start / 2
    return torch.where(near, (torch.where(near, step, 0.0) / start).log1p(), (end / start).log())


def _with_value(quantity: Tensor, value: Tensor) -> Tensor:
    """The quantity, with its derivatives, whose value is known to more digits."""
    return quantity + (value - quantity).detach()


def _log_contour_integral(q: Tensor, p: Tensor, kappa: Tensor, e: Tensor, h: Tensor, b: float) -> Tensor:
    r"""Log of $B(r,q)\,\frac1{2\pi i}\int y^{-q}(1-y)^{-p}(1-ey)^\kappa dy$, p = κ + b; r = p if e ≤ ½ and b otherwise.

    B(r, q) is taken along because it cancels the height of the saddle, but for Stirling's remainder, at e = 0 or e = 1.
    For e > ½ the integrand is written $y^{-q}(1-y)^{-b}\{1+hy/(1-y)\}^\kappa$. The path is a constant: the integral
    does not depend on it.
    """
    ahead = h >= 0.5
    moving = q, p, kappa, e, h
    q, p, kappa, e, h = (tensor.detach() for tensor in moving)
    linear = q * (1 + e) + kappa * h + b
    # a root of three squares, none of which is formed: it would leave the range of the numbers
    root = torch.hypot(q * h, kappa * h + b).hypot((2 * q * h).sqrt() * ((1 + e) * kappa + b).sqrt())
    # y*, 1 − y* and 1 − ey*, none of them as a difference, since each may be small
    saddle, rest = 2 * q / (linear + root), (root + h * (kappa - q) + b) / (linear + root)
    factor = rest + h * saddle
    leaning = b + kappa * (h / factor) * (1 + e * rest / factor)  # p − κ{e(1−y*)/(1−ey*)}²
    curvature = q * rest.square() + saddle.square() * leaning
    width = (1 + math.pi**2 * curvature).rsqrt().unsqueeze(-1)

    # The way ξ from 0 at the saddle to 1 at infinity, where the integrand falls like (1−ξ) to the power q + b − 1
    end = torch.minimum(_END / (q - 1 + b).clamp_max(1).unsqueeze(-1), _MOST_WIDTHS * width)
    index = torch.arange(_NODES if b >= 1 else _NODES_ON_THE_CIRCLE, dtype=q.dtype, device=q.device)
    step = torch.asinh(end / width) / (len(index) - 1)
    x, z = step * index, width * (step * index).sinh()
    way, left = z.tanh(), 2 / (1 + (2 * z).exp())
    weight = step * width * x.cosh() / z.cosh().square()
    weight = torch.cat([weight[..., :1] / 2, weight[..., 1:]], dim=-1)

    y0, y1 = saddle.unsqueeze(-1), rest.unsqueeze(-1)
    # log |y/y*| and log |(1−y)/(1−y*)|, logarithms of sin(πtξ)/{t sin(πξ)} with t = y* and 1 − y*. The exponent
    # of the one with t near 1 may be large; 1 − t is then taken apart by the addition theorem.
    small = torch.minimum(y0, y1)
    log_sinc = _log_sinc(small * way, left + (1 - small) * way)
    fall = _cotangent_fall(way, left)
    turned = small * (fall - (1 - fall) * torch.expm1(log_sinc)) - 2 * (math.pi / 2 * small * way).sin().square()
    log_small, log_large = log_sinc - _log_sinc(way, left), (turned / (1 - small)).log1p()
    log_y, log_1y = torch.where(y0 <= 0.5, log_small, log_large), torch.where(y0 <= 0.5, log_large, log_small)
    alpha, beta = math.pi * y1 * way, math.pi * y0 * way  # arg y, −arg(1−y)
    # dy/dξ = y {π y* cot(πy*ξ) − π cot(πξ) + iπ(1−y*)}, the bracket being the derivative of log y
    slope = math.pi * (y0 * _cotangent(y0 * way, left + y1 * way) - _cotangent(way, left))
    slope = torch.where(way > 0, slope, 0.0)
    # u = y/y* − 1 if e ≤ ½ and {y/(1−y)}/{y*/(1−y*)} − 1 otherwise
    log_size = torch.where(ahead.unsqueeze(-1), log_y, log_y - log_1y)
    angle = torch.where(ahead.unsqueeze(-1), alpha, math.pi * way)
    u_re = torch.expm1(log_size) * angle.cos() - 2 * (angle / 2).sin().square()
    u_im = log_size.exp() * torch.where(ahead.unsqueeze(-1), angle, math.pi * torch.minimum(way, left)).sin()
    q, p, kappa, e, h = moving

    tilt = torch.where(ahead, -e * saddle, h * (saddle / rest))  # 1 + tilt is the last factor at the saddle
    scale = (tilt / (1 + tilt)).unsqueeze(-1)
    factor_re, factor_im = scale * u_re, scale * u_im
    log_factor = (factor_re * (factor_re + 2) + factor_im.square()).log1p() / 2
    factor_angle = torch.atan2(factor_im, 1 + factor_re)
    r = torch.where(ahead, p, b)
    q_, r_, kappa_ = q.unsqueeze(-1), r.unsqueeze(-1), kappa.unsqueeze(-1)
    # One power of y is that of dy.
    magnitude = (1 - q_) * log_y - r_ * log_1y + kappa_ * log_factor
    # Three large terms that all but cancel: by the equation of the saddle what remains is this.
    remains = alpha + kappa_ * _excess_angle(scale, log_size, angle, factor_angle)
    phase = _with_value((1 - q_) * alpha + r_ * beta + kappa_ * factor_angle, remains)
    total = (weight * magnitude.exp() * (phase.cos() * (math.pi * y1) + phase.sin() * slope)).sum(-1) / math.pi

    exponent = r + q
    start, start_rest = q / exponent, r / exponent  # the saddle without the last factor
    # by the equation of the saddle
    shift = _with_value(start - saddle, kappa * saddle * torch.where(ahead, -e * rest, h) / factor / exponent)
    height = q * _log_ratio(start, saddle, shift) + r * _log_ratio(start_rest, rest, -shift) + kappa * tilt.log1p()
    prefactor = (2 * math.pi / (start * start_rest * exponent)).log() / 2
    remainder = _stirling_remainder(r) + _stirling_remainder(q) - _stirling_remainder(exponent)
    return height + prefactor + remainder + (saddle * total).log()


def power_spherical_pair_log_normalizer(
    dim: int, first: Tensor, second: Tensor, half_gap: Tensor, half_height: Tensor
) -> Tensor:
    r"""$\log\int \mathrm{PS}(z;\mu_1,\kappa_1)\,\mathrm{PS}(z;\mu_2,\kappa_2)\,dz$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        first: $\kappa_1$, from 0 to 1e300.
        second: $\kappa_2$, from 0 to 1e300.
        half_gap: $e = (1-\mu_1^\top\mu_2)/2$.
        half_height: $h = (1+\mu_1^\top\mu_2)/2 = 1 - e$, given as well so that either may be small.

    Returns:
        Broadcast shape, float64.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> one, half = torch.ones(()), torch.full((), 0.5)
        >>> z = power_spherical_pair_log_normalizer(3, one, one, half, half).exp()  # (1 + μ₁ᵀμ₂/3)/4π in space
        >>> z * 4 * torch.pi
        tensor(1., dtype=torch.float64)
    """
    dim = checked_dim(dim)
    first, second, e, h = torch.broadcast_tensors(
        first.double(), second.double(), half_gap.double(), half_height.double()
    )
    b = (dim - 1) / 2
    # Not minimum and maximum, which share the derivative where the two are equal.
    ordered = first <= second
    low, high = torch.where(ordered, first, second), torch.where(ordered, second, first)
    q, p = low + 1, high + b
    integral = _log_contour_integral(q, p, high, e, h, b)
    peak = -lgamma_difference(low + b, b, lower=b, scale=4 * math.pi)
    # e ≤ ½: Γ(κ₁+κ₂+b+1)/Γ(κ₁+κ₂+2b) and the other peak
    if b >= 1:
        ahead = lgamma_difference(p + q, b - 1, lower=b + 1)
    else:
        ahead = -lgamma_difference(low + high + 2 * b, 1 - b, lower=2 * b)
    ahead = ahead - lgamma_difference(p, b, lower=b)
    # e > ½: Γ(κ₁+2b)/Γ(κ₁+κ₂+2b) · Γ(q+b)/Γ(b)
    behind = _stirling_step(high + 2 * b, low) - _stirling_step(torch.full_like(q, b), q)
    return integral + peak + torch.where(h >= 0.5, ahead, behind)
