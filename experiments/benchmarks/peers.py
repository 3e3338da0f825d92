"""The distributions that are compared: this project's and those of every peer that can be imported."""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import vonmises_fisher
from torch import Tensor

from experiments.benchmarks.timing import Contestant, Unsupported
from ssl_as_inference import special
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher

Array = NDArray[np.floating[Any]]
OURS = "ssl-as-inference"
COMPILED = ", compiled"
"""What the name of a library ends in once `torch.compile` has compiled it."""

_QUANTITIES = ("log_normalizer", "slope", "curvature", "kl_to_uniform", "resultant")  # as in references.Reference
_RECOMPILATIONS = 64  # one for each setting of the benchmark, which is more than torch thinks a program should need


class Implementation(ABC):
    """One distribution of one library. A measurement that it does not offer raises `Unsupported`.

    Attributes:
        library: Its name.
        family: "vMF" or "PS".
    """

    library: str
    family: str

    @property
    def name(self) -> str:
        """As in the first two columns of a table."""
        return f"{self.library} | {self.family}"

    @abstractmethod
    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Those of log C, −(log C)′, −(log C)″, divergence to uniform and E μᵀz that it offers in κ's precision."""

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Contestant:  # noqa: ARG002
        """Prepare a call: log_prob of a batch, and the derivatives of its sum in all that requires a gradient."""
        raise Unsupported("one direction and one concentration at a time, no derivatives")

    @abstractmethod
    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Contestant:
        """Prepare a call that draws `count` points."""


