"""The guide of the paper: a mixture of Dirac measures, Eq. (8) of arXiv:2203.11437v1."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from ssl_as_inference.distributions.spherical_distribution import (
    SphericalDistribution,
    require_real_tensor,
    unit_vectors,
)


class DeltaMixture(SphericalDistribution):
    r"""$q(z) = \frac1M\sum_{j=1}^M \delta(z - f_j)$ with unit vectors $f_j$, the `locations`.

    Eq. (8) of arXiv:2203.11437v1. Expectations are finite sums, $\mathbb{E}_q[h(z)] = \frac1M\sum_j h(f_j)$: the paper
    prints them without the 1/M, which is needed for q to be a probability (C7).

    The measure has no density on the sphere. `log_prob` is taken with respect to counting over the M components: −log M
    at a location and −∞ elsewhere, so that enumerating the support sums to one. Locations that coincide still count as
    separate components.

    Args:
        locations: Unit vectors, shape `(*batch, M, dim)`, M ≥ 1, dim ≥ 2.
        validate_args: Check the arguments; `None` follows the default of `torch.distributions`.

    Raises:
        ValueError: If `locations` has the wrong shape or, when validating, a vector that is not of unit length.

    Example:
        >>> q = DeltaMixture(torch.eye(3)[:2])
        >>> q.enumerate_support().shape, q.mean
        (torch.Size([2, 3]), tensor([0.5000, 0.5000, 0.0000]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "locations": constraints.independent(constraints.sphere, 1)
    }
    has_enumerate_support = True
    # Not reparametrised: z is a choice among the components, and Pyro's TraceEnum_ELBO weighs an enumerated site by its
    # probability only where has_rsample is false. The gradient in the locations flows through `enumerate_support`.
    has_rsample = False

    locations: Tensor

    def __init__(self, locations: Tensor, *, validate_args: bool | None = None) -> None:
        require_real_tensor("locations", locations)
        if locations.dim() < 2 or locations.size(-2) < 1 or locations.size(-1) < 2:
            raise ValueError(
                f"locations must have shape (*batch, M, dim) with M >= 1 and dim >= 2, got {tuple(locations.shape)}"
            )
        validate = self._validate_args if validate_args is None else validate_args
        self.locations = unit_vectors("locations", locations, validate=validate)
        self._declare(locations.shape[:-2], locations.size(-1), validate_args)

    @staticmethod
    def infer_shapes(locations: Any) -> tuple[torch.Size, torch.Size]:  # type: ignore[override]  # called by keyword
        """Batch and event shape that `locations` of this shape would give."""
        return torch.Size(locations[:-2]), torch.Size(locations[-1:])

    def _expanded_parameters(self, batch_shape: torch.Size) -> dict[str, Any]:
        return {"locations": self.locations.expand(batch_shape + self.locations.shape[-2:])}

    @property
    def components(self) -> int:
        """Number M of components."""
        return self.locations.size(-2)

    @property
    def mean(self) -> Tensor:
        """The average location: inside the ball, not on the sphere."""
        return self.locations.mean(-2)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, the diagonal of `covariance_matrix`; shape `(*batch, dim)`."""
        return (self.locations - self.mean.unsqueeze(-2)).square().mean(-2)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""$\frac1M\sum_j (f_j-\bar f)(f_j-\bar f)^\top$, shape `(*batch, dim, dim)`."""
        centred = self.locations - self.mean.unsqueeze(-2)
        with torch.autocast(centred.device.type, enabled=False):
            return centred.mT @ centred / self.components

    def enumerate_support(self, expand: bool = True) -> Tensor:  # noqa: ARG002  # each batch element has its own support
        """The M locations, shape `(M, *batch, dim)`, whatever `expand`: every batch element has its own support."""
        return self.locations.movedim(-2, 0)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw one of the locations with probability 1/M each, shape `(*sample_shape, *batch, dim)`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        locations = self.locations.detach().expand(shape[:-1] + self.locations.shape[-2:])
        component = torch.randint(self.components, shape[:-1], device=locations.device)
        index = component[..., None, None].expand(*shape[:-1], 1, shape[-1])
        return locations.gather(-2, index).squeeze(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """−log M at a location, −∞ elsewhere: log probability with respect to counting over the components."""
        value = self._checked_value(value)
        is_location = (value.unsqueeze(-2) == self.locations).all(-1).any(-1)
        # Filled in the dtype of the locations: numbers given to torch.where would be rounded to float32 first.
        at_location = self.locations.new_full(is_location.shape, -math.log(self.components))
        density = at_location.masked_fill(~is_location, -math.inf)
        return density.masked_fill(value.isnan().any(-1) | self.locations.isnan().flatten(-2).any(-1), math.nan)

    def entropy(self) -> Tensor:
        """Log M, the entropy with respect to counting over the components."""
        return self.locations.new_full(self.batch_shape, math.log(self.components))
