r"""The mean of $\log\tfrac12(1+\mu^\top z)$ when z is von Mises–Fisher or Power Spherical about another direction f.

It is the cross-entropy to a Power Spherical expert, less its normaliser. Its expansion in Gegenbauer polynomials of
$c = \mu^\top f$ converges slowly near c = −1 and not at all in practice for a concentrated distribution. Here it is an
integral over one variable with a positive, elementary integrand, for every d ≥ 2.

Let $b = (d-1)/2$, $e = (1-c)/2$, $h = (1+c)/2$. Stereographic projection from −f turns PS(f, τ) into a multivariate t
distribution and $\tfrac12(1+\mu^\top z)$ into a quotient of noncentral chi-squares: a mixture of digammas $\psi(b+J)$,
J negative binomial. With $\psi$ as an integral and the mixture summed by its generating function,

$$\mathbb{E}_{\mathrm{PS}(f,\tau)}\log\tfrac{1+\mu^\top z}{2}
  = -\int_0^1 (1-w)^{b-1}\bigl\{(1-hw)^\tau - (1-w)^{\tau+b}\bigr\}\frac{dw}{w}.$$

The vMF density is a mixture of Power Spherical ones with integer exponents n, whose weights have the generating
function $Q(x) = \mathbb{E}x^n = \exp\{-2\tau(1-x) + u(\tau) - u(\tau x)\}$, $u = \log C+\kappa$ of the vMF; so

$$\mathbb{E}_{\mathrm{vMF}(f,\tau)}\log\tfrac{1+\mu^\top z}{2}
  = -\int_0^1 (1-w)^{b-1}\bigl\{Q(1-hw) - (1-w)^b Q(1-w)\bigr\}\frac{dw}{w}.$$

**Quadrature.** In $x = \log s$, $w = 1-e^{-s}$, the integrand is analytic and bounded for |Im x| < π/2, since a
generating function is bounded on the unit disc. The trapezoidal rule of step η then errs by $O(e^{-\pi^2/\eta})$. The
first of the factors $(1-hw)^\tau$ has a branch point; for the Power Spherical s is therefore the variable of
$w = v/(e+hv)$, $v = 1-e^{-es}$, in which it becomes $\{1+hV\}^{-\tau}$, V = v/e, without one. The nodes run from where
the integrand is linear in s, the rest of the geometric series being added to the first weight, to where it has fallen
by $e^{-40}$; their number is fixed and their step at most 0.3 over $b+\tau \le 10^{12}$, that is an error of 1e-14. In
the plane and in space, where the integrand may reach as far as 1/e, there are more of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.special.gamma_differences import polygamma_difference
from ssl_as_inference.special.log_bessel_difference import von_mises_fisher_peak_difference
from ssl_as_inference.sphere import checked_dim

_FALL = 40.0  # e^{−40} = 4e-18
_START = math.exp(-18.0)  # relative to the scale of the integrand: what is dropped is of second order, e^{−36}
_NODES = 224
_NODES_UP_TO_SPACE = 384  # where τ is small the integrand falls slowly, and so the way is long
_SMALLEST_GAP = 1e-33  # of unit vectors in float64 that are not the same, but for some beside an axis
_LEAST_FALL = 0.06  # e^{40/0.06} is the largest power of e with a number
_SHORT = 0.5
# φ(t) = (1−e^{−t})/t; with these terms the series is cut at 0.5^14/15! = 5e-17
_PHI = tuple((-1) ** k / math.factorial(k + 1) for k in range(14))


def _phi(t: Tensor) -> Tensor:
    """(1 − e^{−t})/t for t ≥ 0, with all its derivatives at 0."""
    short = t.clamp_max(_SHORT)
    series = torch.full_like(short, _PHI[-1])
    for coefficient in reversed(_PHI[:-1]):
        series = series * short + coefficient
    long = torch.where(t < _SHORT, 1.0, t)
    return torch.where(t < _SHORT, series, -torch.expm1(-long) / long)


def _nodes(start: Tensor, end: Tensor, count: int = _NODES) -> tuple[Tensor, Tensor]:
    """Nodes s and weights for ∫ F(s) ds/s by the trapezoidal rule in log s; a last dimension is added."""
    step = (end / start).log() / (count - 1)
    index = torch.arange(count, dtype=start.dtype, device=start.device)
    s = start.unsqueeze(-1) * (step.unsqueeze(-1) * index).exp()
    # Left of the first node F is proportional to s, and so are the terms of the infinite rule.
    first = step / -torch.expm1(-step)
    weight = torch.where(index == 0, first.unsqueeze(-1), step.unsqueeze(-1))
    return s, weight


def _integral(weight: Tensor, log_first: Tensor, log_ratio: Tensor, phi: Tensor) -> Tensor:
    """Of {first − first · ratio} s/φ over the nodes: both terms are generating functions, and the ratio is below 1."""
    return (weight * log_first.exp() * -torch.expm1(log_ratio) / phi).sum(-1)


def _time_to(w: Tensor) -> Tensor:
    """The s at which 1 − exp(−s) is w; infinite from w = 1 on."""
    return torch.where(w < 1, -torch.log1p(-torch.where(w < 1, w, 0.5)), math.inf)


def _check(dim: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    checked_dim(dim)
    return tuple(torch.broadcast_tensors(*(tensor.double() for tensor in tensors)))


def _deficit_nodes(b: float, a: Tensor, e: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    # The fall is b·e·s + a·log(1+hV) with a = τ+b, less the growth of 1 − exp(−τes), which is at most that of s. Where
    # either of the two terms alone reaches it is far enough; up to a = 1 the second one never does.
    e = e.clamp_min(_SMALLEST_GAP)
    whole = torch.expm1(_FALL / (a - 1).clamp_min(_LEAST_FALL)) / h
    part = e * whole
    turned = torch.where(part > 0, _time_to(part) / e, whole)
    return _nodes(_START / a, torch.minimum(_FALL / (b * e), turned), _NODES if b > 1 else _NODES_UP_TO_SPACE)


def power_spherical_log_height_deficit(
    dim: int, concentration: Tensor, half_gap: Tensor, half_height: Tensor
) -> Tensor:
    r"""How much of $\mathbb{E}\log(1+\mu^\top z)$ under PS(f, τ) is lost when μ turns away from f.

    With the notation of the module, $\Delta(\tau,c) = \mathbb{E}_{c=1} - \mathbb{E}_c
    = \int_0^\infty e^{-bes}(1+hV)^{-(\tau+b)}(1-e^{-\tau es})\,\frac{e\,ds}{1-e^{-es}} \ge 0$, which keeps its relative
    accuracy when the directions nearly agree, down to e = 1e-33, and vanishes when they do.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: τ ≥ 0.
        half_gap: $e = (1-\mu^\top f)/2$.
        half_height: $h = (1+\mu^\top f)/2 = 1 - e$, given as well so that either may be small.

    Returns:
        Broadcast shape, float64.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> one = torch.ones(())
        >>> power_spherical_log_height_deficit(3, one, one, 0 * one)  # from log 2 − 1/2 to log 2 − 3/2 in space
        tensor(1.0000, dtype=torch.float64)
    """
    tau, e, h = _check(dim, concentration, half_gap, half_height)
    b = (dim - 1) / 2
    a = tau + b
    s, weight = _deficit_nodes(b, a.detach(), e.detach(), h.detach())
    tau, a, e, h = (t.unsqueeze(-1) for t in (tau, a, e, h))
    phi = _phi(e * s)
    exponent = -b * e * s - a * (h * s * phi).log1p()
    return _integral(weight, exponent, -tau * e * s, phi)


def power_spherical_cross_log_height(dim: int, concentration: Tensor, half_gap: Tensor, half_height: Tensor) -> Tensor:
    r"""$\mathbb{E}_{z\sim\mathrm{PS}(f,\tau)}\log\tfrac12(1+\mu^\top z)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: τ ≥ 0.
        half_gap: $e = (1-\mu^\top f)/2$.
        half_height: $h = (1+\mu^\top f)/2 = 1 - e$, given as well so that either may be small.

    Returns:
        Broadcast shape, float64, ≤ 0.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> zero, one = torch.zeros(()), torch.ones(())
        >>> power_spherical_cross_log_height(3, one, zero, one)  # −1/(τ+1) in space, at f = μ
        tensor(-0.5000, dtype=torch.float64)
    """
    tau, e, h = _check(dim, concentration, half_gap, half_height)
    b = (dim - 1) / 2
    return polygamma_difference(0, tau + b, b, lower=b) - power_spherical_log_height_deficit(dim, tau, e, h)


def von_mises_fisher_cross_log_height(dim: int, concentration: Tensor, half_gap: Tensor, half_height: Tensor) -> Tensor:
    r"""$\mathbb{E}_{z\sim\mathrm{vMF}(f,\tau)}\log\tfrac12(1+\mu^\top z)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: τ ≥ 0.
        half_gap: $e = (1-\mu^\top f)/2$.
        half_height: $h = (1+\mu^\top f)/2 = 1 - e$, given as well so that either may be small.

    Returns:
        Broadcast shape, float64, ≤ 0.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> zero, one = torch.zeros(()), torch.ones(())
        >>> von_mises_fisher_cross_log_height(3, 1e6 * one, zero, one) * 1e6  # −1/(2τ) in space, at f = μ
        tensor(-0.5000, dtype=torch.float64)
    """
    tau, e, h = _check(dim, concentration, half_gap, half_height)
    b = (dim - 1) / 2
    # log Q(1−hw) lies between −2τhw and −τhw.
    turned = _time_to(_FALL / (tau * h).detach())
    s, weight = _nodes(_START / (tau.detach() + b), turned.clamp_max(_FALL / b))
    w = -torch.expm1(-s)
    tau, e, h = (t.unsqueeze(-1) for t in (tau, e, h))
    remaining = tau * (1 - h * w)
    log_first = von_mises_fisher_peak_difference(dim, tau, tau * h * w) - 2 * tau * h * w  # log Q(1−hw)
    turn = tau * e * w
    log_ratio = von_mises_fisher_peak_difference(dim, remaining, turn) - 2 * turn  # log Q(1−w) − log Q(1−hw)
    return -_integral(weight, log_first - b * s, log_ratio - b * s, _phi(s))
