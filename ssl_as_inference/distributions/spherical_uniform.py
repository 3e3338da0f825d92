"""The uniform distribution on the sphere (placeholder until the ps branch is merged)."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference.sphere import log_surface_area, normalize


class SphericalUniform(TorchDistribution):
    """Uniform on the unit sphere of R^dim."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.sphere
    has_rsample = True

    def __init__(
        self,
        dim: int,
        *,
        batch_shape: Any = (),
        dtype: Any = None,
        device: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self._like = torch.empty(0, dtype=dtype, device=device)
        super().__init__(torch.Size(batch_shape), torch.Size((dim,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        return type(self)(
            self.event_shape[0], batch_shape=batch_shape, dtype=self._like.dtype, device=self._like.device
        )

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return normalize(
            torch.randn(
                self._extended_shape(torch.Size(sample_shape)), dtype=self._like.dtype, device=self._like.device
            )
        )

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.full(
            torch.broadcast_shapes(self.batch_shape, value.shape[:-1]),
            -log_surface_area(self.event_shape[0]),
            dtype=value.dtype,
        )
