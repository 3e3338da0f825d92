r"""Cross-entropies $-\mathbb{E}_q\log p$ between guides and experts on the sphere, without sampling (C18).

- From a von Mises–Fisher, Power Spherical or uniform q to a von Mises–Fisher p:
  $-\log C(\kappa)-\kappa\,\mathbb{E}_q[\mu^\top z]$.
- From the same to a Power Spherical p: $-\log C(\kappa)-\kappa\,\mathbb{E}_q\log(1+\mu^\top z)$; to the uniform
  distribution: the log area.
- From a delta mixture to any p: the mean of −log p over its locations.
- From a spherical mixture: the weighted mean over its components.

To a von Mises–Fisher expert the mean resultant length of q suffices. To a Power Spherical one the expectation is an
integral over one variable (`ssl_as_inference.special.mean_log_height`), to some 1e-14. An unnormalised product of
experts is summed over its experts. Further pairs are added with `register_cross_entropy`, as with
`torch.distributions.register_kl`; scalars are in float64 inside, nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from ssl_as_inference.distributions.delta_mixture import DeltaMixture
from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.product_of_experts import ProductOfExperts
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.distributions.spherical_mixture import SphericalMixture
from ssl_as_inference.distributions.spherical_uniform import SphericalUniform
from ssl_as_inference.distributions.von_mises_fisher import VonMisesFisher
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special import (
    polygamma_difference,
    power_spherical_cross_log_height,
    power_spherical_log_normalizer_plus_peak,
    power_spherical_mean_resultant_length,
    von_mises_fisher_cross_log_height,
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
)
from ssl_as_inference.sphere import half_gap_and_height, half_squared_chord, log_surface_area

_Rule = TypeVar("_Rule", bound=Callable[[Any, Any], Tensor])
_RULES: dict[tuple[type[Distribution], type[Distribution]], Callable[[Any, Any], Tensor]] = {}


def register_cross_entropy(guide: type[Distribution], expert: type[Distribution]) -> Callable[[_Rule], _Rule]:
    """Decorate a function (q, p) → −E_q[log p], to be used for these classes and their subclasses.

    Args:
        guide: Class of q.
        expert: Class of p.

    Returns:
        The decorator, which leaves the function as it is.
    """

    def register(rule: _Rule) -> _Rule:
        _RULES[guide, expert] = rule
        return rule

    return register


def cross_entropy(q: Distribution, p: Distribution) -> Tensor:
    r"""$-\mathbb{E}_{z\sim q}\log p(z) = \mathrm{KL}(q\,\|\,p) + H(q)$, in closed form or by quadrature to rounding.

    For a `DeltaMixture` q it is the loss of the paper, for a `ProductOfExperts` p without its normaliser, as is its
    `log_prob`. The sum above holds for two densities. Between two delta mixtures it holds if the locations of each
    differ: equal ones count one by one in `log_prob` and `entropy`, and together in the divergence.

    Args:
        q: The guide.
        p: The expert, or a product of experts; its batch shape broadcasts with that of q.

    Returns:
        Broadcast batch shape.

    Raises:
        ValueError: If q and p live on spheres of different dimension.
        NotImplementedError: If no rule is registered for the two classes.

    Example:
        >>> q = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 5.0)
        >>> cross_entropy(q, PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 10.0))
        tensor(1.2633)
    """
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"q and p must have the same event shape, got {tuple(q.event_shape)} and {tuple(p.event_shape)}"
        )
    for guide in type(q).__mro__:
        for expert in type(p).__mro__:
            rule = _RULES.get((guide, expert))
            if rule is not None:
                return rule(q, p)
    raise NotImplementedError(
        f"no cross-entropy is registered from {type(q).__name__} to {type(p).__name__}; estimate it by sampling q, or "
        "add one with register_cross_entropy"
    )


def unsqueeze_batch(p: Any, position: int) -> Any:
    """Return p with a batch dimension of size 1 inserted at `position` < 0, counted from the right."""
    if isinstance(p, RotationallySymmetric):
        new = copy(p)  # a subclass may be made of other arguments
        mean_direction, concentration = p.mean_direction.unsqueeze(position - 1), p.concentration.unsqueeze(position)
        RotationallySymmetric.__init__(new, mean_direction, concentration, validate_args=False)
        return new
    shape = list(p.batch_shape)
    shape.insert(len(shape) + 1 + position, 1)
    if isinstance(p, SphericalUniform):
        return SphericalUniform(p.dim, batch_shape=tuple(shape), dtype=p.dtype, device=p.device, validate_args=False)
    if isinstance(p, ProductOfExperts):
        return ProductOfExperts(unsqueeze_batch(p.experts, position - 1), validate_args=False)
    raise NotImplementedError(
        f"no cross-entropy of a mixture or a product is registered for a {type(p).__name__}; estimate it by sampling"
    )


def _resultant(q: RotationallySymmetric) -> tuple[Tensor, Tensor]:
    """Mean resultant length A and 1 − A in float64, either without cancellation."""
    tau = q.concentration.double()
    if isinstance(q, VonMisesFisher):
        return (
            von_mises_fisher_mean_resultant_length(q.dim, tau),
            von_mises_fisher_mean_resultant_complement(q.dim, tau),
        )
    return power_spherical_mean_resultant_length(q.dim, tau), (q.dim - 1) / (tau + (q.dim - 1))


def mean_cosine_gap(q: RotationallySymmetric, p: RotationallySymmetric) -> Tensor:
    r"""$1 - \mathbb{E}_q[\mu_p^\top z] = (1-A) + A(1-\mu_p^\top\mu_q)$ in float64, a sum of two positive terms."""
    resultant, complement = _resultant(q)
    return complement + resultant * half_squared_chord(q.mean_direction, p.mean_direction).double()


def mean_log_height(q: RotationallySymmetric, p: RotationallySymmetric) -> Tensor:
    r"""$\mathbb{E}_q\log\tfrac12(1+\mu_p^\top z)$ in float64."""
    gap, height = half_gap_and_height(q.mean_direction, p.mean_direction)
    tau = q.concentration.double()
    if isinstance(q, VonMisesFisher):
        return von_mises_fisher_cross_log_height(q.dim, tau, gap, height)
    return power_spherical_cross_log_height(q.dim, tau, gap, height)


@register_cross_entropy(PowerSpherical, VonMisesFisher)
@register_cross_entropy(VonMisesFisher, VonMisesFisher)
def _to_von_mises_fisher(q: RotationallySymmetric, p: VonMisesFisher) -> Tensor:
    # log p = (log C + κ) − κ(1 − μᵀz): neither term is larger than the result has to be
    kappa = p.concentration.double()
    mode = von_mises_fisher_log_normalizer_plus_concentration(p.dim, kappa)
    return (kappa * mean_cosine_gap(q, p) - mode).to(result_dtype(q, p))


@register_cross_entropy(PowerSpherical, PowerSpherical)
@register_cross_entropy(VonMisesFisher, PowerSpherical)
def _to_power_spherical(q: RotationallySymmetric, p: PowerSpherical) -> Tensor:
    # log p = (log C + κ log 2) + κ log{(1 + μᵀz)/2}
    kappa = p.concentration.double()
    mode = power_spherical_log_normalizer_plus_peak(p.dim, kappa)
    return (-kappa * mean_log_height(q, p) - mode).to(result_dtype(q, p))


@register_cross_entropy(SphericalUniform, VonMisesFisher)
def _uniform_to_von_mises_fisher(q: SphericalUniform, p: VonMisesFisher) -> Tensor:
    kappa = p.concentration.double()
    value = kappa - von_mises_fisher_log_normalizer_plus_concentration(p.dim, kappa)
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


@register_cross_entropy(SphericalUniform, PowerSpherical)
def _uniform_to_power_spherical(q: SphericalUniform, p: PowerSpherical) -> Tensor:
    kappa, b = p.concentration.double(), (p.dim - 1) / 2
    mean = polygamma_difference(0, kappa.new_full((), b), b, lower=b)  # of log{(1 + μᵀz)/2}
    value = -kappa * mean - power_spherical_log_normalizer_plus_peak(p.dim, kappa)
    return value.to(result_dtype(q, p)).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


@register_cross_entropy(SphericalUniform, SphericalUniform)
@register_cross_entropy(RotationallySymmetric, SphericalUniform)
def _to_uniform(q: RotationallySymmetric | SphericalUniform, p: SphericalUniform) -> Tensor:
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return p.entropy().new_full(shape, log_surface_area(p.dim), dtype=result_dtype(q, p))


@register_cross_entropy(DeltaMixture, Distribution)
def _from_delta_mixture(q: DeltaMixture, p: Distribution) -> Tensor:
    # Expanded first: the locations, which come foremost, would else be taken for a batch dimension of p.
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return -p.log_prob(q.expand(shape).enumerate_support()).mean(0)


@register_cross_entropy(RotationallySymmetric, ProductOfExperts)
@register_cross_entropy(SphericalUniform, ProductOfExperts)
def _to_product(q: Any, p: ProductOfExperts) -> Tensor:
    return cross_entropy(unsqueeze_batch(q, -1), p.experts).sum(-1)


@register_cross_entropy(SphericalMixture, Distribution)
def _from_spherical_mixture(q: SphericalMixture, p: Any) -> Tensor:
    each = cross_entropy(q.components, unsqueeze_batch(p, -1))
    each = torch.where((q.weights == 0) & each.isinf(), 0.0, each)  # 0 · ∞: a component that is never drawn
    return (q.weights * each).sum(-1)
