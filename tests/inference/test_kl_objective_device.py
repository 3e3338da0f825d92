"""That an evaluation of the objective never waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inference.kl_objective import KLObjective
from ssl_as_inference.graphical_model import MultiViewPair

WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operators whose result, or its shape, is needed by the host."""


class RecordWaiting(TorchDispatchMode):
    """Remember the operators that would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in WAITING:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def as_in_training() -> Iterator[None]:
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        yield


OBJECTIVES = pytest.mark.parametrize(
    ("family", "objective"),
    [
        pytest.param("vmf", KLObjective(), id="vmf"),
        pytest.param("vmf", KLObjective("all", normalized=True), id="vmf normalised"),
        pytest.param("ps", KLObjective(), id="ps"),
        pytest.param("ps", KLObjective("all"), id="ps all pairs"),
    ],
)


@OBJECTIVES
@pytest.mark.parametrize("count", [2, 4])
def test_the_loss_and_its_gradient_need_nothing_from_the_device(
    family: str,
    objective: KLObjective,
    count: int,
    make_pair: Callable[..., MultiViewPair],
    make_views: Callable[..., list[Tensor]],
) -> None:
    pair, views = make_pair(family, dtype=torch.float32), make_views(count, dtype=torch.float32)
    module = objective(pair.model, pair.guide)
    with as_in_training(), RecordWaiting() as record:
        module(views).backward()
    assert record.seen == []


def test_the_recorder_sees_an_operator_that_waits() -> None:
    with RecordWaiting() as record:
        torch.ones(2).nonzero().sum().item()
    assert len(record.seen) >= 2


@pytest.mark.gpu
@OBJECTIVES
def test_on_a_gpu_nothing_synchronises(
    family: str,
    objective: KLObjective,
    make_pair: Callable[..., MultiViewPair],
    make_views: Callable[..., list[Tensor]],
) -> None:
    pair: MultiViewPair = make_pair(family, dtype=torch.float32).cuda()
    views = [view.cuda() for view in make_views(3, images=64, dtype=torch.float32)]
    module = objective(pair.model, pair.guide)
    with as_in_training():
        module(views).backward()  # libraries set themselves up on first use, and may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            for autocast in (False, True):
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
                    loss = module(views)
                loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.dtype == torch.float32
    assert loss.isfinite()
