"""The von Mises–Fisher distribution, Eq. (7) of arXiv:2203.11437v1."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.distributions.von_mises_fisher_sampling import draw_gap
from ssl_as_inference.special import (
    von_mises_fisher_entropy,
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
    von_mises_fisher_tangent_variance,
)
from ssl_as_inference.special.von_mises_fisher_gap import attach_pathwise_derivative
from ssl_as_inference.sphere import half_squared_chord


class VonMisesFisher(RotationallySymmetric):
    r"""$\mathrm{vMF}(z;\mu,\kappa) = C(\kappa)\exp(\kappa\mu^\top z)$ on the unit sphere of $\mathbb{R}^d$.

    The normaliser and the moments are exact to rounding for every d ≥ 2 and κ ≥ 0, draws are exact, and `rsample` has
    pathwise derivatives in the mean direction and in the concentration (see the functions that are used here for
    formulas and sources). Scalars of a distribution are computed in float64 and returned in the dtype of the arguments.

    Args:
        mean_direction: Unit vectors μ, shape `(*batch, dim)`, dim ≥ 2.
        concentration: κ ≥ 0, broadcastable with `batch`; κ = 0 is the uniform law.
        validate_args: Check the arguments; `None` follows `torch.distributions`' default.

    Raises:
        ValueError: If an argument has the wrong shape, or (when validating) directions are not of unit length, or κ
            is negative, infinite or not a number.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> q = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(100.0))
        >>> q.rsample((2,)).shape, q.mean
        (torch.Size([2, 3]), tensor([0.0000, 0.0000, 0.9900]))
    """

    @property
    def mean_resultant_length(self) -> Tensor:
        """E[μᵀz] = A(κ), shape `batch_shape`."""
        return von_mises_fisher_mean_resultant_length(self.dim, self.concentration)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""$A'\mu\mu^\top + \frac{A}{\kappa}(I-\mu\mu^\top)$ (Mardia & Jupp 2000, Eq. 9.3.33), `(*batch, dim, dim)`."""
        along, across = self._principal_variances()
        outer = self.mean_direction.unsqueeze(-1) * self.mean_direction.unsqueeze(-2)
        return across.unsqueeze(-1).unsqueeze(-1) * (torch.eye(self.dim).to(outer) - outer) + (
            along.unsqueeze(-1).unsqueeze(-1) * outer
        )

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, the diagonal of `covariance_matrix`; shape `(*batch, dim)`."""
        along, across = (x.unsqueeze(-1) for x in self._principal_variances())
        square = self.mean_direction.square()
        return along * square + across * (1 - square)

    def _principal_variances(self) -> tuple[Tensor, Tensor]:
        """Variance along μ, which is A′(κ), and along each tangent, A/κ."""
        return (
            von_mises_fisher_resultant_slope(self.dim, self.concentration),
            von_mises_fisher_tangent_variance(self.dim, self.concentration),
        )

    def entropy(self) -> Tensor:
        """Differential entropy with respect to the surface measure, shape `batch_shape`."""
        return von_mises_fisher_entropy(self.dim, self.concentration)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density with respect to the surface measure, as $(\log C + \kappa) - \tfrac\kappa2\lVert z-\mu\rVert^2$.

        In this form nothing cancels next to the mode, where $\log C + \kappa\mu^\top z$ is a difference of large
        numbers. For unit vectors its derivative in z agrees with that of the usual form along the sphere.

        Args:
            value: Unit vectors, shape `(*batch, dim)`.
        """
        if self._validate_args:
            self._validate_sample(value)
        concentration = self._own_concentration
        peak = von_mises_fisher_log_normalizer_plus_concentration(self.dim, concentration)
        return peak - concentration * half_squared_chord(value, self.mean_direction)

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        with torch.no_grad():
            gap = draw_gap(self.dim, self._own_concentration, shape)
        gap = attach_pathwise_derivative(self.dim, self.concentration, gap)
        dtype = self.mean_direction.dtype
        limits = torch.finfo(dtype)  # at the poles themselves the sine has no derivative
        return gap.to(dtype).clamp(limits.tiny, 2 - 2 * limits.eps)