def to_array(values: Any) -> Array:
    """What an implementation returns, as float64."""
    return np.asarray(values.double().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


@dataclass(frozen=True)
class TorchLaw(Implementation):
    """A distribution with torch's interface.

    Attributes:
        library: Its name.
        family: "vMF" or "PS".
        make: Directions and concentrations to the distribution, without checks as in a training.
        numbers: Dimension and concentrations to log C, as differentiable as the library makes it, the divergence to the
            uniform distribution, and E μᵀz.
        compiled: Whether log density and sampler are compiled into one program each; the rest is not.
    """

    library: str
    family: str
    make: Callable[[Tensor, Tensor], Any]
    numbers: Callable[[int, Tensor], tuple[Tensor, ...]]
    compiled: bool = False

    def compile(self) -> TorchLaw:
        """The same under `torch.compile`, beside a peer that JAX compiles."""
        return replace(self, library=f"{self.library}{COMPILED}", compiled=True)

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Derivatives as differentiation gives them, which is what a training follows."""
        kappa = torch.tensor(concentration, requires_grad=True)
        log_normalizer, divergence, resultant = self.numbers(dim, kappa)
        (slope,) = torch.autograd.grad(log_normalizer.sum(), kappa, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), kappa)
        found = log_normalizer, -slope, -curvature, divergence, resultant
        return {name: to_array(tensor.detach()) for name, tensor in zip(_QUANTITIES, found, strict=True)}

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Contestant:
        """Prepare log_prob and its derivatives."""
        inputs = [x for x in (value, mean_direction, concentration) if x.requires_grad]
        ones = torch.ones(value.shape[:-1], device=value.device)
        log_prob = self._prepare(lambda z, m, k: self.make(m, k).log_prob(z), value, mean_direction, concentration)

        def step() -> object:
            values = log_prob()
            return values.detach(), torch.autograd.grad(values, inputs, ones)

        return step

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Contestant:
        """Prepare a call that draws."""
        torch.manual_seed(seed)
        kappa = mean_direction.new_tensor(concentration)
        return self._prepare(lambda m, k: self.make(m, k).sample((count,)), mean_direction, kappa)

    def _prepare(self, function: Callable[..., Tensor], *arguments: Tensor) -> Callable[[], Tensor]:
        if not self.compiled:
            return partial(function, *arguments)
        compiled = torch.compile(function, dynamic=False)
        try:
            with torch._dynamo.config.patch(recompile_limit=_RECOMPILATIONS):  # noqa: SLF001  # has no public name
                compiled(*arguments)
        except Exception as error:  # whatever is missing to compile on this machine, such as a C++ compiler
            reason = str(error).splitlines() or [type(error).__name__]
            raise Unsupported(f"torch.compile fails: {reason[0]}") from error
        return partial(compiled, *arguments)


class SciPyLaw(Implementation):
    """`scipy.stats.vonmises_fisher`: one concentration and one direction, in float64 on the CPU."""

    library, family = "SciPy", "vMF"
    law: Any = vonmises_fisher  # its stubs want tuples of floats

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Log C alone, in float64: the log density at right angles to μ."""
        if concentration.dtype != np.float64:
            return {}
        axes = np.eye(2, dim)
        with np.errstate(all="ignore"):
            return {"log_normalizer": np.array([self.law.logpdf(axes[1], axes[0], kappa) for kappa in concentration])}

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Contestant:
        """Prepare a call that draws."""
        if mean_direction.is_cuda:
            raise Unsupported("runs on the CPU alone")
        direction = mean_direction.double().numpy()
        law = self.law(direction / np.linalg.norm(direction), concentration, seed=np.random.default_rng(seed))
        return partial(law.rvs, count)


class JaxLaw(Implementation):
    """`VonMisesFisher` or `PowerSpherical` of TensorFlow Probability on JAX; every measured call is jitted."""

    library = "TensorFlow Probability (JAX)"

    def __init__(self, family: str) -> None:
        self.family = family
        self.jax = import_peer("jax")
        self.distributions = import_peer("tensorflow_probability.substrates.jax.distributions")
        law = {"vMF": "VonMisesFisher", "PS": "PowerSpherical"}[family]
        self.law: Callable[..., Any] = getattr(self.distributions, law)

    def _on_device(self, *tensors: Tensor) -> list[Any]:
        try:
            device = self.jax.devices("gpu" if tensors[0].is_cuda else "cpu")[0]
        except RuntimeError as error:
            raise Unsupported("JAX is installed without GPU support") from error
        return [self.jax.device_put(tensor.detach().cpu().numpy(), device) for tensor in tensors]

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        """Log C, its derivatives by differentiation, and its methods for divergence and mean."""
        jax = self.jax

        def log_normalizer(kappa: Any) -> Any:
            axes = jax.numpy.eye(2, dim, dtype=kappa.dtype)
            return self.law(axes[0], kappa).log_prob(axes[1])  # at right angles to μ: there is no public method

        if concentration.dtype != np.float64:  # all else takes long to compile
            return {"log_normalizer": to_array(jax.jit(jax.vmap(log_normalizer))(jax.numpy.asarray(concentration)))}
        slope = jax.grad(log_normalizer)

        def everything(kappa: Any) -> Any:
            law = self.law(jax.numpy.eye(1, dim, dtype=kappa.dtype)[0], kappa)
            uniform = self.distributions.SphericalUniform(dim, dtype=kappa.dtype)
            divergence = self.distributions.kl_divergence(law, uniform)
            return log_normalizer(kappa), -slope(kappa), -jax.grad(slope)(kappa), divergence, law.mean()[0]

        with importlib.import_module("jax.experimental").enable_x64():
            values = jax.jit(jax.vmap(everything))(jax.numpy.asarray(concentration))
            return {name: to_array(value) for name, value in zip(_QUANTITIES, values, strict=True)}

    def log_prob_step(self, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Contestant:
        """Prepare log_prob and its derivatives."""
        tensors = (value, mean_direction, concentration)
        wanted = tuple(index for index, x in enumerate(tensors) if x.requires_grad)

        def total(z: Any, m: Any, k: Any) -> Any:
            values = self.law(m, k).log_prob(z)
            return values.sum(), values

        arrays = self._on_device(*tensors)
        differentiated = self.jax.jit(self.jax.value_and_grad(total, argnums=wanted, has_aux=True))

        def step() -> object:
            (_, values), derivatives = self.jax.block_until_ready(differentiated(*arrays))
            return values, derivatives

        return step

    def sampler(self, mean_direction: Tensor, concentration: float, count: int, seed: int) -> Contestant:
        """Prepare a call that draws; the key is split inside the compiled function."""
        direction, kappa = self._on_device(mean_direction, torch.tensor(concentration))

        def draw(key: Any, direction: Any, kappa: Any) -> Any:
            following, key = self.jax.random.split(key)
            return following, self.law(direction, kappa).sample(count, seed=key)

        jitted, state = self.jax.jit(draw), [self.jax.random.PRNGKey(seed)]

        def sample() -> object:
            state[0], draws = self.jax.block_until_ready(jitted(state[0], direction, kappa))
            return draws

        return sample


def ours() -> list[TorchLaw]:
    """This project's distributions."""

    def law(family: str, distribution: Callable[..., Any], prefix: str) -> TorchLaw:
        names = ("log_normalizer", "kl_to_uniform", "mean_resultant_length")
        functions = [getattr(special, f"{prefix}_{name}") for name in names]
        make = partial(distribution, validate_args=False)
        return TorchLaw(OURS, family, make, lambda *arguments: tuple(of(*arguments) for of in functions))

    return [law("vMF", VonMisesFisher, "von_mises_fisher"), law("PS", PowerSpherical, "power_spherical")]


def authors_power_spherical() -> TorchLaw:
    """The package `power_spherical` of De Cao and Aziz, the authors of the distribution."""
    package = import_peer("power_spherical")
    make = partial(package.PowerSpherical, validate_args=False)

    def numbers(dim: int, concentration: Tensor) -> tuple[Tensor, ...]:
        # They depend only on the shape of the directions.
        law = make(torch.eye(1, dim, dtype=concentration.dtype).expand(len(concentration), dim), concentration)
        uniform = package.HypersphericalUniform(dim, dtype=concentration.dtype, validate_args=False)
        divergence = torch.distributions.kl_divergence(law, uniform)
        return law.log_normalizer(), divergence, law.base_dist.marginal_t.mean  # `mean` takes no batch

    return TorchLaw("power_spherical (authors')", "PS", make, numbers)


_PEERS: dict[str, Callable[[], Implementation]] = {
    "TensorFlow Probability (JAX), vMF": partial(JaxLaw, "vMF"),
    "TensorFlow Probability (JAX), PS": partial(JaxLaw, "PS"),
    "SciPy": SciPyLaw,
    "power_spherical (authors')": authors_power_spherical,
}


def import_peer(name: str) -> Any:
    """A module of a peer.

    Raises:
        Unsupported: If it is not installed or does not import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".", maxsplit=1)[0]
        raise Unsupported(f"{missing} is not installed: pip install -e '.[peers]'") from error
    except Exception as error:  # whatever a foreign package of an unfitting version raises on import
        reason = str(error).splitlines() or [""]
        raise Unsupported(f"does not import: {type(error).__name__}: {reason[0]}") from error


def load_implementations() -> tuple[list[Implementation], dict[str, str]]:
    """This project's distributions and the importable peers', vMF first, and why the others are left out."""
    found: list[Implementation] = [*ours()]
    left_out: dict[str, str] = {}
    for name, make in _PEERS.items():
        try:
            found.append(make())
        except (Unsupported, AttributeError) as reason:  # the latter of a version that lacks what is compared
            left_out[name] = str(reason)
    return sorted(found, key=lambda one: one.family != "vMF"), left_out
