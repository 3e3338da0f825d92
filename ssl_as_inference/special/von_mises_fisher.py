"""Normaliser and moments of the von Mises–Fisher distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.sphere import log_surface_area


def von_mises_fisher_log_normalizer(dim: int, concentration: Tensor) -> Tensor:
    """Log C(κ) of vMF(z; μ, κ) = C(κ) exp(κ μᵀz)."""
    k = torch.arange(400, dtype=torch.float64, device=concentration.device)
    x = concentration.double().clamp_min(1e-300).unsqueeze(-1)
    terms = (
        2 * k * (x / 2).log() - torch.lgamma(k + 1) - torch.lgamma(k + dim / 2) + torch.lgamma(k.new_tensor(dim / 2))
    )
    return (-log_surface_area(dim) - terms.logsumexp(-1)).to(concentration.dtype)


def von_mises_fisher_mean_resultant_length(dim: int, concentration: Tensor) -> Tensor:
    """A(κ) = I_{d/2}(κ)/I_{d/2−1}(κ)."""
    with torch.enable_grad():
        x = concentration.double().detach().requires_grad_()
        (grad,) = torch.autograd.grad(-von_mises_fisher_log_normalizer(dim, x).sum(), x)
    return grad.to(concentration.dtype)
