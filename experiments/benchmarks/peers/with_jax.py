"""TensorFlow Probability's distributions on JAX."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.peers.implementation import QUANTITIES, Array, Implementation, Unsupported

_CLASSES = {"vMF": "VonMisesFisher", "PS": "PowerSpherical"}


class TensorFlowProbability(Implementation):
    """`VonMisesFisher` or `PowerSpherical` of its JAX substrate; every measured call is jitted."""

    library = "TensorFlow Probability (JAX)"

    def __init__(self, family: str) -> None:
        self.family = family
        self.jax: Any = importlib.import_module("jax")
        self.distributions: Any = importlib.import_module("tensorflow_probability.substrates.jax").distributions
        self.law: Callable[[Any, Any], Any] = getattr(self.distributions, _CLASSES[family])

    def _on_device(self, tensor: Tensor) -> Any:
        try:
            device = self.jax.devices("gpu" if tensor.is_cuda else "cpu")[0]
        except RuntimeError as error:
            raise Unsupported("JAX is installed without GPU support") from error
        return self.jax.device_put(tensor.detach().cpu().numpy(), device)

    def _log_normalizer(self, dim: int) -> Callable[[Any], Any]:
        """The log density at right angles to μ: there is no public method."""
        numpy = self.jax.numpy

        def log_normalizer(kappa: Any) -> Any:
            axes = numpy.zeros((2, dim), kappa.dtype).at[numpy.arange(2), numpy.arange(2)].set(1)
            return self.law(axes[0], kappa).log_prob(axes[1])

        return log_normalizer

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Log C, its derivatives by differentiation, and its methods for divergence and mean."""
        jax, numpy = self.jax, self.jax.numpy
        log_normalizer = self._log_normalizer(dim)
        slope = jax.grad(log_normalizer)

        def everything(kappa: Any) -> Any:
            law = self.law(numpy.zeros(dim, kappa.dtype).at[0].set(1), kappa)
            uniform = self.distributions.SphericalUniform(dim, dtype=kappa.dtype)
            divergence = self.distributions.kl_divergence(law, uniform)
            return log_normalizer(kappa), -slope(kappa), -jax.grad(slope)(kappa), divergence, law.mean()[0]

        with importlib.import_module("jax.experimental").enable_x64():
            values = jax.jit(jax.vmap(everything))(numpy.asarray(concentration, "float64"))
            return {name: np.asarray(value) for name, value in zip(QUANTITIES, values, strict=True)}

    def single_log_normalizer(self, dim: int, concentration: Array) -> Array:
        """Log C in float32."""
        kappa = self.jax.numpy.asarray(concentration, "float32")
        return np.asarray(self.jax.jit(self.jax.vmap(self._log_normalizer(dim)))(kappa), np.float64)

    def log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:
        """Log densities of a batch."""
        arrays = [self._on_device(x) for x in (value, mean_direction, concentration)]
        return np.asarray(self.jax.jit(lambda z, m, k: self.law(m, k).log_prob(z))(*arrays), np.float64)

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Callable[[], object]:
        """Prepare log_prob and its derivatives."""
        tensors = (value, mean_direction, concentration)
        arrays = [self._on_device(x) for x in tensors]
        wanted = tuple(index for index, x in enumerate(tensors) if x.requires_grad)

        def total(z: Any, m: Any, k: Any) -> Any:
            return self.law(m, k).log_prob(z).sum()

        step = self.jax.jit(self.jax.value_and_grad(total, argnums=wanted))
        return lambda: self.jax.block_until_ready(step(*arrays))

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Callable[[], object]:
        """Prepare a call that draws; the key is split inside the compiled function."""
        direction, kappa = self._on_device(mean_direction), self._on_device(torch.tensor(concentration))

        def draw(key: Any, direction: Any, kappa: Any) -> Any:
            following, key = self.jax.random.split(key)
            return following, self.law(direction, kappa).sample(count, seed=key)

        jitted, state = self.jax.jit(draw), [self.jax.random.PRNGKey(seed)]

        def sample() -> object:
            state[0], draws = self.jax.block_until_ready(jitted(state[0], direction, kappa))
            return draws

        return sample
