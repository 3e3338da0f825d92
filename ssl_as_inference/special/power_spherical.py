r"""Normaliser, moments and entropies of the Power Spherical distribution.

$\mathrm{PS}(z;\mu,\kappa) = C(\kappa)(1+\mu^\top z)^\kappa$, De Cao and Aziz (2020), arXiv:2006.04437. Throughout
$b = (d-1)/2$ and $a = b+\kappa$, so that $(1+\mu^\top z)/2 \sim \mathrm{Beta}(a, b)$. The concentration alone is
raised to float64; it is d times smaller than the vectors beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special.gamma_differences import (
    STIRLING_COEFFICIENTS,
    lgamma_difference,
    polygamma_difference,
    recurrence_steps,
)
from ssl_as_inference.special.power_spherical_zero import FIRST_DIM, log_normalizer_from_zero
from ssl_as_inference.sphere import checked_dim, log_surface_area


def _half_dimension(dim: int) -> float:
    dim = checked_dim(dim)
    return (dim - 1) / 2


def power_spherical_log_normalizer_plus_peak(dim: int, concentration: Tensor) -> Tensor:
    r"""$\log C(\kappa) + \kappa\log 2$, the log density at the mode.

    It grows like $\tfrac{d-1}{2}\log\kappa$, while its two terms grow like κ: the sum taken of them has lost every
    digit once κ is 1e16. Here the term κ log 2 never appears:
    $-b\log 4\pi + \log\Gamma(a+b) - \log\Gamma(a)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`; its derivative is $\psi(a+b)-\psi(a) \approx b/\kappa$, to full relative
        accuracy.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_log_normalizer_plus_peak(3, torch.tensor(1e30))  # log(κ/4π) in space
        tensor(66.5465)
    """
    b = _half_dimension(dim)
    # From κ + b, not from κ: adding b to a float32 κ in float32 would round it.
    a = concentration.double() + b
    return -lgamma_difference(a, b, lower=b, scale=4 * math.pi).to(result_dtype(concentration))


class _LogNormalizer(Elementwise):
    """Log C(κ) by way of its zero, and its derivative."""

    @staticmethod
    def value(concentration: Tensor, dim: int) -> Tensor:
        return log_normalizer_from_zero(dim, concentration)

    @staticmethod
    def partials(concentration: Tensor, dim: int) -> tuple[Tensor]:
        return (-power_spherical_mean_log_height(dim, concentration),)


def power_spherical_log_normalizer(dim: int, concentration: Tensor) -> Tensor:
    r"""$\log C(\kappa) = -\{(a+b)\log 2 + b\log\pi + \log\Gamma(a) - \log\Gamma(a+b)\}$.

    The normaliser of Eq. (11) of arXiv:2203.11437v1.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`; at κ = 0 minus the logarithm of the area of the sphere.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_log_normalizer(3, torch.tensor([0.0, 1.0])).exp() * math.pi  # (κ+1)/2^{κ+2}
        tensor([0.2500, 0.2500])
    """
    dim = checked_dim(dim)
    concentration_64 = concentration.double()
    if dim >= FIRST_DIM:
        value: Tensor = _LogNormalizer.apply(concentration_64, dim)
        return value.to(result_dtype(concentration))
    peak = power_spherical_log_normalizer_plus_peak(dim, concentration_64)
    return (peak - concentration_64 * math.log(2)).to(result_dtype(concentration))


def power_spherical_mean_log_height(dim: int, concentration: Tensor) -> Tensor:
    r"""$\mathbb{E}\log(1+\mu^\top z) = \log 2 + \psi(a) - \psi(a+b) = -\,d\log C/d\kappa$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`, below log 2.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_mean_log_height(3, torch.tensor(1.0))  # log 2 − 1/(κ+1) in space
        tensor(0.1931)
    """
    b = _half_dimension(dim)
    a = concentration.double() + b
    return (math.log(2) + polygamma_difference(0, a, b, lower=b)).to(result_dtype(concentration))


class _MeanResultantLength(Elementwise):
    """κ/(κ+m). The quotient rule would subtract two nearly equal terms in its derivative m/(κ+m)²."""

    @staticmethod
    def value(concentration: Tensor, m: int) -> Tensor:
        return concentration / (concentration + m)

    @staticmethod
    def partials(concentration: Tensor, m: int) -> tuple[Tensor]:
        return (m * (concentration + m).reciprocal().square(),)


def power_spherical_mean_resultant_length(dim: int, concentration: Tensor) -> Tensor:
    r"""$\mathbb{E}[\mu^\top z] = \kappa/(\kappa+d-1)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`, from 0 to 1.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_mean_resultant_length(3, torch.tensor(2.0))
        tensor(0.5000)
    """
    dim = checked_dim(dim)
    value: Tensor = _MeanResultantLength.apply(concentration.double(), dim - 1)
    return value.to(result_dtype(concentration))


_ATANH_TERMS = 18  # y^{2·18} at the switch y = 1/3 is 7e-18


def _atanh_minus_identity(y: Tensor) -> Tensor:
    """Atanh(y) − y = y³/3 + y⁵/5 + …, for 0 ≤ y < 1."""
    square = y.clamp_max(1 / 3).square()
    tail = torch.zeros_like(y)
    for k in range(_ATANH_TERMS, 0, -1):
        tail = (tail + 1 / (2 * k + 1)) * square
    return torch.where(y < 1 / 3, y * tail, y.atanh() - y)


def _log1p_excess(v: Tensor) -> Tensor:
    """Log(1+v) − v/(1+v) ≥ 0 for v ≥ 0, about v²/2 when v is small."""
    y = v / (2 + v)  # log(1+v) = 2 atanh(y), v/(1+v) = 2y/(1+y); y rounds to 1 for large v
    small = 2 * (y.square() / (1 + y) + _atanh_minus_identity(y.clamp_max(0.5)))
    return torch.where(y < 0.5, small, v.log1p() - v / (1 + v))


def _log1p_deficit(v: Tensor) -> Tensor:
    """The deficit v − log(1+v) ≥ 0 for 0 ≤ v ≤ 1, about v²/2 when v is small."""
    y = v / (2 + v)
    return 2 * (y.square() / (1 - y) - _atanh_minus_identity(y))


def _stirling_divergence(p: float, concentration: Tensor) -> Tensor:
    r"""Bregman divergence $S(p) - S(q) + \kappa S'(q)$ of the power part S of Stirling's series, q = p + κ.

    With r = p/q that of $x^{-m}$ is $p^{-m}(1-r)^2\sum_{i<m}(i+1)r^i$, positive term by term.
    """
    series = STIRLING_COEFFICIENTS[-1]
    q = concentration + p
    ratio = p / q
    value = torch.zeros_like(concentration)
    for i in range(len(series) - 2, -1, -1):
        value = value * ratio + (i + 1) * sum([series[m] / p**m for m in range(i + 1, len(series))])
    return (concentration / q).square() * value


def _kl_to_uniform(concentration: Tensor, dim: int) -> Tensor:
    r"""KL as the difference of two Bregman divergences of $F = \log\Gamma$, in terms that are each small with κ.

    $F(b)-F(a)+\kappa\psi(a)$ minus $F(2b)-F(a+b)+\kappa\psi(a+b)$. F is split by the recurrence and Stirling's series
    into $(x-\tfrac12)\log x - x + S(x) - \sum_k\log(x+k)$. The divergence of $-\log x$ from p to p+κ is
    h(κ/p), $h(v) = \log(1+v)-v/(1+v)$; the two of $x\log x - x$ differ by $b\,h(\kappa/p_2) + p_1(w-\log(1+w))$
    with $w = \kappa b/\{p_1(p_2+\kappa)\}$, where nothing cancels.
    """
    b = _half_dimension(dim)
    steps = recurrence_steps(b)
    p1, p2 = b + steps, 2 * b + steps
    w = (concentration / (concentration + p2)) * (b / p1)
    h1, h2 = _log1p_excess(concentration / p1), _log1p_excess(concentration / p2)
    value = b * h2 + p1 * _log1p_deficit(w) + (h1 - h2) / 2
    value = value + _stirling_divergence(p1, concentration) - _stirling_divergence(p2, concentration)
    if steps:
        k = torch.arange(steps, dtype=concentration.dtype, device=concentration.device)
        kappa = concentration.unsqueeze(-1)
        value = value + (_log1p_excess(kappa / (k + b)) - _log1p_excess(kappa / (k + 2 * b))).sum(-1)
    return value


class _KLToUniform(Elementwise):
    r"""Value, and its derivative $\kappa\operatorname{Var}\log(1+\mu^\top z) = \kappa\{\psi'(a)-\psi'(a+b)\}$."""

    @staticmethod
    def value(concentration: Tensor, dim: int) -> Tensor:
        return _kl_to_uniform(concentration, dim)

    @staticmethod
    def partials(concentration: Tensor, dim: int) -> tuple[Tensor]:
        b = _half_dimension(dim)
        return (concentration * polygamma_difference(1, concentration + b, b, lower=b),)


def power_spherical_kl_to_uniform(dim: int, concentration: Tensor) -> Tensor:
    r"""$\mathrm{KL}(\mathrm{PS}\,\|\,\text{uniform}) = \log C(\kappa)+\kappa\,\mathbb{E}\log(1+\mu^\top z)-\log C(0)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`; accurate relative to itself also where κ, and with it the divergence of
        order κ², is small.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_kl_to_uniform(3, torch.tensor(1.0))  # log(κ+1) − κ/(κ+1) in space
        tensor(0.1931)
    """
    value: Tensor = _KLToUniform.apply(concentration.double(), checked_dim(dim))
    return value.to(result_dtype(concentration))


def power_spherical_entropy(dim: int, concentration: Tensor) -> Tensor:
    r"""Differential entropy $-\log C(\kappa) - \kappa\,\mathbb{E}\log(1+\mu^\top z)$.

    Computed as the log area less the divergence from uniform, which keeps what small κ contributes.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> power_spherical_entropy(3, torch.tensor(0.0)) - math.log(4 * math.pi)
        tensor(0.)
    """
    divergence = power_spherical_kl_to_uniform(dim, concentration.double())
    return (log_surface_area(dim) - divergence).to(result_dtype(concentration))
