from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mpmath
import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.networks import PowerSphericalHead, VonMisesFisherHead, two_layer_mlp
from models.vi_simsiam import relative_concentration
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

INPUTS = 7
DIM = 5


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Workers share the cores: threads beyond them wait for one another, and the tests take twice as long."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(specs))))


@pytest.fixture(autouse=True)
def seed_every_test() -> Iterator[None]:
    """Every test starts from one seed and an empty parameter store, so that none depends on the order."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


@pytest.fixture(autouse=True)
def distributions_validate() -> None:
    """The first `torch.compile` of a process ends the validation of all distributions: every test begins with it."""
    torch.distributions.Distribution.set_default_validate_args(True)


@pytest.fixture(autouse=True)
def threads_are_put_back() -> Iterator[None]:
    """What a test does to torch's number of threads, or a program that it calls, ends with it."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def precision_of_references(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that needs more than 30 digits of mpmath says so in `MPMATH_DIGITS`, and disturbs no other."""
    with mpmath.workdps(getattr(request.module, "MPMATH_DIGITS", 30)):
        yield


@contextmanager
def _never_waiting() -> Iterator[None]:
    with warnings.catch_warnings():
        # Said by the first call of a process, also by the one that puts the mode back.
        warnings.filterwarnings("ignore", ".*ynchronization debug mode is a prototype")
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def never_waiting() -> Callable[[], AbstractContextManager[None]]:
    """While `never_waiting()` is entered, what waits for the GPU raises; the mode is put back whatever happens."""
    return _never_waiting


@pytest.fixture
def make_pair() -> Callable[..., MultiViewPair]:
    """A pair over vectors of length 7, latent sphere in R^5, in float64: `make_pair("vmf")`, `make_pair("ps")`."""

    def make(family: str, *, concentration: float = 3.0, dtype: torch.dtype = torch.float64) -> MultiViewPair:
        encoder = nn.Sequential(nn.Linear(INPUTS, DIM), nn.BatchNorm1d(DIM, affine=False))
        predictor: nn.Module
        if family == "vmf":
            predictor = VonMisesFisherHead(two_layer_mlp(DIM, 6, DIM), concentration)
        else:
            predictor = PowerSphericalHead(two_layer_mlp(DIM, 6, DIM + 1), relative_concentration)
        return MultiViewPair(DIM, MultiViewModel(encoder, predictor), MultiViewGuide(encoder)).to(dtype)

    return make


@pytest.fixture
def make_views() -> Callable[..., list[Tensor]]:
    """M random views of a batch of vectors: `make_views(M)`."""

    def make(views: int, images: int = 6, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        return [torch.randn(images, INPUTS, dtype=dtype) for _ in range(views)]

    return make


class _RecordWaiting(TorchDispatchMode):
    """Remember the operators whose result, or its shape, the host would have to wait for."""

    NAMES = frozenset({"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"})

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.NAMES:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waiting() -> Callable[[], AbstractContextManager[list[str]]]:
    """Which operators would wait for a device: `with waiting() as seen: ...`."""

    @contextmanager
    def record() -> Iterator[list[str]]:
        with _RecordWaiting() as mode:
            yield mode.seen

    with record() as seen:
        torch.ones(2).nonzero().sum().item()
    assert len(seen) == 2  # it does see them
    return record


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Skip the tests that need a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
