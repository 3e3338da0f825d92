r"""Distribution function and quantile of the cosine $\mu^\top z$ under the Power Spherical distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special.beta_tails import beta_tail, negative_log_complement
from ssl_as_inference.special.gamma_differences import lgamma_difference, polygamma_difference
from ssl_as_inference.sphere import checked_dim

# The ends t = ±1 are moved inside by this much, so that logarithms are finite there. F(−1) is then at most its square
# root, at d = 2, and e^{−76} of it, as far as the quadrature reaches, is still above the least normal number.
_END = torch.finfo(torch.float64).tiny ** 0.8
_QUANTILE_STEPS = 16  # Newton's method on a concave function; 12 are enough from d = 2 to 65,536


def _mean(a: Tensor, b: float) -> Tensor:
    return -polygamma_difference(0, a, b, lower=b)


def _log_density(a: Tensor, b: float, h: Tensor, c: Tensor) -> Tensor:
    """Log density of ℓ = −log(1 − h) for h ~ Beta(b, a), c = 1 − h."""
    log_beta = lgamma_difference(a, b, lower=b) + math.lgamma(b)
    return (b - 1) * h.log() - a * negative_log_complement(h, c) - log_beta


def _split(cosine: Tensor) -> tuple[Tensor, Tensor]:
    cosine = cosine.clamp(-1, 1)
    return ((1 - cosine) / 2).clamp_min(_END), ((1 + cosine) / 2).clamp_min(_END)


class _CosineCdf(Elementwise):
    @staticmethod
    def value(cosine: Tensor, concentration: Tensor, dim: int) -> Tensor:
        b = (dim - 1) / 2
        a = concentration + b
        h, c = _split(cosine)
        near, mass, _ = beta_tail(a, b, _mean(a, b), h, c)
        mass = mass * _log_density(a, b, h, c).exp()
        inside = torch.where(near, 1 - mass, mass).clamp(0, 1)
        return torch.where(cosine <= -1, 0.0, torch.where(cosine >= 1, 1.0, inside))

    @staticmethod
    def partials(cosine: Tensor, concentration: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        b = (dim - 1) / 2
        a = concentration + b
        h, c = _split(cosine)
        density = _log_density(a, b, h, c).exp()
        moment = beta_tail(a, b, _mean(a, b), h, c)[2]
        return density / (2 * c), -density * moment


def _solve_quantile(probability: Tensor, concentration: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The quantile, and h and 1 − h there, which have digits that the cosine has not."""
    b = (dim - 1) / 2
    a = concentration + b
    mean = _mean(a, b)
    ell, h, c = mean, -torch.expm1(-mean), (-mean).exp()
    # Mass on either side of the mean decides which tail is inverted.
    near, mass, _ = beta_tail(a, b, mean, h, c)
    mass = mass * _log_density(a, b, h, c).exp()
    lower = 1 - probability <= torch.where(near, mass, 1 - mass)
    target = torch.where(lower, 1 - probability, probability).log()
    for _ in range(_QUANTILE_STEPS):
        log_density = _log_density(a, b, h, c)
        near, mass, _ = beta_tail(a, b, mean, h, c)
        log_mass = mass.log() + log_density
        # Rounding can put a point near the mean on the other side of it.
        log_mass = torch.where(near == lower, log_mass, (-log_mass.exp()).log1p())
        step = (target - log_mass) * (log_mass - log_density).exp()
        ell = torch.where(lower, ell * (step / ell).exp(), ell - step)
        h, c = (-torch.expm1(-ell)).clamp_min(_END), (-ell).exp().clamp_min(_END)
    # No step leads to the ends t = ±1, which do not move with κ.
    h = torch.where(probability == 0, 1.0, torch.where(probability == 1, _END, h))
    c = torch.where(probability == 1, 1.0, torch.where(probability == 0, _END, c))
    return torch.where(h < 0.5, 1 - 2 * h, 2 * c - 1), h, c


class _CosineQuantile(Elementwise):
    """Carry a quantile to the graph of the probability and of κ."""

    keeps_value = True

    @staticmethod
    def value(probability: Tensor, concentration: Tensor, solved: Tensor, h: Tensor, c: Tensor, dim: int) -> Tensor:
        del probability, concentration, h, c, dim
        return solved.clone()

    @staticmethod
    def partials(
        probability: Tensor, concentration: Tensor, solved: Tensor, h: Tensor, c: Tensor, cosine: Tensor, dim: int
    ) -> tuple[Tensor, Tensor, None, None, None]:
        del probability, solved
        b = (dim - 1) / 2
        a = concentration + b
        motion = (cosine - cosine.detach()) / 2  # zero; for a second derivative h and 1 − h move, too
        h, c = h - motion, c + motion
        moment = beta_tail(a, b, _mean(a, b), h, c)[2]
        return 2 * c * (-_log_density(a, b, h, c)).exp(), 2 * c * moment, None, None, None


def power_spherical_cosine_cdf(dim: int, concentration: Tensor, cosine: Tensor) -> Tensor:
    r"""$P(\mu^\top z \le t)$, the regularised incomplete beta function $I_{(1+t)/2}(a, b)$ (DLMF 8.17.2).

    Computed by quadrature with a fixed number of nodes, in float64. Differentiable in t and κ.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0.
        cosine: t between −1 and 1, broadcastable with `concentration`.

    Returns:
        Broadcast shape and the wider dtype, float32 at least; 0 below −1 and 1 above 1.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_cosine_cdf(3, torch.tensor(1.0), torch.tensor(0.0))  # ((1+t)/2)^{κ+1} in space
        tensor(0.2500)
    """
    arguments = torch.broadcast_tensors(cosine.double(), concentration.double())
    value: Tensor = _CosineCdf.apply(*arguments, checked_dim(dim))
    return value.to(result_dtype(cosine, concentration))


def power_spherical_cosine_icdf(dim: int, concentration: Tensor, probability: Tensor) -> Tensor:
    r"""The cosine t with $P(\mu^\top z \le t)$ = `probability`.

    Newton's method, a fixed number of steps, on the logarithm of the tail beyond the mean as a function of
    $\ell = -\log\frac{1+t}{2}$ where that is large, of log ℓ where it is small: close to linear far out, and concave
    (for d ≥ 3), so that the steps approach the root from one side. Differentiable in both arguments.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0.
        probability: In [0, 1]; broadcastable with `concentration`.

    Returns:
        Broadcast shape and the wider dtype, float32 at least; NaN where `probability` is not in [0, 1].

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_cosine_icdf(3, torch.tensor(1.0), torch.tensor(0.25)).abs() < 1e-6
        tensor(True)
    """
    dim, (p, kappa) = checked_dim(dim), torch.broadcast_tensors(probability.double(), concentration.double())
    value: Tensor = _CosineQuantile.apply(p, kappa, *_solve_quantile(p.detach(), kappa.detach(), dim), dim)
    return value.to(result_dtype(probability, concentration))
