"""Several runs at once, each in a process that was started once and takes one run after the other."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from experiments.studies.planning import Run

_SECONDS_TO_SAVE = 60.0
_SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: Which one.
        result: What was measured; `None` if it failed.
        failure: Why it failed, in one line.
    """

    run: Run
    result: dict[str, Any] | None
    failure: str = ""


class Workers:
    """Processes that do runs, started by `spawn` so that a GPU can be used in each.

    Args:
        count: How many.
        threads: Of each, for computations on the CPU.
        gpus: The processes share so many of them, in turn.
    """

    def __init__(self, count: int, *, threads: int, gpus: int = 0) -> None:
        self.count = count
        self._threads = threads
        self._gpus = gpus
        self._context = multiprocessing.get_context("spawn")
        self._busy: dict[int, Run] = {}
        self._members = [self._start(number) for number in range(count)]

    def do(self, action: Callable[[Run], dict[str, Any]], runs: Sequence[Run]) -> Iterator[Outcome]:
        """Do runs, as many at a time as there are processes; yields them as they end.

        A run that fails, or whose process dies, is an outcome like any other; the process is replaced.

        Args:
            action: What is done with a run; a function of a module, so that the processes find it too.
            runs: In the order in which they are begun.
        """
        waiting = list(runs)
        busy = self._busy
        while waiting or busy:
            for number in range(self.count):
                if number not in busy and waiting:
                    busy[number] = waiting.pop(0)
                    with suppress(OSError):  # a process that is gone shows in what follows
                        self._members[number][1].send((action, busy[number]))
            by_connection = {self._members[number][1]: number for number in busy}
            for ready in wait(list(by_connection)):
                number = by_connection[ready]  # type: ignore[index]
                try:
                    result, failure = self._members[number][1].recv()
                except (EOFError, OSError):
                    process = self._members[number][0]
                    process.join()
                    result, failure = None, f"its process ended with status {process.exitcode}"
                    self._members[number] = self._start(number)
                yield Outcome(busy.pop(number), result, failure)

    def close(self) -> None:
        """End the processes; a training among them saves its state first."""
        for number, (process, connection) in enumerate(self._members):
            connection.close()
            if number in self._busy:
                process.terminate()
        for number, (process, _) in enumerate(self._members):
            process.join(_SECONDS_TO_SAVE if number in self._busy else _SECONDS_TO_END)
            if process.is_alive():
                process.kill()
                process.join()

    def _start(self, number: int) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._threads), daemon=True)
        with _environment(self._variables(number)):
            process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        return process, ours

    def _variables(self, number: int) -> dict[str, str]:
        # OpenMP reads its number of threads when torch is imported.
        variables = {"OMP_NUM_THREADS": str(self._threads), "MKL_NUM_THREADS": str(self._threads)}
        if self._gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(gpu) for gpu in range(self._gpus))
            variables["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % self._gpus]
        return variables


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, threads: int) -> None:
    """Do what comes over the connection until it ends."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    # Here and not at the top: the command itself says what is wrong before it waits for these.
    import torch  # noqa: PLC0415

    from experiments.pretraining.training import TrainingInterruptedError  # noqa: PLC0415

    torch.set_num_threads(threads)
    while True:
        try:
            action, run = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: tuple[Any, str] = (action(run), "")
        except (KeyboardInterrupt, TrainingInterruptedError):
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the other runs go on
            known = isinstance(error, (ValueError, OSError, RuntimeError))
            answer = (None, " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}")
        try:
            connection.send(answer)
        except OSError:
            return


def _end_with_the_parent() -> None:
    """A command that was killed leaves no process that goes on writing in the folders of its next start."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        sys.stderr.flush()
        os._exit(1)
