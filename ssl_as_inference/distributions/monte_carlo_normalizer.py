"""The normaliser of a product of experts by importance sampling, where no closed form is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.product_of_experts import ProductOfExperts
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.sphere import log_surface_area, normalize

_MODE_STEPS = 16
_DEFENSIVE = 0.1  # share of uniform draws: no weight exceeds ten times target × area, so that its variance is finite


def _proposal(experts: RotationallySymmetric) -> PowerSpherical:
    r"""Power Spherical about the mode of the product, as wide as the product is in the widest direction."""
    mu, kappa = experts.mean_direction.detach(), experts.concentration.detach().to(experts.mean_direction.dtype)
    power = isinstance(experts, PowerSpherical)

    def pull(mode: Tensor) -> tuple[Tensor, Tensor]:
        """Weights κ_i or κ_i/(1+μ_iᵀm) of the experts' directions in the gradient at m, and the cosines."""
        cosine = (mu * mode.unsqueeze(-2)).sum(-1)
        if power:
            return kappa / (1 + cosine).clamp_min(torch.finfo(mu.dtype).eps), cosine
        return kappa, cosine

    mode = normalize((kappa.unsqueeze(-1) * mu).sum(-2) + torch.finfo(mu.dtype).eps * mu[..., 0, :])
    for _ in range(_MODE_STEPS):  # a fixed point of the gradient's direction is a mode
        weight, _ = pull(mode)
        mode = normalize((weight.unsqueeze(-1) * mu).sum(-2) + mode)  # m added: it damps the step
    weight, cosine = pull(mode)
    curvature = (weight * cosine).sum(-1).clamp_min(0)
    return PowerSpherical(mode, 2 * curvature, validate_args=False)  # K log(1+t) has the curvature K/2 at its mode


def monte_carlo_log_normalizer(product: ProductOfExperts, samples: int = 10_000) -> tuple[Tensor, Tensor]:
    r"""Estimate $\log Z = \log\int\prod_i p(z\mid x_i)\,dz$, with its standard error.

    Importance sampling from a Power Spherical distribution about the mode of the product, mixed with one tenth of
    uniform draws (defensive importance sampling, Hesterberg 1995, *Technometrics* 37), which bounds the weights. The
    standard error is $\sqrt{\operatorname{Var}w/n}/\bar w$, that of the logarithm to first order; trust it while it is
    below some 0.1. The estimate is differentiable in the experts; its gradient is the self-normalised estimate of
    $\mathbb{E}_{p(z\mid\mathbb{X})}\nabla\sum_i\log p(z\mid x_i)$.

    Args:
        product: A product of von Mises–Fisher or Power Spherical experts.
        samples: Number n ≥ 2 of draws for each batch element; n × M × dim numbers are held at once.

    Returns:
        The estimate and its standard error, each of shape `batch_shape`.

    Raises:
        ValueError: If `samples` < 2 or the experts are of another family.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> product = ProductOfExperts(PowerSpherical(torch.eye(3), torch.tensor([5.0, 6.0, 7.0])))
        >>> estimate, error = monte_carlo_log_normalizer(product, 20_000)
        >>> bool(error < 0.01)
        True
    """
    if not isinstance(samples, int) or samples < 2:
        raise ValueError(f"samples must be an integer >= 2, got {samples}")
    experts = product.experts
    if not isinstance(experts, RotationallySymmetric):
        raise ValueError(  # noqa: TRY004  # the house rule for bad arguments
            f"product must be one of VonMisesFisher or PowerSpherical experts, got {type(experts).__name__}"
        )
    with torch.no_grad():
        proposal = _proposal(experts)
        drawn = proposal.sample((samples,))
        uniform = normalize(torch.randn_like(drawn))
        defensive = torch.rand(drawn.shape[:-1], device=drawn.device) < _DEFENSIVE
        z = torch.where(defensive.unsqueeze(-1), uniform, drawn)
        log_density = torch.logaddexp(
            proposal.log_prob(z) + math.log1p(-_DEFENSIVE),
            torch.full_like(z[..., 0], math.log(_DEFENSIVE) - log_surface_area(experts.dim)),
        )
    log_weight = product.log_prob(z) - log_density
    estimate = log_weight.logsumexp(0) - math.log(samples)
    relative = (log_weight - estimate).detach().exp()
    return estimate, relative.std(0) / math.sqrt(samples)
