"""The von Mises–Fisher distribution, Eq. (7) of arXiv:2203.11437v1."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.distributions.von_mises_fisher_log_density import von_mises_fisher_log_density
from ssl_as_inference.distributions.von_mises_fisher_sampling import draw_gap
from ssl_as_inference.special import (
    von_mises_fisher_entropy,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
    von_mises_fisher_tangent_variance,
)
from ssl_as_inference.special.von_mises_fisher_concentration import von_mises_fisher_concentration
from ssl_as_inference.special.von_mises_fisher_gap import (
    attach_pathwise_derivative,
    von_mises_fisher_gap_quantile,
    von_mises_fisher_log_gap_tail,
)
from ssl_as_inference.sphere import half_squared_chord, normalize


class VonMisesFisher(RotationallySymmetric):
    r"""$\mathrm{vMF}(z;\mu,\kappa) = C(\kappa)\exp(\kappa\mu^\top z)$ on the unit sphere of $\mathbb{R}^d$.

    The normaliser and the moments are exact to rounding for every d ≥ 2 and κ ≥ 0, draws are exact, and `rsample` has
    pathwise derivatives in the mean direction and in the concentration (see the functions that are used here for
    formulas and sources). Scalars of a distribution are computed in float64 and returned in the dtype of the arguments.

    Args:
        mean_direction: Unit vectors μ, shape `(*batch, dim)`, dim ≥ 2.
        concentration: κ ≥ 0, broadcastable with `batch`; κ = 0 is the uniform distribution.
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

    def _principal_variances(self) -> tuple[Tensor, Tensor]:
        """Variance along μ, which is A′(κ), and along each tangent, A/κ."""
        return (
            von_mises_fisher_resultant_slope(self.dim, self.concentration),
            von_mises_fisher_tangent_variance(self.dim, self.concentration),
        )

    def entropy(self) -> Tensor:
        """Differential entropy with respect to the surface measure, shape `batch_shape`."""
        return von_mises_fisher_entropy(self.dim, self.concentration)

    def _log_density(self, value: Tensor) -> Tensor:
        r"""Log density as $(\log C + \kappa) - \tfrac\kappa2\lVert z-\mu\rVert^2$.

        In this form nothing cancels next to the mode, where $\log C + \kappa\mu^\top z$ is a difference of large
        numbers. For unit vectors its derivative in z agrees with that of the usual form along the sphere.
        """
        return von_mises_fisher_log_density(value, self.mean_direction, self._own_concentration)

    def _cosine_cdf(self, cosine: Tensor) -> Tensor:
        gap, rest = 1 - cosine.clamp(-1, 1), 1 + cosine.clamp(-1, 1)
        tail = von_mises_fisher_log_gap_tail(self.dim, self.concentration, gap, rest, upper=True)
        return torch.where(cosine <= -1, 0.0, torch.where(cosine >= 1, 1.0, tail.exp()))

    def _cosine_icdf(self, probability: Tensor) -> Tensor:
        log_odds = (-probability).log1p() - probability.log()
        return 1 - von_mises_fisher_gap_quantile(self.dim, self.concentration, log_odds)

    @classmethod
    def _maximum_likelihood(cls, samples: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\hat\mu = s/\lVert s\rVert$ and $A(\hat\kappa) = \lVert s\rVert$, s the weighted mean.

        1 − A is taken from the mean squared chord to $\hat\mu$, which keeps κ accurate for samples that nearly agree.
        """
        vectors = samples.double()
        resultant = (weights.unsqueeze(-1) * vectors).sum(0)
        length = torch.linalg.vector_norm(resultant, dim=-1)
        arbitrary = torch.zeros_like(resultant)
        arbitrary[..., 0] = 1
        mean_direction = normalize(torch.where((length == 0).unsqueeze(-1), arbitrary, resultant))
        complement = (weights * half_squared_chord(vectors, mean_direction.expand_as(vectors))).sum(0)
        complement = complement.clamp_min(torch.finfo(samples.dtype).eps ** 2)
        kappa = von_mises_fisher_concentration(samples.size(-1), length, complement)
        return normalize(mean_direction.to(samples.dtype)), kappa

    def _draw_gap(self, shape: torch.Size) -> Tensor:
        gap = draw_gap(self.dim, self._own_concentration, shape)
        return attach_pathwise_derivative(self.dim, self.concentration, gap)
