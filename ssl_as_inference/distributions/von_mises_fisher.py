"""The von Mises–Fisher distribution, Eq. (7) of arXiv:2203.11437v1."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.special import von_mises_fisher_log_normalizer, von_mises_fisher_mean_resultant_length
from ssl_as_inference.sphere import half_squared_chord


class VonMisesFisher(RotationallySymmetric):
    r"""$\mathrm{vMF}(z;\mu,\kappa) = C(\kappa)\exp(\kappa\mu^\top z)$."""

    @property
    def mean_resultant_length(self) -> Tensor:
        """E[μᵀz], shape `batch_shape`."""
        return von_mises_fisher_mean_resultant_length(self.dim, self.concentration)

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to the surface measure."""
        if self._validate_args:
            self._validate_sample(value)
        log_c = von_mises_fisher_log_normalizer(self.dim, self.concentration)
        return log_c + self.concentration - self.concentration * half_squared_chord(value, self.mean_direction)
