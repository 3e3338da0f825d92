r"""Kullback–Leibler divergences on the sphere, registered with `torch.distributions.kl_divergence` on import.

$\mathrm{KL}(q\,\|\,p) = -\mathbb{E}_q\log p - H(q)$, and both may be large where the divergence is small. Within a
family the divergence is therefore split into a part of the concentrations and a part of the directions, each ≥ 0 and
computed as such. With F = −log C, which is convex, and the Bregman divergence
$B_F(\kappa_2;\kappa_1) = F(\kappa_2)-F(\kappa_1)-(\kappa_2-\kappa_1)F'(\kappa_1)$,

$$\mathrm{KL}\{\mathrm{vMF}(\mu_1,\kappa_1)\,\|\,\mathrm{vMF}(\mu_2,\kappa_2)\}
   = B_F(\kappa_2;\kappa_1) + \kappa_2A(\kappa_1)(1-\mu_1^\top\mu_2),$$
$$\mathrm{KL}\{\mathrm{PS}(\mu_1,\kappa_1)\,\|\,\mathrm{PS}(\mu_2,\kappa_2)\}
   = B_F(\kappa_2;\kappa_1) + \kappa_2\Delta(\kappa_1,\mu_1^\top\mu_2),$$

Δ being `power_spherical_log_height_deficit`. Nearby concentrations take
$B_F = (\kappa_2-\kappa_1)^2\int_0^1(1-t)F''\{\kappa_1+t(\kappa_2-\kappa_1)\}dt$ by Gauss and Legendre's rule, so that
the divergence is 0 at equality and keeps its relative accuracy beside it. Across families it is the sum of what
remains of entropy and cross-entropy when both densities are taken relative to their modes, or, for concentrations
below the dimension, relative to the uniform distribution. That sum has an error of some 1e-15 d log κ. Where the
families nearly agree (κ ≫ d², C20) the divergence is smaller than this error. A sum below 0 is then due to rounding, by
Gibbs' inequality, and 0 is returned. All concentrations of float32 are taken; in float64 those beyond some 1e154, whose
squares overflow, are not.

**The divergence of the paper**, Eq. (2), is that from a guide to a product of experts:

- to a product it is the divergence to the normalised product (`ProductOfExperts.normalized`, for von Mises–Fisher
  experts of concentration R = ‖Σκ_iμ_i‖ and thus as above), or, where that is of no family but its normaliser is known
  (two Power Spherical experts), $-\mathbb{E}_q\log\prod_i p_i + \log Z - H(q)$. From a product it is that from the
  normalised product, where that is of a family;
- between a `DeltaMixture` and a density, in either order, it is **+∞**: neither measure has a density with respect to
  the other. What the paper trains is the finite part, `cross_entropy(q, product) + product.log_normalizer()` (C19);
- between two delta mixtures it is $\sum_x q\{x\}\log\frac{q\{x\}}{p\{x\}}$ over the points x, each with the share of
  the components that are there: infinite unless every location of q is one of p;
- to or from a `SphericalMixture` there is no closed form, and NotImplementedError says what to use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from ssl_as_inference.cross_entropies import cross_entropy, mean_cosine_gap, mean_log_height
from ssl_as_inference.distributions.delta_mixture import DeltaMixture
from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.product_of_experts import ProductOfExperts
from ssl_as_inference.distributions.spherical_mixture import SphericalMixture
from ssl_as_inference.distributions.spherical_uniform import SphericalUniform
from ssl_as_inference.distributions.von_mises_fisher import VonMisesFisher
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special import (
    polygamma_difference,
    power_spherical_kl_to_uniform,
    power_spherical_log_height_deficit,
    power_spherical_log_normalizer_plus_peak,
    power_spherical_mean_resultant_length,
    power_spherical_peak_difference,
    von_mises_fisher_kl_to_uniform,
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_peak_difference,
    von_mises_fisher_resultant_slope,
)
from ssl_as_inference.sphere import checked_dim, half_gap_and_height, half_squared_chord

# F″ is analytic but at distance `scale` from the lesser concentration; over half of that the rule errs by 9.9^{−20}.
_NEAR = 0.5
_LEGENDRE = np.polynomial.legendre.leggauss(10)
_ABSCISSAE = tuple(((_LEGENDRE[0] + 1) / 2).tolist())
_WEIGHTS = tuple((_LEGENDRE[1] * (1 - _LEGENDRE[0]) / 4).tolist())  # times 1 − t


def _bregman(
    first: Tensor,
    step: Tensor,
    curvature: Callable[[Tensor], Tensor],
    far: Callable[[Tensor], Tensor],
    scale: Tensor,
) -> Tensor:
    """B_F(κ + δ; κ) for κ = first, δ = step, from F″ if δ is small against `scale` and from `far` otherwise."""
    near = step.abs() <= _NEAR * scale
    short = torch.where(near, step, 0.0)
    t = torch.tensor(_ABSCISSAE, dtype=first.dtype, device=first.device)
    weight = torch.tensor(_WEIGHTS, dtype=first.dtype, device=first.device)
    nodes = first.unsqueeze(-1) + short.unsqueeze(-1) * t
    integral = short.square() * (curvature(nodes) * weight).sum(-1)
    return torch.where(near, integral, far(step))


def von_mises_fisher_concentration_divergence(dim: int, first: Tensor, second: Tensor) -> Tensor:
    r"""KL(vMF(μ, κ₁) ‖ vMF(μ, κ₂)) for one direction μ, in float64, ≥ 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        first: κ₁ ≥ 0.
        second: κ₂ ≥ 0, broadcastable with `first`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> kappa = torch.tensor([1e3, 1e3 + 0.1], dtype=torch.float64)
        >>> von_mises_fisher_concentration_divergence(3, kappa[0], kappa[1])  # (κ₂−κ₁)²/2κ² in space
        tensor(4.9997e-09, dtype=torch.float64)
    """
    dim = checked_dim(dim)
    first, second = torch.broadcast_tensors(first.double(), second.double())

    def far(step: Tensor) -> Tensor:
        # F = κ − u − const, u = log C + κ
        complement = von_mises_fisher_mean_resultant_complement(dim, first)
        return complement * step - von_mises_fisher_peak_difference(dim, second, step, remaining=first)

    # The zeros of I_ν are imaginary, the first of them beyond ν.
    scale = torch.hypot(torch.minimum(first, second).detach(), first.new_full((), dim / 2 + 1))
    return _bregman(first, second - first, lambda x: von_mises_fisher_resultant_slope(dim, x), far, scale)


def power_spherical_concentration_divergence(dim: int, first: Tensor, second: Tensor) -> Tensor:
    r"""KL(PS(μ, κ₁) ‖ PS(μ, κ₂)) for one direction μ, in float64, ≥ 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        first: κ₁ ≥ 0.
        second: κ₂ ≥ 0, broadcastable with `first`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> kappa = torch.tensor([1e3, 1e3 + 0.1], dtype=torch.float64)
        >>> power_spherical_concentration_divergence(3, kappa[0], kappa[1])  # (κ₂−κ₁)²/2(κ+1)² in space
        tensor(4.9897e-09, dtype=torch.float64)
    """
    first, second = torch.broadcast_tensors(first.double(), second.double())
    b = (checked_dim(dim) - 1) / 2
    scale = torch.minimum(first, second).detach() + b  # of the pole of ψ′

    def far(step: Tensor) -> Tensor:
        # F = κ log 2 − peak, peak = log C + κ log 2 with the slope ψ(a+b) − ψ(a)
        distant = power_spherical_log_normalizer_plus_peak(dim, second)
        distant = distant - power_spherical_log_normalizer_plus_peak(dim, first)
        comparable = step.abs() <= 2 * scale
        beside = torch.where(comparable, second, first)
        rise = torch.where(comparable, power_spherical_peak_difference(dim, beside, first), distant)
        return -step * polygamma_difference(0, first + b, b, lower=b) - rise

    return _bregman(first, second - first, lambda x: polygamma_difference(1, x + b, b, lower=b), far, scale)


def _at_least_zero(value: Tensor) -> Tensor:
    """0 where rounding made the value negative; the derivatives are those of the value."""
    return value + (value.clamp_min(0) - value).detach()


def _kl_vmf_vmf(q: VonMisesFisher, p: VonMisesFisher) -> Tensor:
    kappa_q, kappa_p = q.concentration.double(), p.concentration.double()
    gap = half_squared_chord(q.mean_direction, p.mean_direction).double()
    turn = kappa_p * von_mises_fisher_mean_resultant_length(q.dim, kappa_q) * gap
    return (von_mises_fisher_concentration_divergence(q.dim, kappa_q, kappa_p) + turn).to(result_dtype(q, p))


def _kl_ps_ps(q: PowerSpherical, p: PowerSpherical) -> Tensor:
    kappa_q, kappa_p = q.concentration.double(), p.concentration.double()
    gap, height = half_gap_and_height(q.mean_direction, p.mean_direction)
    turn = kappa_p * power_spherical_log_height_deficit(q.dim, kappa_q, gap, height)
    return (power_spherical_concentration_divergence(q.dim, kappa_q, kappa_p) + turn).to(result_dtype(q, p))


def _kl_ps_vmf(q: PowerSpherical, p: VonMisesFisher) -> Tensor:
    tau, kappa = q.concentration.double(), p.concentration.double()
    b = (q.dim - 1) / 2
    # Relative to the modes: E_q log q = peak + τ E log height, −E_q log p = κ E(1 − cosine) − (log C + κ)
    mode_q = power_spherical_log_normalizer_plus_peak(q.dim, tau) + tau * polygamma_difference(0, tau + b, b, lower=b)
    mode_p = von_mises_fisher_log_normalizer_plus_concentration(p.dim, kappa)
    concentrated = mode_q - mode_p + kappa * mean_cosine_gap(q, p)
    # Relative to the uniform distribution: log{C(0)/C(κ)} = κA − KL(p ‖ uniform), and the rest vanishes with κ and τ
    resultant_p = von_mises_fisher_mean_resultant_length(p.dim, kappa)
    resultant_q = power_spherical_mean_resultant_length(q.dim, tau)
    turn = resultant_q * half_squared_chord(q.mean_direction, p.mean_direction).double()
    diffuse = power_spherical_kl_to_uniform(q.dim, tau) - von_mises_fisher_kl_to_uniform(p.dim, kappa)
    diffuse = diffuse + kappa * (resultant_p - resultant_q) + kappa * turn
    return _at_least_zero(torch.where(tau + kappa < q.dim, diffuse, concentrated)).to(result_dtype(q, p))


def _kl_vmf_ps(q: VonMisesFisher, p: PowerSpherical) -> Tensor:
    tau, kappa = q.concentration.double(), p.concentration.double()
    b = (q.dim - 1) / 2
    log_height = mean_log_height(q, p)
    mode_q = von_mises_fisher_log_normalizer_plus_concentration(q.dim, tau)
    mode_q = mode_q - tau * von_mises_fisher_mean_resultant_complement(q.dim, tau)
    concentrated = mode_q - power_spherical_log_normalizer_plus_peak(p.dim, kappa) - kappa * log_height
    # −log{C(κ)/C(0)} = KL(uniform ‖ p) + κ E_uniform log height + κ log 2
    uniform = polygamma_difference(0, kappa.new_full((), b), b, lower=b)
    diffuse = von_mises_fisher_kl_to_uniform(q.dim, tau) - kappa * (log_height - uniform)
    diffuse = diffuse + power_spherical_concentration_divergence(p.dim, torch.zeros_like(kappa), kappa)
    return _at_least_zero(torch.where(tau + kappa < q.dim, diffuse, concentrated)).to(result_dtype(q, p))


def _kl_vmf_uniform(q: VonMisesFisher, p: SphericalUniform) -> Tensor:
    value = von_mises_fisher_kl_to_uniform(q.dim, q.concentration.double())
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _kl_ps_uniform(q: PowerSpherical, p: SphericalUniform) -> Tensor:
    value = power_spherical_kl_to_uniform(q.dim, q.concentration.double())
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _kl_uniform_vmf(q: SphericalUniform, p: VonMisesFisher) -> Tensor:
    kappa = p.concentration.double()
    value = von_mises_fisher_concentration_divergence(p.dim, torch.zeros_like(kappa), kappa)
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _kl_uniform_ps(q: SphericalUniform, p: PowerSpherical) -> Tensor:
    kappa = p.concentration.double()
    value = power_spherical_concentration_divergence(p.dim, torch.zeros_like(kappa), kappa)
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


def _kl_uniform_uniform(q: SphericalUniform, p: SphericalUniform) -> Tensor:
    return torch.zeros_like(q.entropy() + p.entropy())


def _kl_with_delta(q: TorchDistribution, p: TorchDistribution) -> Tensor:
    locations = q.locations if isinstance(q, DeltaMixture) else p.locations
    return locations.new_full(torch.broadcast_shapes(q.batch_shape, p.batch_shape), math.inf)


def _kl_delta_delta(q: DeltaMixture, p: DeltaMixture) -> Tensor:
    points = q.locations.unsqueeze(-2)
    share_q, share_p = ((points == each.locations.unsqueeze(-3)).all(-1).double().mean(-1) for each in (q, p))
    return (share_q / share_p).log().mean(-1).to(result_dtype(q.locations, p.locations))


def _kl_to_product(q: TorchDistribution, p: ProductOfExperts) -> Tensor:
    try:
        posterior = p.normalized()
    except NotImplementedError:
        return _at_least_zero(cross_entropy(q, p) + p.log_normalizer() - q.entropy())
    return kl_divergence(q, posterior)


def _kl_from_product(q: ProductOfExperts, p: TorchDistribution) -> Tensor:
    return kl_divergence(q.normalized(), p)


def _kl_with_mixture(q: TorchDistribution, p: TorchDistribution) -> Tensor:
    raise NotImplementedError(
        f"KL({type(q).__name__} ‖ {type(p).__name__}) has no closed form. From a SphericalMixture q it lies between "
        "cross_entropy(q, p) less either of q.entropy_bounds(); to one, sample q"
    )


def _on_one_sphere(rule: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    def checked(q: TorchDistribution, p: TorchDistribution) -> Tensor:
        if q.event_shape != p.event_shape:
            raise ValueError(
                "the distributions must be on the same sphere, got event shapes "
                f"{tuple(q.event_shape)} and {tuple(p.event_shape)}"
            )
        return rule(q, p)

    return checked


_DENSITIES = (VonMisesFisher, PowerSpherical, SphericalUniform)
_RULES: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {
    (VonMisesFisher, VonMisesFisher): _kl_vmf_vmf,
    (PowerSpherical, PowerSpherical): _kl_ps_ps,
    (PowerSpherical, VonMisesFisher): _kl_ps_vmf,
    (VonMisesFisher, PowerSpherical): _kl_vmf_ps,
    (VonMisesFisher, SphericalUniform): _kl_vmf_uniform,
    (PowerSpherical, SphericalUniform): _kl_ps_uniform,
    (SphericalUniform, VonMisesFisher): _kl_uniform_vmf,
    (SphericalUniform, PowerSpherical): _kl_uniform_ps,
    (SphericalUniform, SphericalUniform): _kl_uniform_uniform,
    (DeltaMixture, DeltaMixture): _kl_delta_delta,
}
_law: type[TorchDistribution]
for _law in (*_DENSITIES, ProductOfExperts):
    _RULES |= {(_law, SphericalMixture): _kl_with_mixture, (SphericalMixture, _law): _kl_with_mixture}
    _RULES |= {(_law, ProductOfExperts): _kl_to_product, (ProductOfExperts, _law): _kl_from_product}
_RULES[SphericalMixture, SphericalMixture] = _kl_with_mixture
for _law in (*_DENSITIES, ProductOfExperts, SphericalMixture):
    _RULES |= {(_law, DeltaMixture): _kl_with_delta, (DeltaMixture, _law): _kl_with_delta}
for (_q, _p), _rule in _RULES.items():
    register_kl(_q, _p)(_on_one_sphere(_rule))
