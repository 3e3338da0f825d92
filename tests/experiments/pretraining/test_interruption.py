"""A run that is not in the main thread, which no signal reaches, is asked to stop all the same."""

from __future__ import annotations

import threading

from experiments.pretraining.interruption import Interruption, interrupt_all


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
