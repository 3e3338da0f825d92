"""What a process of Dask does before its first run and at its end."""

from __future__ import annotations

import os
import signal
import threading

from distributed import Worker, WorkerPlugin

from experiments.pretraining.interruption import interrupt_all
from inference.fitting.memory import keep_freed_memory


class Process(WorkerPlugin):
    """A worker's process: it keeps freed memory for its next run, and what ends it saves the state of its training.

    Ctrl-C is for the command alone.

    Args:
        gpus: That the processes share, in turn.
        seconds_to_save: How long the end waits for the training.
    """

    def __init__(self, gpus: int, seconds_to_save: float) -> None:
        self.gpus = gpus
        self.seconds_to_save = seconds_to_save

    def setup(self, worker: Worker) -> None:
        """Keep freed memory, save when asked to end, and take a GPU."""
        keep_freed_memory()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: interrupt_all())
        if self.gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(gpu) for gpu in range(self.gpus))
            os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(worker.name) % self.gpus]

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Let the training save its state."""
        interrupt_all(self.seconds_to_save)
