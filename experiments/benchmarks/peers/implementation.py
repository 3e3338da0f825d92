"""What a benchmark asks of an implementation of one distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
QUANTITIES = ("log_normalizer", "slope", "curvature", "kl_to_uniform", "resultant")  # as in references.Reference


@dataclass(frozen=True)
class Skipped:
    """A peer that takes no part, and why."""

    name: str
    reason: str


class Unsupported(Exception):  # noqa: N818  # no error: the implementation does not offer this
    """Raised, with the reason, where an implementation cannot take part in a measurement."""


class Implementation(ABC):
    """One distribution of one library.

    A measurement that a library does not offer raises `Unsupported`.

    Attributes:
        library: Its name.
        family: "vMF" or "PS".
        peer: False for this project's own.
    """

    library: str
    family: str
    peer: ClassVar[bool] = True

    @abstractmethod
    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Those of `QUANTITIES` that it offers, in float64."""

    @abstractmethod
    def single_log_normalizer(self, dim: int, concentration: Array) -> Array:
        """Log C computed in float32, which represents the given concentrations."""

    @abstractmethod
    def log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:
        """Log densities of a batch, in the dtype of the arguments."""

    @abstractmethod
    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Callable[[], object]:
        """Prepare a call: log_prob of a batch and the derivatives of its sum in all that requires a gradient."""

    @abstractmethod
    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Callable[[], object]:
        """Prepare a call that draws `count` points; it returns what `to_array` reads."""

    def to_array(self, draws: object) -> Array:
        """Draws as float64."""
        return np.asarray(draws, dtype=np.float64)
