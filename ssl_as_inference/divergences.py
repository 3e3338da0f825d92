"""Kullback–Leibler divergences between distributions on the sphere, registered with `torch.distributions`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import register_kl

from ssl_as_inference.distributions import PowerSpherical, SphericalUniform
from ssl_as_inference.special import power_spherical_kl_to_uniform, power_spherical_mean_log_height


def _broadcast_batch(p: PowerSpherical | SphericalUniform, q: PowerSpherical | SphericalUniform) -> torch.Size:
    if p.dim != q.dim:
        raise ValueError(f"p and q must be on the same sphere, got event shapes {(p.dim,)} and {(q.dim,)}")
    return torch.Size(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(PowerSpherical, SphericalUniform)  # type: ignore[untyped-decorator]  # torch leaves it so
def kl_power_spherical_uniform(p: PowerSpherical, q: SphericalUniform) -> Tensor:
    r"""$\log C(\kappa) + \kappa\,\mathbb{E}_p\log(1+\mu^\top z) - \log C(0)$."""
    return power_spherical_kl_to_uniform(p.dim, p.concentration).expand(_broadcast_batch(p, q))


@register_kl(SphericalUniform, PowerSpherical)  # type: ignore[untyped-decorator]  # torch leaves it so
def kl_uniform_power_spherical(p: SphericalUniform, q: PowerSpherical) -> Tensor:
    r"""$\log C(0) - \log C(\kappa) - \kappa\,\mathbb{E}_p\log(1+\mu^\top z)$.

    Both directions add up to $\kappa(\mathbb{E}_q - \mathbb{E}_p)\log(1+\mu^\top z)$; taken from that sum it does not
    lose the digits of log C, which is of the size of d log d.
    """
    kappa = q.concentration.double()
    height = power_spherical_mean_log_height(q.dim, kappa)
    uniform_height = power_spherical_mean_log_height(q.dim, torch.zeros_like(kappa))
    value = kappa * (height - uniform_height) - power_spherical_kl_to_uniform(q.dim, kappa)
    return value.to(q.concentration.dtype).expand(_broadcast_batch(p, q))


@register_kl(SphericalUniform, SphericalUniform)  # type: ignore[untyped-decorator]  # torch leaves it so
def kl_uniform_uniform(p: SphericalUniform, q: SphericalUniform) -> Tensor:
    """Zero."""
    return torch.zeros_like(p.entropy()).expand(_broadcast_batch(p, q))
