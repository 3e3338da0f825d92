"""Distributions written in PyTorch under `torch.compile`, beside a peer that JAX compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.peers.implementation import Array, Unsupported
from experiments.benchmarks.peers.with_torch import TorchImplementation

COMPILED = ", compiled"
"""What the name of an implementation ends in once it is compiled."""

_RECOMPILATIONS = 64  # one for each setting of the benchmark, which is more than torch thinks a program should need


class Compiled(TorchImplementation):
    """The log density and the sampler of another implementation, compiled into one program each.

    Args:
        inner: What is compiled. Its accuracy is measured there.
    """

    def __init__(self, inner: TorchImplementation) -> None:
        self.inner = inner
        self.library = f"{inner.library}{COMPILED}"
        self.family = inner.family

    def make(self, mean_direction: Tensor, concentration: Tensor) -> Any:
        """Make the distribution that is compiled."""
        return self.inner.make(mean_direction, concentration)

    def log_normalizer(self, dim: int, concentration: Tensor) -> Tensor:
        """Not compiled."""
        return self.inner.log_normalizer(dim, concentration)

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Not compiled."""
        return self.inner.quantities(dim, concentration)

    def log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:
        """Log densities of a batch by the compiled program."""
        with torch.no_grad():
            return self.to_array(_prepared(self._log_prob, value, mean_direction, concentration)())

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Callable[[], object]:
        """Compile log_prob and prepare it with its derivatives."""
        inputs = [x for x in (value, mean_direction, concentration) if x.requires_grad]
        ones = torch.ones(value.shape[:-1], device=value.device)
        log_prob = _prepared(self._log_prob, value, mean_direction, concentration)

        def step() -> object:
            return torch.autograd.grad(log_prob(), inputs, ones)

        return step

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Callable[[], object]:
        """Compile a call that draws."""
        torch.manual_seed(seed)
        kappa = mean_direction.new_tensor(concentration)
        return _prepared(lambda mu, k: self.make(mu, k).sample((count,)), mean_direction, kappa)

    def _log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Tensor:
        log_density: Tensor = self.make(mean_direction, concentration).log_prob(value)
        return log_density


def _prepared(function: Callable[..., Tensor], *arguments: Tensor) -> Callable[[], Tensor]:
    """The function compiled for these arguments, which it was called with once."""
    compiled = torch.compile(function, dynamic=False)
    try:
        with torch._dynamo.config.patch(recompile_limit=_RECOMPILATIONS):  # noqa: SLF001  # torch has no public name for it
            compiled(*arguments)
    except Exception as error:  # whatever is missing to compile on this machine, such as a C++ compiler
        reason = str(error).splitlines() or [type(error).__name__]
        raise Unsupported(f"torch.compile fails: {reason[0]}") from error
    return lambda: compiled(*arguments)
