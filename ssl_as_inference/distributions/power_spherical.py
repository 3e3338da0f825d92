"""The Power Spherical distribution, Eq. (11) of arXiv:2203.11437v1; De Cao and Aziz (2020), arXiv:2006.04437."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.distributions.power_spherical_fit import fit_power_spherical
from ssl_as_inference.distributions.power_spherical_log_density import power_spherical_log_density
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.special import (
    polygamma_difference,
    power_spherical_cosine_cdf,
    power_spherical_cosine_icdf,
    power_spherical_entropy,
    power_spherical_mean_resultant_length,
)
from ssl_as_inference.special.beta_tails import beta_tail


class _ImplicitGap(Elementwise):
    """Carry a drawn gap w = 2h to the graph of κ: dw/dκ = −(∂F/∂κ)/p at fixed F, Figurnov et al. (2018)."""

    keeps_value = True

    @staticmethod
    def value(concentration: Tensor, h: Tensor, c: Tensor, dim: int) -> Tensor:
        del concentration, c, dim
        return 2 * h

    @staticmethod
    def partials(concentration: Tensor, h: Tensor, c: Tensor, gap: Tensor, dim: int) -> tuple[Tensor, None, None]:
        b = (dim - 1) / 2
        a = concentration + b
        motion = (gap - gap.detach()) / 2  # zero; for a second derivative h and 1 − h move, too
        h, c = h + motion, c - motion
        moment = beta_tail(a, b, -polygamma_difference(0, a, b, lower=b), h, c)[2]
        return -2 * c * moment, None, None


class PowerSpherical(RotationallySymmetric):
    r"""$\mathrm{PS}(z;\mu,\kappa) = C(\kappa)(1+\mu^\top z)^\kappa$ on the unit sphere of R^d, d ≥ 2.

    $(1+\mu^\top z)/2$ follows Beta(a, b), $a = \kappa+b$, $b = (d-1)/2$. For large κ it is close to a von Mises–Fisher
    distribution of concentration κ/2, for κ = 0 it is uniform.

    Args:
        mean_direction: Unit vectors μ, shape `(*batch, dim)`, dim ≥ 2.
        concentration: κ ≥ 0, broadcastable with `batch`.
        validate_args: Check the arguments; `None` follows `torch.distributions`' default.

    Raises:
        ValueError: If an argument has the wrong shape, or (when validating) directions are not of unit length, or κ
            is negative, infinite or not a number.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> distribution = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 8.0)
        >>> distribution.mean  # κ/(κ+d−1) μ
        tensor([0.0000, 0.0000, 0.8000])
        >>> distribution.rsample((4,)).norm(dim=-1)
        tensor([1., 1., 1., 1.])
    """

    @property
    def mean_resultant_length(self) -> Tensor:
        """E[μᵀz] = κ/(κ+d−1), shape `batch_shape`."""
        return power_spherical_mean_resultant_length(self.dim, self.concentration)

    def _principal_variances(self) -> tuple[Tensor, Tensor]:
        """4ab/{s²(s+1)} along μ and 2a/{s(s+1)} across, s = a+b; nothing cancels at large κ."""
        b = (self.dim - 1) / 2
        a = self.concentration.double() + b
        total = a + b
        across = 2 * (a / total) / (total + 1)
        along = across * (2 * b / total)
        return along.to(self.concentration.dtype), across.to(self.concentration.dtype)

    def entropy(self) -> Tensor:
        """Differential entropy with respect to the surface measure, shape `batch_shape`."""
        return power_spherical_entropy(self.dim, self.concentration)

    def _cosine_cdf(self, cosine: Tensor) -> Tensor:
        return power_spherical_cosine_cdf(self.dim, self.concentration, cosine)

    def _cosine_icdf(self, probability: Tensor) -> Tensor:
        return power_spherical_cosine_icdf(self.dim, self.concentration, probability)

    @classmethod
    def _maximum_likelihood(cls, samples: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return fit_power_spherical(samples, weights)

    def _log_density(self, value: Tensor) -> Tensor:
        r"""Log density.

        The height $h = (1+\mu^\top z)/2$ is taken from the squared chord to the nearer of μ and −μ. It keeps its digits
        near both and rounding cannot carry it below 0. What is left of the log density at the mode, log C + κ log 2,
        has no term of the size of κ.

        At z = −μ the value is −∞ for every κ > 0. The derivatives have a pole there, $\kappa/(2h)$ in the cosine and
        $\log h$ in κ; they are those at $h = \epsilon$ wherever $h < \epsilon$, with ε = `torch.finfo(dtype).eps`.
        That is the rounding error of an inner product of unit vectors, below which the slope follows noise. Nor could
        ε be smaller for training: of a derivative κ/(2ε) along −μ the projection on the tangent space removes all
        but its rounding, and what remains is of the size of κ, that of the slopes elsewhere.
        """
        vectors = torch.promote_types(value.dtype, self.mean_direction.dtype)
        concentration = self._own_concentration
        floor = torch.finfo(torch.promote_types(vectors, concentration.dtype)).eps
        return power_spherical_log_density(value.to(vectors), self.mean_direction.to(vectors), concentration, floor)

    def _draw_gap(self, shape: torch.Size) -> Tensor:
        """Draw w = 2h, h ~ Beta(b, a) as a ratio of gamma variates, which keeps its relative accuracy for small w.

        The derivative in κ is the implicit one, by quadrature of the distribution function's.
        """
        b = (self.dim - 1) / 2
        concentration = self.concentration.double().expand(shape)
        across = torch._standard_gamma(torch.full_like(concentration, b))  # noqa: SLF001  # as torch's own Gamma does
        along = torch._standard_gamma(concentration.detach() + b)  # noqa: SLF001
        along = torch.where(concentration.isnan(), torch.nan, along)  # of which torch makes a number
        total = across + along
        h, c = across / total, along / total
        gap: Tensor = _ImplicitGap.apply(concentration, h, c, self.dim)
        return gap
