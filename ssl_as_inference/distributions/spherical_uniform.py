"""The uniform distribution on the unit sphere."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch
from pyro.distributions import constraints
from torch import Tensor

from ssl_as_inference.distributions.spherical_distribution import SphericalDistribution
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.sphere import checked_dim, log_surface_area, normalize


class SphericalUniform(SphericalDistribution):
    r"""Constant density 1/area on the unit sphere of R^d, $\text{area} = 2\pi^{d/2}/\Gamma(d/2)$.

    The prior p(z) of the graphical model, and the limit κ → 0 of `VonMisesFisher` and `PowerSpherical`.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        batch_shape: Shape of independent copies.
        dtype: Floating dtype of samples, `torch.get_default_dtype()` if not given.
        device: Device of samples.
        validate_args: Check values given to `log_prob`; `None` follows `torch.distributions`' default.

    Raises:
        ValueError: If dim is not an integer ≥ 2 or the dtype is not a floating one of 32 bits at least.

    Example:
        >>> distribution = SphericalUniform(3)
        >>> distribution.log_prob(torch.tensor([0.0, 0.0, 1.0]))  # −log 4π
        tensor(-2.5310)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        dim: int,
        *,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in {torch.float32, torch.float64}:
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self._declare(torch.Size(batch_shape), checked_dim(dim), validate_args)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of samples."""
        kind: torch.dtype = self._kind["dtype"]
        return kind

    @property
    def device(self) -> torch.device | str | None:
        """Device of samples, as it was given."""
        device: torch.device | str | None = self._kind["device"]
        return device

    @property
    def _log_density(self) -> Tensor:
        # Filled on the device: a number copied to it would wait for it, and cannot be recorded in a CUDA graph.
        return torch.full((), -log_surface_area(self.dim), dtype=torch.float64, device=self._kind["device"])

    @staticmethod
    def infer_shapes(dim: int) -> tuple[torch.Size, torch.Size]:  # type: ignore[override]
        """Batch and event shape for this dimension."""
        return torch.Size(), torch.Size([dim])

    def _expanded_parameters(self, batch_shape: torch.Size) -> dict[str, Any]:  # noqa: ARG002  # none has a shape
        return {"_kind": self._kind}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dim}, batch_shape={tuple(self.batch_shape)}, dtype={self.dtype})"

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw as normalised normal vectors; there is no parameter to differentiate by."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return normalize(torch.randn(shape, **self._kind))

    def log_prob(self, value: Tensor) -> Tensor:
        """Minus the log area, for every z.

        Args:
            value: Unit vectors z, shape broadcastable with `(*batch, dim)`.

        Returns:
            Broadcast batch shape.

        Raises:
            ValueError: If the last dimension is not d, or (when validating) z is not of unit length.
        """
        value = self._checked_value(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        log_density = self._log_density.to(result_dtype(value, self))
        # What is not a number is not on the sphere.
        return torch.where(value.detach().isnan().any(-1), torch.nan, log_density).expand(shape)

    def entropy(self) -> Tensor:
        """Log area, the largest entropy on the sphere; shape `batch_shape`."""
        return (-self._log_density).to(self.dtype).expand(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """Zero, the centre of the ball; shape `(*batch, dim)`."""
        return torch.zeros(self.batch_shape + self.event_shape, **self._kind)

    @property
    def variance(self) -> Tensor:
        """1/d in each coordinate; shape `(*batch, dim)`."""
        return torch.full_like(self.mean, 1 / self.dim)

    @property
    def covariance_matrix(self) -> Tensor:
        """I/d, shape `(*batch, dim, dim)`."""
        identity = torch.eye(self.dim, **self._kind)
        return (identity / self.dim).expand(self.batch_shape + identity.shape)

    @property
    def mode(self) -> NoReturn:
        """No point is more likely than another.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("the uniform density on the sphere is constant: it has no mode")
