"""Times of several contestants, measured in turns so that a change of the machine's load meets all of them alike.

Who comes after whom and where in memory a contestant's results come to lie can make a tenth of a time of half a
millisecond. Both are drawn anew in every round. `torch.utils.benchmark.Timer` measures one contestant after another,
with two calls to warm up before each measurement and without what they return; its clock is used here.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark.utils.timer import timer as waiting_for_the_device

from experiments.records.record import Cell, Table
from inference.fitting.cuda_graphs import RecordingError

Contestant = Callable[[], Any]
_MOST_CALLS = 200
_BUDGET = 30.0  # seconds for one contestant, beyond which it is measured fewer times (but once at least)


class Unsupported(Exception):  # noqa: N818  # no error: the implementation does not offer this
    """Raised, with the reason, where a contestant cannot take part in a measurement."""


@dataclass(frozen=True)
class Times:
    """Seconds of one call, a measurement each, in the order of the rounds; NaN where a slow one sat out."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the measurements, in seconds."""
        return float(np.nanmedian(self.seconds))

    def ratio_to(self, other: Times) -> float:
        """Median over the rounds of this time over the other's in the same round."""
        return float(np.nanmedian(np.divide(self.seconds, other.seconds)))

    def difference_to(self, other: Times) -> float:
        """Median over the rounds of this time minus the other's in the same round, in seconds."""
        return float(np.nanmedian(np.subtract(self.seconds, other.seconds)))

    def cell(self, *, quartiles: bool = False) -> Cell:
        """Milliseconds in the median, between quartiles if asked for, with every measurement."""
        first, third = (1e3 * float(np.nanpercentile(self.seconds, part)) for part in (25, 75))
        value = 1e3 * self.median
        form = ".4g" if quartiles else ".3g" if value < 1e3 else ".0f"
        each = tuple(1e3 * second for second in self.seconds)
        return Cell(value, first if quartiles else None, third if quartiles else None, each, form=form)


@dataclass(frozen=True)
class Stopwatch:
    """Measures contestants.

    Args:
        device: Where they compute.
        repeats: Number of rounds.
        on_round: Called after every round, for a progress bar.
        clock: What is read, in seconds; by default it waits for the GPU, if there is one. `time.thread_time` leaves out
            when the processor works for others, where all the work is this thread's.
        shortest: Seconds; a measurement repeats a call until it lasts so long, against the clock's and Python's jitter.
        warm_up: Calls before the first round.
        left_out: Why contestants took no part, by name.
    """

    device: torch.device
    repeats: int
    on_round: Callable[[], object] = lambda: None
    clock: Callable[[], float] = waiting_for_the_device
    shortest: float = 5e-3
    warm_up: int = 2
    left_out: dict[str, str] = field(default_factory=dict)

    def measure_in_turns(
        self,
        entrants: Mapping[str, Callable[[], Contestant]],
        on_result: Callable[[str, Any], None] = lambda _name, _result: None,
    ) -> dict[str, Times]:
        """Measure every contestant once a round, in an order of the round's own, after calls that warm it up.

        Args:
            entrants: What prepares a contestant, by name. One that is a context manager is entered for its turns.
            on_result: Receives name and returned value of a measurement's last call, outside the measured time.

        Returns:
            Times by name. Why the others took no part is in `left_out`: `Unsupported`, or a step that is not recorded.
        """
        contestants: dict[str, tuple[Contestant, int, int]] = {}
        for name, prepare in entrants.items():
            try:
                contestant = prepare()
                with _turn_of(contestant):
                    for _ in range(self.warm_up):
                        second, result = self._time(contestant, 1)
            except (Unsupported, RecordingError) as reason:
                self.left_out[name] = str(reason)
                continue
            on_result(name, result)
            calls = max(1, min(_MOST_CALLS, round(self.shortest / max(second, 1e-9))))
            rounds = max(1, min(self.repeats, int(_BUDGET / max(second * calls, 1e-9))))
            contestants[name] = contestant, calls, rounds
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        chance = random.Random(0)  # noqa: S311  # no secret
        for index in range(self.repeats):
            for name in chance.sample(list(contestants), len(contestants)):
                contestant, calls, rounds = contestants[name]
                if index >= rounds:
                    seconds[name].append(float("nan"))
                    continue
                # Memory is held, so that what is taken next lies elsewhere: steps of a cache line, 2 MiB at most.
                held = [torch.empty(16 * chance.randrange(1, 2**15)) for _ in range(3)]
                with _turn_of(contestant):
                    elapsed, result = self._time(contestant, calls)
                del held
                seconds[name].append(elapsed / calls)
                on_result(name, result)
            self.on_round()
        return {name: Times(tuple(values)) for name, values in seconds.items()}

    def _time(self, contestant: Contestant, calls: int) -> tuple[float, Any]:
        started = self.clock()
        for _ in range(calls):
            result = contestant()
        return self.clock() - started, result


def _turn_of(contestant: Contestant) -> AbstractContextManager[object]:
    return contestant if isinstance(contestant, AbstractContextManager) else nullcontext()


def left_out_table(reasons: Mapping[str, str]) -> list[Table]:
    """Why contestants took no part, by name, as a table; no table where all did."""
    rows = {name.replace(" | ", ", "): {"why": Cell(text=reason)} for name, reason in reasons.items()}
    return [Table("Left out", ("why",), rows)] if rows else []


@contextmanager
def computing_on(threads: int | None, seed: int) -> Iterator[None]:
    """Measure from a seed, on so many threads of every library: PyTorch by its setting, others by their processors."""
    with ExitStack() as afterwards, warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # what the peers' dependencies deprecate is no news here
        torch.manual_seed(seed)
        if threads is not None:
            afterwards.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
            if hasattr(os, "sched_setaffinity"):  # Linux
                allowed = os.sched_getaffinity(0)
                afterwards.callback(os.sched_setaffinity, 0, allowed)
                os.sched_setaffinity(0, set(sorted(allowed)[:threads]))
        yield
