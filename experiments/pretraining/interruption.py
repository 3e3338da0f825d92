"""Ctrl-C and the signals of a cluster: the step is finished and saved before the run stops."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_listening: list[Interruption] = []


def interrupt_all(wait_seconds: float = 0.0) -> bool:
    """Ask the runs of this process to stop, from any thread: signals reach only runs in the main thread.

    Args:
        wait_seconds: How long to wait for them to save their states and end.

    Returns:
        Whether none is left.
    """
    for interruption in _listening:
        interruption.received = signal.SIGTERM
    until = time.monotonic() + wait_seconds
    while _listening and time.monotonic() < until:
        time.sleep(0.05)
    return not _listening


class StoppedAtOnceError(Exception):
    """Ctrl-C came a second time. No KeyboardInterrupt: on that Lightning ends the process by itself, without a word."""


class Interruption:
    """While it is entered, remembers the first signal that asks the run to stop; a second Ctrl-C stops it at once.

    SIGTERM and SIGUSR1 are what SLURM sends before it ends or requeues a job.

    Attributes:
        received: The signal's number; `None` as long as there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        _listening.append(self)
        # Only the main thread may set handlers; a run in another one is stopped by `interrupt_all`.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        _listening.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise StoppedAtOnceError
        self.received = number
        if number == signal.SIGINT:
            print("\nFinishing this step and saving; Ctrl-C again stops at once.", file=sys.stderr)
