"""The distributions that are written in PyTorch: this project's, and the Power Spherical of its authors."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.peers.implementation import Array, Implementation
from ssl_as_inference import special
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher


class TorchImplementation(Implementation):
    """Anything with torch's interface for distributions: `make(mean_direction, concentration)`."""

    make: Callable[[Tensor, Tensor], Any]

    @abstractmethod
    def log_normalizer(self, dim: int, concentration: Tensor) -> Tensor:
        """Log C, as differentiable as the library makes it."""

    def single_log_normalizer(self, dim: int, concentration: Array) -> Array:
        """Log C in float32."""
        return self.log_normalizer(dim, torch.tensor(concentration, dtype=torch.float32)).double().numpy()

    def log_prob(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:
        """Log densities of a batch."""
        with torch.no_grad():
            return self.to_array(self.make(mean_direction, concentration).log_prob(value))

    def derivatives(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Log C, and its derivatives as differentiation gives them, which is what a training follows."""
        kappa = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
        value = self.log_normalizer(dim, kappa)
        (slope,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), kappa)
        named = {"log_normalizer": value, "slope": -slope, "curvature": -curvature}
        return {name: tensor.detach().numpy() for name, tensor in named.items()}

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Callable[[], object]:
        """Prepare log_prob and its derivatives."""
        inputs = [x for x in (value, mean_direction, concentration) if x.requires_grad]
        ones = torch.ones(value.shape[:-1], device=value.device)

        def step() -> object:
            return torch.autograd.grad(self.make(mean_direction, concentration).log_prob(value), inputs, ones)

        return step

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Callable[[], object]:
        """Prepare a call that draws."""
        torch.manual_seed(seed)
        kappa = mean_direction.new_tensor(concentration)
        return lambda: self.make(mean_direction, kappa).sample((count,))

    def to_array(self, draws: object) -> Array:
        """Draws as float64."""
        assert isinstance(draws, Tensor)  # noqa: S101
        return draws.double().cpu().numpy()


class OurVonMisesFisher(TorchImplementation):
    """`ssl_as_inference.distributions.VonMisesFisher`."""

    library, family = "ssl-as-inference", "vMF"
    peer: ClassVar[bool] = False

    def make(self, mean_direction: Tensor, concentration: Tensor) -> VonMisesFisher:
        """Make the distribution, without checks as in a training."""
        return VonMisesFisher(mean_direction, concentration, validate_args=False)

    def log_normalizer(self, dim: int, concentration: Tensor) -> Tensor:
        """From `ssl_as_inference.special`."""
        return special.von_mises_fisher_log_normalizer(dim, concentration)

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """From `ssl_as_inference.special`."""
        kappa = torch.tensor(concentration, dtype=torch.float64)
        return self.derivatives(dim, concentration) | {
            "kl_to_uniform": special.von_mises_fisher_kl_to_uniform(dim, kappa).numpy(),
            "resultant": special.von_mises_fisher_mean_resultant_length(dim, kappa).numpy(),
        }


class OurPowerSpherical(TorchImplementation):
    """`ssl_as_inference.distributions.PowerSpherical`."""

    library, family = "ssl-as-inference", "PS"
    peer: ClassVar[bool] = False

    def make(self, mean_direction: Tensor, concentration: Tensor) -> PowerSpherical:
        """Make the distribution, without checks as in a training."""
        return PowerSpherical(mean_direction, concentration, validate_args=False)

    def log_normalizer(self, dim: int, concentration: Tensor) -> Tensor:
        """From `ssl_as_inference.special`."""
        return special.power_spherical_log_normalizer(dim, concentration)

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """From `ssl_as_inference.special`."""
        kappa = torch.tensor(concentration, dtype=torch.float64)
        return self.derivatives(dim, concentration) | {
            "kl_to_uniform": special.power_spherical_kl_to_uniform(dim, kappa).numpy(),
            "resultant": special.power_spherical_mean_resultant_length(dim, kappa).numpy(),
        }


class AuthorsPowerSpherical(TorchImplementation):
    """The package `power_spherical` of De Cao and Aziz, the authors of the distribution."""

    library, family = "power_spherical (authors')", "PS"

    def __init__(self) -> None:
        self.package: Any = importlib.import_module("power_spherical")

    def make(self, mean_direction: Tensor, concentration: Tensor) -> Any:
        """Make the distribution, without checks."""
        return self.package.PowerSpherical(mean_direction, concentration, validate_args=False)

    def log_normalizer(self, dim: int, concentration: Tensor) -> Tensor:
        """Its method of this name, which depends on the directions through their shape alone."""
        directions = torch.eye(1, dim, dtype=concentration.dtype).expand(len(concentration), dim)
        value: Tensor = self.make(directions, concentration).log_normalizer()
        return value

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """From the distribution's methods."""
        kappa = torch.tensor(concentration, dtype=torch.float64)
        law = self.make(torch.eye(1, dim, dtype=kappa.dtype).expand(len(kappa), dim), kappa)
        uniform = self.package.HypersphericalUniform(dim, dtype=kappa.dtype, validate_args=False)
        return self.derivatives(dim, concentration) | {
            "kl_to_uniform": np.asarray(torch.distributions.kl_divergence(law, uniform)),
            "resultant": np.asarray(law.base_dist.marginal_t.mean),  # `mean` takes no batch
        }
