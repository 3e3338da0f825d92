"""Normaliser and moments of the Power Spherical distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def power_spherical_log_normalizer(dim: int, concentration: Tensor) -> Tensor:
    """Log C(κ) of PS(z; μ, κ) = C(κ)(1 + μᵀz)^κ."""
    b = (dim - 1) / 2
    a = concentration.double() + b
    value = -((a + b) * math.log(2) + b * math.log(math.pi) + torch.lgamma(a) - torch.lgamma(a + b))
    return value.to(concentration.dtype)


def power_spherical_mean_resultant_length(dim: int, concentration: Tensor) -> Tensor:
    """κ/(κ+d−1)."""
    return concentration / (concentration + (dim - 1))


def power_spherical_mean_log_height(dim: int, concentration: Tensor) -> Tensor:
    """E log(1 + μᵀz) = log 2 + ψ(a) − ψ(a+b) = −d log C/dκ."""
    b = (dim - 1) / 2
    a = concentration.double() + b
    return (math.log(2) + torch.digamma(a) - torch.digamma(a + b)).to(concentration.dtype)
