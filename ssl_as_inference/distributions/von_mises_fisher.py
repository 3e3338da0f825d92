"""The von Mises–Fisher distribution, Eq. (7) of arXiv:2203.11437v1."""

from __future__ import annotations

from typing import Self

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
        return von_mises_fisher_log_density(value, self.mean_direction, self._own_concentration)

    def cosine_cdf(self, cosine: Tensor) -> Tensor:
        r"""$P(\mu^\top z \le t)$, for t in [−1, 1] that broadcasts with `batch_shape`.

        Next to the mode at large κ the gap 1 − t has digits that t has not: `special.von_mises_fisher_log_gap_tail`
        takes the gap.
        """
        tail = von_mises_fisher_log_gap_tail(self.dim, self.concentration, 1 - cosine.double(), upper=True)
        return tail.exp().to(torch.promote_types(cosine.dtype, self.concentration.dtype))

    def cosine_icdf(self, probability: Tensor) -> Tensor:
        r"""The quantile t of $\mu^\top z$, with $P(\mu^\top z \le t)$ = `probability` in [0, 1]."""
        p = probability.double()
        gap = von_mises_fisher_gap_quantile(self.dim, self.concentration, (-p).log1p() - p.log())
        return (1 - gap).to(torch.promote_types(probability.dtype, self.concentration.dtype))

    @classmethod
    def fit(
        cls,
        samples: Tensor,
        weights: Tensor | None = None,
        *,
        max_concentration: float = 1e30,
        validate_args: bool | None = None,
    ) -> Self:
        r"""Maximum likelihood: $\hat\mu = s/\lVert s\rVert$ and $A(\hat\kappa) = \lVert s\rVert$, s the weighted mean.

        1 − A is taken from the mean squared chord to $\hat\mu$, which keeps κ accurate for samples that nearly agree.

        Args:
            samples: Unit vectors, shape `(n, *batch, dim)`, as `sample((n,))` returns them.
            weights: Non-negative, shape `(n,)` or `(n, *batch)`; equal ones if `None`. Their sum does not matter.
            max_concentration: Bound on κ, which the likelihood drives to infinity where all samples coincide.
            validate_args: Passed to the distribution.

        Returns:
            A distribution of batch shape `batch`. Where s = 0 every direction is as good, and κ = 0.

        Raises:
            ValueError: If the shapes do not fit or some sum of weights is not positive.

        Example:
            >>> _ = torch.manual_seed(0)
            >>> truth = VonMisesFisher(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(20.0))
            >>> round(VonMisesFisher.fit(truth.sample((100_000,))).concentration.item())
            20
        """
        if samples.dim() < 2 or not samples.size(0):
            raise ValueError(f"samples must have shape (n, *batch, dim) with n >= 1, got {tuple(samples.shape)}")
        if weights is None:
            weights = samples.new_ones(samples.shape[:1])
        if weights.shape not in {samples.shape[:1], samples.shape[:-1]}:
            raise ValueError(
                f"weights must have shape {tuple(samples.shape[:1])} or {tuple(samples.shape[:-1])}, "
                f"got {tuple(weights.shape)}"
            )
        weights = weights.reshape(weights.shape + (1,) * (samples.dim() - 1 - weights.dim())).double()
        total = weights.sum(0)
        if (weights < 0).any() or not (total > 0).all():
            raise ValueError(f"weights must be non-negative with a positive sum, got the sum {total.min().item():.6g}")
        share = weights / total
        samples64 = samples.double()
        resultant = (share.unsqueeze(-1) * samples64).sum(0)
        length = torch.linalg.vector_norm(resultant, dim=-1)
        arbitrary = torch.zeros_like(resultant)
        arbitrary[..., 0] = 1
        mean_direction = normalize(torch.where((length > 0).unsqueeze(-1), resultant, arbitrary))
        complement = (share * half_squared_chord(samples64, mean_direction.expand_as(samples64))).sum(0)
        kappa = von_mises_fisher_concentration(samples.size(-1), length, complement).clamp(max=max_concentration)
        return cls(normalize(mean_direction.to(samples.dtype)), kappa.to(samples.dtype), validate_args=validate_args)

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        with torch.no_grad():
            gap = draw_gap(self.dim, self._own_concentration, shape)
        gap = attach_pathwise_derivative(self.dim, self.concentration, gap)
        dtype = self.mean_direction.dtype
        limits = torch.finfo(dtype)  # at the poles themselves the sine has no derivative
        return gap.to(dtype).clamp(limits.tiny, 2 - 2 * limits.eps)
