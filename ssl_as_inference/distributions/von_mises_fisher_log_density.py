"""The log density of the von Mises–Fisher distribution with its derivatives, in one step of the autograd graph."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.log_density_of_cosine import LogDensityOfCosine
from ssl_as_inference.special import (
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_complement,
)
from ssl_as_inference.sphere import half_squared_chord_value


class _LogDensity(LogDensityOfCosine):
    """The log density, and the gap for its derivatives."""

    @staticmethod
    def value(value: Tensor, mean_direction: Tensor, concentration: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        gap = half_squared_chord_value(value, mean_direction)
        kappa = concentration.to(torch.promote_types(gap.dtype, concentration.dtype))
        return von_mises_fisher_log_normalizer_plus_concentration(dim, kappa) - kappa * gap, gap

    @staticmethod
    def cosine_slope(output: int, concentration: Tensor, gap: Tensor, dim: int) -> Tensor | float:
        del gap, dim
        return (concentration, -1.0)[output]

    @staticmethod
    def concentration_slope(concentration: Tensor, gap: Tensor, dim: int) -> Tensor:
        return von_mises_fisher_mean_resultant_complement(dim, concentration) - gap


def von_mises_fisher_log_density(value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Tensor:
    r"""$\log\mathrm{vMF}(z;\mu,\kappa) = (\log C+\kappa) - \kappa w$, $w = \tfrac12\lVert z-\mu\rVert^2$.

    The derivative in κ is $(1-A) - w$, those in the vectors are κμ and κz.

    Args:
        value: Unit vectors z, shape `(*batch, dim)`.
        mean_direction: Unit vectors μ, broadcastable with z.
        concentration: κ ≥ 0, broadcastable with `batch`.

    Returns:
        Broadcast shape.

    Example:
        >>> e1, e2 = torch.eye(2, dtype=torch.float64)
        >>> von_mises_fisher_log_density(e1, e2, torch.zeros(())).exp() * 2 * torch.pi  # the uniform distribution
        tensor(1., dtype=torch.float64)
    """
    log_density: Tensor = _LogDensity.apply(value, mean_direction, concentration, value.size(-1))[0]
    return log_density
