"""What the von Mises–Fisher and the Power Spherical distribution share: a density that depends on the cosine alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference.sphere import uniform_at_gap, without_copies

_MIN_DIM = 2


class RotationallySymmetric(TorchDistribution):
    r"""A density on the unit sphere of R^d that depends on z through the cosine $\mu^\top z$ only.

    With $w = 1-\mu^\top z$ the gap to the mode and v uniform on the unit tangents at μ, a draw is
    $z = (1-w)\mu + \sqrt{w(2-w)}\,v$. Subclasses provide the law of w.

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
    support = constraints.sphere
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
        if mean_direction.dim() < 1 or mean_direction.size(-1) < _MIN_DIM:
            raise ValueError(
                f"mean_direction must have shape (*batch, dim) with dim >= {_MIN_DIM}, "
                f"got {tuple(mean_direction.shape)}"
            )
        if not isinstance(concentration, Tensor):
            # Filled on the device: a number that is copied to it would wait for it, and cannot be recorded in a graph.
            concentration = mean_direction.new_full((), concentration)
        batch_shape = _broadcast(mean_direction, concentration)
        event_shape = mean_direction.shape[-1:]
        self.mean_direction = _expanded(mean_direction, batch_shape + event_shape)
        self.concentration = _expanded(concentration, batch_shape)
        self._own_concentration = without_copies(concentration)
        super().__init__(batch_shape, event_shape, validate_args=False)
        # The base class is kept from checking, since the messages below say more. That leaves False on the instance,
        # which would also hide the default for the values given to log_prob.
        if validate_args is None:
            del self._validate_args
        else:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_arguments()

    def _check_arguments(self) -> None:
        valid = constraints.sphere.check(self.mean_direction)
        if not valid.all():
            norm = self.mean_direction.norm(dim=-1)[~valid].flatten()[0].item()
            raise ValueError(
                f"mean_direction must have unit length along its last dimension, got a vector of length {norm:.6g}; "
                "ssl_as_inference.sphere.normalize projects onto the sphere"
            )
        valid = (self.concentration >= 0) & self.concentration.isfinite()
        if not valid.all():
            value = self.concentration[~valid].flatten()[0].item()
            raise ValueError(f"concentration must be finite and >= 0, got {value}")

    @property
    def dim(self) -> int:
        """Dimension d of the space around the sphere."""
        return int(self.event_shape[0])

    @staticmethod
    def infer_shapes(  # type: ignore[override]  # Pyro calls it by keyword, one per argument
        mean_direction: Any, concentration: Any = ()
    ) -> tuple[torch.Size, torch.Size]:
        """Batch and event shape that these argument shapes would give."""
        return torch.broadcast_shapes(mean_direction[:-1], concentration), torch.Size(mean_direction[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the same distribution broadcast to `batch_shape`."""
        new: Self = self._get_checked_instance(type(self), _instance)  # type: ignore[no-untyped-call]
        batch_shape = torch.Size(batch_shape)
        new.mean_direction = self.mean_direction.expand(batch_shape + self.event_shape)
        new.concentration = self.concentration.expand(batch_shape)
        new._own_concentration = self._own_concentration
        super(RotationallySymmetric, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _validate_sample(self, value: Tensor) -> None:
        if value.dim() < 1 or value.shape[-1:] != self.event_shape:
            raise ValueError(f"value must have event shape {tuple(self.event_shape)}, got shape {tuple(value.shape)}")
        super()._validate_sample(value)

    @property
    @abstractmethod
    def mean_resultant_length(self) -> Tensor:
        r"""$\mathbb{E}[\mu^\top z] = \lVert\mathbb{E} z\rVert$, between 0 (uniform) and 1; shape `batch_shape`."""

    @abstractmethod
    def _rsample_gap(self, shape: torch.Size) -> Tensor:
        r"""Draw $w = 1-\mu^\top z \in [0, 2]$, differentiable in κ; shape `shape`."""

    @property
    def mean(self) -> Tensor:
        r"""$\mathbb{E}[z]$ = mean resultant length × μ: inside the ball, not on the sphere."""
        return self.mean_resultant_length.unsqueeze(-1) * self.mean_direction

    @property
    def mode(self) -> Tensor:
        """The mean direction μ (any point is a mode at κ = 0)."""
        return self.mean_direction

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw with pathwise derivatives in `mean_direction` and `concentration`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return uniform_at_gap(self.mean_direction.expand(shape), self._rsample_gap(shape[:-1]))


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
