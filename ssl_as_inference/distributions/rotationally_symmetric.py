"""The base class of the von Mises–Fisher and the Power Spherical: densities that depend on the cosine only."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from pyro.distributions import constraints
from torch import Tensor

from ssl_as_inference.distributions.spherical_distribution import (
    SphericalDistribution,
    at_fault,
    require_real_tensor,
    unit_vectors,
)
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.sphere import uniform_at_gap, without_copies

_MIN_DIM = 2


class RotationallySymmetric(SphericalDistribution):
    r"""A density on the unit sphere of R^d that depends on z through the cosine $\mu^\top z$ only.

    With $w = 1-\mu^\top z$ the gap to the mode and v uniform on the unit tangents at μ, a draw is
    $z = (1-w)\mu + \sqrt{w(2-w)}\,v$. Subclasses provide the distribution of w.

    Args:
        mean_direction: Unit vectors μ, shape `(*batch, dim)`, dim ≥ 2.
        concentration: κ ≥ 0, broadcastable with `batch`.
        validate_args: Check the arguments; `None` follows `torch.distributions`' default.

    Raises:
        ValueError: If an argument has the wrong shape, or (when validating) directions are not of unit length, or κ
            is negative, infinite or not a number.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "mean_direction": constraints.sphere,
        "concentration": constraints.nonnegative,
    }
    has_rsample = True

    mean_direction: Tensor
    concentration: Tensor

    _own_concentration: Tensor
    """The concentration without the copies that `expand` makes: broadcastable with `batch_shape`.

    Scalars of a distribution need not be computed once for each of the points that share a concentration.
    """

    def __init__(
        self, mean_direction: Tensor, concentration: Tensor | float, *, validate_args: bool | None = None
    ) -> None:
        require_real_tensor("mean_direction", mean_direction)
        if mean_direction.dim() < 1 or mean_direction.size(-1) < _MIN_DIM:
            raise ValueError(
                f"mean_direction must have shape (*batch, dim) with dim >= {_MIN_DIM}, "
                f"got {tuple(mean_direction.shape)}"
            )
        validate = self._validate_args if validate_args is None else validate_args
        mean_direction = unit_vectors("mean_direction", mean_direction, validate=validate)
        if not isinstance(concentration, Tensor):
            # Filled on the device: a number that is copied to it would wait for it, and cannot be recorded in a graph.
            try:
                concentration = mean_direction.new_full((), concentration)
            except (TypeError, RuntimeError) as error:
                raise ValueError(f"concentration must be a tensor or a number, got {concentration!r}") from error
        require_real_tensor("concentration", concentration)
        if concentration.dtype not in {torch.float32, torch.float64}:
            concentration = concentration.to(mean_direction.dtype)
        batch_shape = _broadcast(mean_direction, concentration)
        self.mean_direction = _expanded(mean_direction, batch_shape + mean_direction.shape[-1:])
        self.concentration = _expanded(concentration, batch_shape)
        self._own_concentration = without_copies(concentration)
        self._declare(batch_shape, mean_direction.size(-1), validate_args)
        if validate:
            valid = (concentration >= 0) & concentration.isfinite()
            if not torch._is_all_true(valid):  # noqa: SLF001  # as torch's own distributions ask
                raise ValueError(f"concentration must be finite and >= 0, got {at_fault(concentration, valid)}")

    @staticmethod
    def infer_shapes(  # type: ignore[override]  # Pyro calls it by keyword, one per argument
        mean_direction: Any, concentration: Any = ()
    ) -> tuple[torch.Size, torch.Size]:
        """Batch and event shape that these argument shapes would give."""
        return torch.broadcast_shapes(mean_direction[:-1], concentration), torch.Size(mean_direction[-1:])

    def _expanded_parameters(self, batch_shape: torch.Size) -> dict[str, Any]:
        return {
            "mean_direction": self.mean_direction.expand(batch_shape + self.event_shape),
            "concentration": self.concentration.expand(batch_shape),
            "_own_concentration": self._own_concentration,
        }

    @classmethod
    def fit(cls, samples: Tensor, weights: Tensor | None = None, *, validate_args: bool | None = None) -> Self:
        r"""Maximum likelihood estimate, batched and weighted, without derivatives.

        Args:
            samples: Unit vectors, shape `(n, *batch, dim)`, as `sample((n,))` returns them.
            weights: Non-negative, shape `(n, *batch)` or `(n,)`; all one if not given. Their scale does not matter.
            validate_args: Check the values of both; also handed on to the distribution.

        Returns:
            A distribution of batch shape `batch`. For samples that coincide the best κ is infinite; about
            $(d-1)/(2\epsilon^2)$ is returned, ε = `torch.finfo(dtype).eps`, as if their spread were rounding. Where all
            directions are equally good, any is returned. The best direction of a Power Spherical is searched from the
            mean of the samples: where they all but cancel, it may be a local maximum.

        Raises:
            ValueError: If a shape is wrong, or (when validating) samples are not of unit length or weights negative,
                not finite or all zero.

        Example:
            >>> from ssl_as_inference.distributions import PowerSpherical
            >>> _ = torch.manual_seed(0)
            >>> truth = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 20.0)
            >>> round(PowerSpherical.fit(truth.sample((100_000,))).concentration.item())
            20
        """
        require_real_tensor("samples", samples)
        if samples.dim() < 2 or not samples.size(0) or samples.size(-1) < _MIN_DIM:
            raise ValueError(
                f"samples must have shape (n, *batch, dim) with n >= 1 and dim >= {_MIN_DIM}, "
                f"got {tuple(samples.shape)}"
            )
        shape = samples.shape[:-1]
        if weights is None:
            weights = samples.new_ones(shape[:1])
        elif weights.shape not in {shape, shape[:1]}:
            raise ValueError(
                f"weights must have shape {tuple(shape)} or {tuple(shape[:1])}, got {tuple(weights.shape)}"
            )
        validate = cls._validate_args if validate_args is None else validate_args
        samples = unit_vectors("samples", samples.detach(), validate=validate)
        weights = weights.detach().double()
        weights = weights.reshape(weights.shape + (1,) * (len(shape) - weights.dim()))
        largest = weights.amax(0)
        if validate and not ((weights >= 0) & weights.isfinite() & (largest > 0)).all():
            raise ValueError(
                "weights must be finite and >= 0 with a positive sum, "
                f"got a least of {weights.min().item()} and sums from {weights.sum(0).min().item()}"
            )
        share = weights / largest  # so that no sum of large weights overflows
        mean_direction, concentration = cls._maximum_likelihood(samples, (share / share.sum(0)).expand(shape))
        return cls(mean_direction, concentration.to(samples.dtype), validate_args=validate_args)

    @classmethod
    @abstractmethod
    def _maximum_likelihood(cls, samples: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean direction `(*batch, dim)` and concentration `(*batch)`; float64 weights `(n, *batch)` sum to one."""

    @property
    def dtype(self) -> torch.dtype:
        """The wider dtype of μ and κ."""
        return result_dtype(self.mean_direction, self.concentration)

    @property
    @abstractmethod
    def mean_resultant_length(self) -> Tensor:
        r"""$\mathbb{E}[\mu^\top z] = \lVert\mathbb{E} z\rVert$, between 0 (uniform) and 1; shape `batch_shape`."""

    @abstractmethod
    def _principal_variances(self) -> tuple[Tensor, Tensor]:
        """Variance along μ, and along each unit tangent at μ; shape `batch_shape`."""

    @abstractmethod
    def _log_density(self, value: Tensor) -> Tensor:
        """Log density at unit vectors in float32 or float64."""

    @abstractmethod
    def _draw_gap(self, shape: torch.Size) -> Tensor:
        r"""Draw $w = 1-\mu^\top z \in [0, 2]$ in float64, differentiable in κ; shape `shape`."""

    @abstractmethod
    def _cosine_cdf(self, cosine: Tensor) -> Tensor:
        """P(μᵀz ≤ t)."""

    @abstractmethod
    def _cosine_icdf(self, probability: Tensor) -> Tensor:
        """The t with P(μᵀz ≤ t) = `probability`."""

    @property
    def mean(self) -> Tensor:
        r"""$\mathbb{E}[z]$ = mean resultant length × μ: inside the ball, not on the sphere."""
        return self.mean_resultant_length.unsqueeze(-1) * self.mean_direction

    @property
    def mode(self) -> Tensor:
        """The mean direction μ (any point is a mode at κ = 0)."""
        return self.mean_direction

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, the diagonal of `covariance_matrix`; shape `(*batch, dim)`."""
        along, across = (value.unsqueeze(-1) for value in self._principal_variances())
        square = self.mean_direction.square()
        return along * square + across * (1 - square).clamp_min(0)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""$\alpha\mu\mu^\top + \beta(I-\mu\mu^\top)$, variances α along and β across; shape `(*batch, dim, dim)`."""
        along, across = (value[..., None, None] for value in self._principal_variances())
        projector = self.mean_direction.unsqueeze(-1) * self.mean_direction.unsqueeze(-2)
        identity = torch.eye(self.dim, dtype=projector.dtype, device=projector.device)
        return along * projector + across * (identity - projector)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density with respect to the surface measure.

        Args:
            value: Unit vectors z, shape broadcastable with `(*batch, dim)`.

        Returns:
            Broadcast batch shape, in the widest dtype of z, μ and κ.

        Raises:
            ValueError: If z has another dimension, or (when validating) is not of unit length.
        """
        return self._log_density(self._checked_value(value))

    def cosine_cdf(self, cosine: Tensor) -> Tensor:
        r"""$P(\mu^\top z \le t)$ for a number t, in float64 inside.

        Args:
            cosine: t, broadcastable with `batch_shape`.

        Returns:
            Broadcast shape; 0 below −1, 1 above 1 and NaN at NaN.

        Raises:
            ValueError: When validating, if t is not in [−1, 1].
        """
        self._check_interval("cosine", cosine, -1)
        return self._cosine_cdf(cosine.double()).to(result_dtype(cosine, self.concentration))

    def cosine_icdf(self, probability: Tensor) -> Tensor:
        r"""The quantile t of $\mu^\top z$: the inverse of `cosine_cdf`, −1 and 1 at its ends.

        Args:
            probability: In [0, 1], broadcastable with `batch_shape`.

        Returns:
            Broadcast shape, NaN where `probability` is not in [0, 1].

        Raises:
            ValueError: When validating, if `probability` is not in [0, 1].
        """
        self._check_interval("probability", probability, 0)
        return self._cosine_icdf(probability.double()).to(result_dtype(probability, self.concentration))

    def _check_interval(self, name: str, number: Tensor, least: int) -> None:
        if self._validate_args:
            valid = (number >= least) & (number <= 1)
            if not torch._is_all_true(valid):  # noqa: SLF001  # as torch's own distributions ask
                raise ValueError(f"{name} must be in [{least}, 1], got {at_fault(number, valid)}")

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with pathwise derivatives in `mean_direction` and `concentration`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return uniform_at_gap(self.mean_direction.expand(shape), self._rsample_gap(shape[:-1]))

    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        # Strictly inside (0, 2): the sample's tangential part √(w(2−w)) has infinite slope at both ends, which
        # rounding to float32 would reach (with probability 1e-4 at d = 2, κ = 0).
        limits = torch.finfo(self.mean_direction.dtype)
        return self._draw_gap(shape).to(self.mean_direction.dtype).clamp(limits.tiny, 2 - 2 * limits.eps)


def _expanded(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The tensor expanded to this shape; itself where it has it, which an autograd graph has a node less for."""
    return tensor if tensor.shape == shape else tensor.expand(shape)


def _broadcast(mean_direction: Tensor, concentration: Tensor) -> torch.Size:
    """Batch shape of the arguments; torch's own function takes longer than all else in making a distribution."""
    directions, concentrations = mean_direction.shape[:-1], concentration.shape
    if directions == concentrations or (concentrations.numel() == 1 and len(concentrations) <= len(directions)):
        return torch.Size(directions)
    try:
        return torch.Size(torch.broadcast_shapes(directions, concentrations))
    except RuntimeError as error:
        raise ValueError(
            f"concentration of shape {tuple(concentrations)} does not broadcast with the batch shape "
            f"{tuple(directions)} of mean_direction"
        ) from error
