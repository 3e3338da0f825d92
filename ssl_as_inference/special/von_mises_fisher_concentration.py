"""The concentration that has a given mean resultant length: the inverse of A, as maximum likelihood needs it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special.von_mises_fisher import (
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
)
from ssl_as_inference.sphere import checked_dim

_NEWTON_STEPS = 6  # the start is right to some percent, and each step doubles the number of right digits


class _Concentration(Elementwise):
    """κ with A(κ) = r̄, from r̄ where that is below ½ and from 1 − r̄ above."""

    keeps_value = True

    @staticmethod
    def value(length: Tensor, complement: Tensor, dim: int) -> Tensor:
        tiny = torch.finfo(torch.float64).tiny
        r, m = length.clamp(tiny, 1), complement.clamp(tiny, 1)
        kappa = r * (dim - r.square()) / (m * (1 + r))
        for _ in range(_NEWTON_STEPS):
            a = von_mises_fisher_mean_resultant_length(dim, kappa)
            b = von_mises_fisher_mean_resultant_complement(dim, kappa)
            low, high = (r / a).log() * a, (b / m).log() * b
            step = torch.where(length < 0.5, low, high) / (kappa * von_mises_fisher_resultant_slope(dim, kappa))
            kappa = kappa * step.clamp(-1, 1).exp()
        return torch.where(length <= 0, 0.0, torch.where(complement <= 0, torch.inf, kappa))

    @staticmethod
    def partials(length: Tensor, complement: Tensor, kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        del complement
        growth = von_mises_fisher_resultant_slope(dim, kappa.clamp(max=1e100)).reciprocal()
        return torch.where(length < 0.5, growth, 0.0), torch.where(length < 0.5, 0.0, -growth)


def von_mises_fisher_concentration(
    dim: int, mean_resultant_length: Tensor, mean_resultant_complement: Tensor | None = None
) -> Tensor:
    r"""Solve $A(\kappa) = \bar r$.

    Newton's steps in log κ, on log A below $\bar r = ½$ and on log(1 − A) above, from $\bar r(d-\bar r^2)/(1-\bar r^2)$
    (Banerjee et al. 2005, Clustering on the Unit Hypersphere using von Mises–Fisher Distributions, Eq. 4.4).
    Differentiable, by $d\kappa/d\bar r = 1/A'(\kappa)$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        mean_resultant_length: $\bar r$ in [0, 1], any shape.
        mean_resultant_complement: $1-\bar r$, for where the caller knows it to more digits than the difference has.

    Returns:
        κ, in the shape and dtype of `mean_resultant_length`: 0 at $\bar r = 0$, infinite at $1-\bar r = 0$.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_concentration(3, torch.tensor(0.5373148))
        tensor(2.0000)
    """
    dim, length = checked_dim(dim), mean_resultant_length.double()
    complement = 1 - length if mean_resultant_complement is None else mean_resultant_complement.double()
    kappa: Tensor = _Concentration.apply(length, complement, dim)
    return kappa.to(result_dtype(mean_resultant_length))
