"""That an evaluation of the objective never waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pyro
import pytest
import torch
from torch import Tensor

from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.graphical_model import MultiViewPair


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
    waiting: Callable[[], AbstractContextManager[list[str]]],
) -> None:
    pair, views = make_pair(family, dtype=torch.float32), make_views(count, dtype=torch.float32)
    module = objective(pair.model, pair.guide)
    with as_in_training(), waiting() as seen:
        module(views).backward()
    assert seen == []


@pytest.mark.gpu
@OBJECTIVES
def test_on_a_gpu_nothing_synchronises(
    family: str,
    objective: KLObjective,
    make_pair: Callable[..., MultiViewPair],
    make_views: Callable[..., list[Tensor]],
    never_waiting: Callable[[], AbstractContextManager[None]],
) -> None:
    pair: MultiViewPair = make_pair(family, dtype=torch.float32).cuda()
    views = [view.cuda() for view in make_views(3, images=64, dtype=torch.float32)]
    module = objective(pair.model, pair.guide)
    with as_in_training():
        module(views).backward()  # libraries set themselves up on first use, and may wait
        with never_waiting():
            for autocast in (False, True):
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
                    loss = module(views)
                loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_the_mode_that_forbids_waiting_is_put_back_whatever_happens(
    never_waiting: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []

    def set_mode(mode: str) -> None:
        modes.append(mode)
        message = "Synchronization debug mode is a prototype feature and does not yet detect all operations"
        warnings.warn(message, UserWarning, stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with pytest.raises(RuntimeError, match="waits"), never_waiting():
        raise RuntimeError("waits")
    assert modes == ["error", "default"]
