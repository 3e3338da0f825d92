"""A run that no signal reaches, in another thread or beside another process, is asked to stop all the same."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.pretraining.interruption import Interruption, interrupt_all
from experiments.pretraining.loop import PretrainingLoop


def test_a_run_in_another_thread_is_asked_to_stop_and_waited_for() -> None:
    entered = threading.Event()
    received: list[int | None] = []

    def run() -> None:
        with Interruption() as interruption:
            entered.set()
            while interruption.received is None:
                pass
            received.append(interruption.received)

    assert interrupt_all()
    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(10)
    assert interrupt_all(10.0)
    assert received == [15]
    thread.join()


def test_a_run_that_goes_on_is_not_waited_for_without_end() -> None:
    with Interruption() as interruption:
        assert not interrupt_all(0.1)
        assert interruption.received == 15
    assert interrupt_all()


def test_a_signal_that_reaches_another_process_stops_this_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it this process, which saw no signal, would take the training for ended."""
    loop = PretrainingLoop.__new__(PretrainingLoop)
    loop.learner = SimpleNamespace(read_steps=list, step=3)  # type: ignore[assignment]
    loop.interruption, loop._pending = Interruption(), []
    trainer: Any = SimpleNamespace(
        world_size=2, is_global_zero=True, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )

    def other_process(state: torch.Tensor, _operation: object) -> None:
        state.copy_(torch.maximum(state, torch.tensor([0, signal.SIGTERM])))

    monkeypatch.setattr(torch.distributed, "all_reduce", other_process)
    loop._read_together(trainer)
    assert loop.interruption.received == signal.SIGTERM
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
    loop.interruption.received = None
    loop._read_together(trainer)
    assert loop.interruption.received is None
