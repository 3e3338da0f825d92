"""The implementations that are compared: this project's and those of every peer that can be imported."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

from experiments.benchmarks.peers.implementation import Array, Implementation, Skipped, Unsupported
from experiments.benchmarks.peers.with_jax import TensorFlowProbability
from experiments.benchmarks.peers.with_scipy import SciPyVonMisesFisher
from experiments.benchmarks.peers.with_torch import AuthorsPowerSpherical, OurPowerSpherical, OurVonMisesFisher

__all__ = ["Array", "Implementation", "Skipped", "Unsupported", "load_implementations"]

_PEERS: dict[str, tuple[tuple[str, ...], tuple[Callable[[], Implementation], ...]]] = {
    TensorFlowProbability.library: (
        ("jax", "tensorflow_probability"),
        (lambda: TensorFlowProbability("vMF"), lambda: TensorFlowProbability("PS")),
    ),
    SciPyVonMisesFisher.library: (("scipy",), (SciPyVonMisesFisher,)),
    AuthorsPowerSpherical.library: (("power_spherical",), (AuthorsPowerSpherical,)),
}
_NEVER = (
    Skipped("hyperspherical VAE (s-vae-pytorch)", "not in the package registry"),
    Skipped("PyRecEst", "draws by SciPy; a density but no log density, for one concentration at a time"),
    Skipped("geomstats", "a sampler alone, and version 2.8 does not import beside NumPy 2.4"),
)


def load_implementations() -> tuple[list[Implementation], list[Skipped]]:
    """This project's distributions and the importable peers', and those that are left out, with the reason."""
    found: list[Implementation] = [OurVonMisesFisher(), OurPowerSpherical()]
    skipped: list[Skipped] = []
    for library, (modules, factories) in _PEERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for module in modules:
                    importlib.import_module(module)
                found.extend([make() for make in factories])
        except ModuleNotFoundError as error:
            skipped.append(Skipped(library, f"{error.name} is not installed: pip install -e '.[peers]'"))
        except Exception as error:  # noqa: BLE001  # whatever a foreign package of an unfitting version raises on import
            reason = str(error).splitlines() or [""]
            skipped.append(Skipped(library, f"does not import: {type(error).__name__}: {reason[0]}"))
    return found, [*skipped, *_NEVER]
