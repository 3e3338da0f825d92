"""The Power Spherical distribution, Eq. (11) of arXiv:2203.11437v1; De Cao and Aziz (2020), arXiv:2006.04437."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from ssl_as_inference.distributions.power_spherical_fit import fit_power_spherical
from ssl_as_inference.distributions.power_spherical_log_density import power_spherical_log_density
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.special import (
    polygamma_difference,
    power_spherical_cosine_cdf,
    power_spherical_cosine_icdf,
    power_spherical_entropy,
    power_spherical_mean_resultant_length,
)
from ssl_as_inference.special.beta_tails import beta_tail

_HALF = frozenset({torch.float16, torch.bfloat16})


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


class _ImplicitGap(torch.autograd.Function):
    """Carry a drawn gap w = 2h to the graph of κ: dw/dκ = −(∂F/∂κ)/p at fixed F, Figurnov et al. (2018)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(concentration: Tensor, h: Tensor, c: Tensor, dim: int) -> Tensor:  # noqa: ARG004
        return 2 * h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  # torch's signature
        ctx.save_for_backward(*inputs[:3])
        ctx.dim = inputs[3]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        concentration, h, c = ctx.saved_tensors
        b = (ctx.dim - 1) / 2
        a = concentration + b
        _, _, moment = beta_tail(a, b, -polygamma_difference(0, a, b, lower=b), h, c)
        return -2 * grad * c * moment, None, None, None


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
        >>> law = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 8.0)
        >>> law.mean  # κ/(κ+d−1) μ
        tensor([0.0000, 0.0000, 0.8000])
        >>> law.rsample((4,)).norm(dim=-1)
        tensor([1., 1., 1., 1.])
    """

    @classmethod
    def fit(cls, samples: Tensor, weights: Tensor | None = None, *, validate_args: bool | None = None) -> Self:
        r"""Maximum likelihood estimate, batched and weighted; a fixed number of Newton steps, no gradient.

        Args:
            samples: Unit vectors, shape `(n, *batch, dim)`, as `sample((n,))` returns them.
            weights: Non-negative, shape `(n, *batch)` or `(n,)`; all one if not given. Their scale does not matter.
            validate_args: Check the values of both; also handed on to the distribution.

        Returns:
            A distribution of batch shape `batch`. For samples that coincide κ is about
            $(d-1)/(2\epsilon^2)$ in place of ∞, ε = `torch.finfo(dtype).eps`.

        Raises:
            ValueError: If a shape is wrong, or (when validating) samples are not of unit length or weights negative.

        Example:
            >>> _ = torch.manual_seed(0)
            >>> law = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 20.0)
            >>> round(PowerSpherical.fit(law.sample((100_000,))).concentration.item())
            20
        """
        if samples.dim() < 2 or samples.size(0) == 0:
            raise ValueError(f"samples must have shape (n, *batch, dim) with n >= 1, got {tuple(samples.shape)}")
        samples = _at_least_single(samples.detach())
        shape = samples.shape[:-1]
        if weights is None:
            weights = samples.new_ones(shape)
        elif weights.shape not in {shape, shape[:1]}:
            raise ValueError(
                f"weights must have shape {tuple(shape)} or {tuple(shape[:1])}, got {tuple(weights.shape)}"
            )
        weights = (
            weights.detach()
            .to(samples.dtype)
            .reshape(shape[:1] + (1,) * (len(shape) - weights.dim()) + weights.shape[1:])
        )
        if validate_args is None:
            validate_args = cls._validate_args
        if validate_args:
            if not ((weights >= 0).all() and (weights.sum(0) > 0).all()):
                raise ValueError(f"weights must be >= 0 with a positive sum, got a minimum of {weights.min().item()}")
            cls(samples[0], 0.0, validate_args=True).log_prob(samples)
        weights = (weights / weights.sum(0)).expand(shape)
        mean_direction, concentration = fit_power_spherical(samples, weights)
        return cls(mean_direction, concentration, validate_args=validate_args)

    @property
    def mean_resultant_length(self) -> Tensor:
        """E[μᵀz] = κ/(κ+d−1), shape `batch_shape`."""
        return power_spherical_mean_resultant_length(self.dim, self.concentration)

    def _covariance_eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Variance across and along μ: 2a/{s(s+1)} and 4ab/{s²(s+1)}, s = a+b; nothing cancels at large κ."""
        b = (self.dim - 1) / 2
        a = self.concentration.double() + b
        total = a + b
        across = 2 * (a / total) / (total + 1)
        along = across * (2 * b / total)
        dtype = self.mean_direction.dtype
        return across.to(dtype), along.to(dtype)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape `(*batch, dim)`."""
        across, along = self._covariance_eigenvalues()
        square = self.mean_direction.square()
        return across.unsqueeze(-1) * (1 - square).clamp_min(0) + along.unsqueeze(-1) * square

    @property
    def covariance_matrix(self) -> Tensor:
        r"""$\alpha(I-\mu\mu^\top) + \beta\mu\mu^\top$, shape `(*batch, dim, dim)`."""
        across, along = (value[..., None, None] for value in self._covariance_eigenvalues())
        projector = self.mean_direction.unsqueeze(-1) * self.mean_direction.unsqueeze(-2)
        identity = torch.eye(self.dim, dtype=projector.dtype, device=projector.device)
        return across * (identity - projector) + along * projector

    def entropy(self) -> Tensor:
        """Differential entropy with respect to the surface measure, shape `batch_shape`."""
        return power_spherical_entropy(self.dim, self.concentration)

    def cosine_cdf(self, cosine: Tensor) -> Tensor:
        """P(μᵀz ≤ t) for t = `cosine` between −1 and 1, broadcastable with `batch_shape`."""
        return power_spherical_cosine_cdf(self.dim, self.concentration, cosine)

    def cosine_icdf(self, probability: Tensor) -> Tensor:
        """Quantile of μᵀz: the inverse of `cosine_cdf`, for 0 < `probability` < 1."""
        return power_spherical_cosine_icdf(self.dim, self.concentration, probability)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density with respect to the surface measure.

        The height $h = (1+\mu^\top z)/2$ is taken from the squared chord to the nearer of μ and −μ. It keeps its digits
        near both and rounding cannot carry it below 0. What is left of the log density at the mode, log C + κ log 2,
        has no term of the size of κ.

        At z = −μ the value is −∞ for every κ > 0. The derivatives have a pole there, $\kappa/(2h)$ in the cosine and
        $\log h$ in κ; they are those at $h = \epsilon$ wherever $h < \epsilon$, with ε = `torch.finfo(dtype).eps`.
        That is the rounding error of an inner product of unit vectors, below which the slope follows noise. Nor could
        ε be smaller for training: of a derivative κ/(2ε) along −μ the projection on the tangent space removes all
        but its rounding, and what remains is of the size of κ, that of the slopes elsewhere.

        Args:
            value: Unit vectors z, shape broadcastable with `(*batch, dim)`.

        Returns:
            Broadcast batch shape, in the wider dtype of z, μ and κ, float32 at least.

        Raises:
            ValueError: When validating, if z has the wrong shape or is not of unit length.
        """
        if self._validate_args:
            self._validate_sample(value)
        mean_direction, concentration = self.mean_direction, self._own_concentration
        dtype = value.dtype
        if dtype is not mean_direction.dtype or dtype is not concentration.dtype or dtype in _HALF:
            value, mean_direction = _at_least_single(value), _at_least_single(mean_direction)
            vectors = torch.promote_types(value.dtype, mean_direction.dtype)
            value, mean_direction = value.to(vectors), mean_direction.to(vectors)
            dtype = torch.promote_types(vectors, concentration.dtype)
        return power_spherical_log_density(value, mean_direction, concentration, torch.finfo(dtype).eps)

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        """Draw w = 2h, h ~ Beta(b, a) as a ratio of gamma variates, which keeps its relative accuracy for small w.

        The derivative in κ is the implicit one, by quadrature of the distribution function's, and once differentiable.
        """
        b = (self.dim - 1) / 2
        concentration = self.concentration.double().expand(shape)
        with torch.no_grad():
            across = torch._standard_gamma(torch.full_like(concentration, b))  # noqa: SLF001  # as torch's own Gamma does
            along = torch._standard_gamma(concentration + b)  # noqa: SLF001
            total = across + along
            h, c = across / total, along / total
        gap: Tensor = _ImplicitGap.apply(concentration, h, c, self.dim)
        # Strictly inside (0, 2): the sample's tangential part √(w(2−w)) has infinite slope at both ends, which
        # rounding to float32 would reach (with probability 1e-4 at d = 2, κ = 0).
        info = torch.finfo(_at_least_single(self.mean_direction).dtype)
        return gap.clamp(info.tiny, 2 - 2 * info.eps).to(_at_least_single(self.mean_direction).dtype)
