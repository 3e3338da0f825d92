"""Ctrl-C and the signals of a cluster: the step is finished and saved before the run stops."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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
        # Only the main thread may set handlers; a run in another one is simply not interrupted this way.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if number == signal.SIGINT:
            print("\nFinishing this step and saving; Ctrl-C again stops at once.", file=sys.stderr)
