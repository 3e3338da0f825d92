"""The Power Spherical distribution, Eq. (11) of arXiv:2203.11437v1."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.special import power_spherical_log_normalizer, power_spherical_mean_resultant_length
from ssl_as_inference.sphere import half_squared_chord


class PowerSpherical(RotationallySymmetric):
    r"""$\mathrm{PS}(z;\mu,\kappa) = C(\kappa)(1+\mu^\top z)^\kappa$."""

    @property
    def mean_resultant_length(self) -> Tensor:
        """E[μᵀz], shape `batch_shape`."""
        return power_spherical_mean_resultant_length(self.dim, self.concentration)

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to the surface measure."""
        if self._validate_args:
            self._validate_sample(value)
        log_c = power_spherical_log_normalizer(self.dim, self.concentration)
        height = 2 - half_squared_chord(value, self.mean_direction)
        return log_c + self.concentration * height.log()
