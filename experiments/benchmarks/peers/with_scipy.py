"""SciPy's von Mises–Fisher distribution: one concentration and one direction, in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import vonmises_fisher
from torch import Tensor

from experiments.benchmarks.peers.implementation import Array, Implementation, Unsupported

_LAW: Any = vonmises_fisher  # its stubs want tuples of floats


class SciPyVonMisesFisher(Implementation):
    """`scipy.stats.vonmises_fisher`."""

    library, family = "SciPy", "vMF"

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Log C alone: the log density at right angles to μ."""
        axes = np.zeros((2, dim))
        axes[0, 0] = axes[1, 1] = 1
        with np.errstate(all="ignore"):
            return {"log_normalizer": np.array([_LAW.logpdf(axes[1], axes[0], kappa) for kappa in concentration])}

    def single_log_normalizer(self, dim: int, concentration: Array) -> Array:  # noqa: ARG002
        """Refuse."""
        raise Unsupported("computes in float64")

    def log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:  # noqa: ARG002
        """Refuse: the batch has as many directions as points."""
        raise Unsupported("one direction and one concentration at a time")

    def log_prob_step(
        self,
        value: Tensor,  # noqa: ARG002
        mean_direction: Tensor,  # noqa: ARG002
        concentration: Tensor,  # noqa: ARG002
    ) -> Callable[[], object]:
        """Refuse."""
        raise Unsupported("one direction and one concentration at a time, no derivatives")

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Callable[[], object]:
        """Prepare a call that draws."""
        if mean_direction.is_cuda:
            raise Unsupported("runs on the CPU alone")
        direction = mean_direction.double().numpy()
        law = _LAW(direction / np.linalg.norm(direction), concentration, seed=np.random.default_rng(seed))
        return lambda: law.rvs(count)
