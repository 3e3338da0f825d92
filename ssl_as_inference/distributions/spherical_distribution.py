"""Common code of all distributions on the unit sphere: checks of vectors, `expand`, `repr`."""

from __future__ import annotations

from typing import Any, Self

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference.precision import HALF
from ssl_as_inference.sphere import normalize


def unit_vectors(name: str, vectors: Tensor, *, validate: bool) -> Tensor:
    """The vectors in float32 or float64, by the rule of `ssl_as_inference.precision`.

    Args:
        name: Of the argument, for the message.
        vectors: Shape `(*batch, dim)`.
        validate: Whether lengths are checked, in the precision that the vectors came in.

    Raises:
        ValueError: If a vector is not of unit length.
    """
    if not vectors.is_floating_point():
        vectors = vectors.float()
    if validate:
        valid = constraints.sphere.check(vectors)
        if not torch._is_all_true(valid):  # noqa: SLF001  # as torch's own distributions ask, also under `torch.vmap`
            norm = at_fault(vectors.norm(dim=-1), valid, ".6g")
            raise ValueError(
                f"{name} must have unit length along its last dimension, got a vector of length {norm}; "
                "ssl_as_inference.sphere.normalize projects onto the sphere"
            )
    return normalize(vectors) if vectors.dtype in HALF else vectors


def require_real_tensor(name: str, value: Any) -> None:
    """Refuse what is not a tensor, or complex.

    Raises:
        ValueError: With the name of the argument.
    """
    if not isinstance(value, Tensor) or value.is_complex():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a tensor of real numbers, got {got}")


def at_fault(values: Tensor, valid: Tensor, format_spec: str = "") -> str:
    """One of the values that are not valid, for a message; under `torch.vmap`, which hides single values, all."""
    try:
        return format(values[~valid][0].item(), format_spec)
    except RuntimeError:
        return str(values)


class SphericalDistribution(TorchDistribution):
    """A distribution whose events are unit vectors.

    Values in half precision are raised to float32, see `ssl_as_inference.precision`.
    """

    support = constraints.sphere

    def _declare(self, batch_shape: torch.Size, dim: int, validate_args: bool | None) -> None:
        """Set the shapes, and `_validate_args` if it is given, without the base class's checks.

        Their messages say less than ours, and they would leave False on the instance, which hides the default.
        """
        super().__init__(batch_shape, torch.Size([dim]), validate_args=False)
        if validate_args is None:
            del self._validate_args
        else:
            self._validate_args = validate_args

    @property
    def dim(self) -> int:
        """Dimension d of the space around the sphere."""
        return int(self.event_shape[0])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the same distribution broadcast to `batch_shape`.

        Raises:
            ValueError: If its own batch shape does not broadcast to that.
        """
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape and _instance is None:  # Pyro expands every site to its plates
            return self
        own = (1,) * (len(batch_shape) - len(self.batch_shape)) + tuple(self.batch_shape)
        pairs = zip(own, batch_shape, strict=False)
        if len(own) != len(batch_shape) or any(j < 0 or i not in {1, j} for i, j in pairs):
            raise ValueError(
                f"batch_shape must be one that {tuple(self.batch_shape)} broadcasts to, got {tuple(batch_shape)}"
            )
        new: Self = self._get_checked_instance(type(self), _instance)  # type: ignore[no-untyped-call]
        if _instance is None:  # what a subclass has beside the parameters
            new.__dict__.update(self.__dict__)
        new.__dict__.update(self._expanded_parameters(batch_shape))
        new._declare(batch_shape, self.dim, self.__dict__.get("_validate_args"))  # of the same class
        return new

    def _expanded_parameters(self, batch_shape: torch.Size) -> dict[str, Any]:
        """What else the instance holds, expanded to this batch shape."""
        raise NotImplementedError

    def _checked_value(self, value: Tensor) -> Tensor:
        """A value for `log_prob`, raised to float32 at least and, when validating, seen to be on the sphere."""
        require_real_tensor("value", value)
        if value.shape[-1:] != self.event_shape:
            raise ValueError(f"value must have event shape {tuple(self.event_shape)}, got shape {tuple(value.shape)}")
        for own, given in zip(reversed(self.batch_shape), reversed(value.shape[:-1]), strict=False):
            if own != given and 1 not in {own, given}:
                raise ValueError(
                    f"value must broadcast with batch shape {tuple(self.batch_shape)} and event shape "
                    f"{tuple(self.event_shape)}, got shape {tuple(value.shape)}"
                )
        return unit_vectors("value", value, validate=self._validate_args)
