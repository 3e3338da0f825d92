"""Times of several contestants, measured in turns so that a change of the machine's load meets all of them alike.

Who comes after whom and where in memory a contestant's results come to lie can make a tenth of a time of half a
millisecond. Both are drawn anew in every round.
"""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

Contestant = Callable[[], Any]
_SHORTEST = (
    5e-3  # seconds: a measurement repeats a call until it lasts so long, against the clock's and Python's jitter
)
_MOST_CALLS = 200
_BUDGET = 30.0  # seconds for one contestant, beyond which it is measured fewer times (but once at least)


@dataclass(frozen=True)
class Times:
    """Seconds of one call, a measurement each, in the order of the rounds; `None` where a slow one sat out."""

    seconds: tuple[float | None, ...]

    @property
    def measured(self) -> list[float]:
        """The measurements that took place."""
        return [value for value in self.seconds if value is not None]

    @property
    def median(self) -> float:
        """Median of the measurements, in seconds."""
        return median(self.measured)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the measurements, in seconds."""
        if len(self.measured) < 2:
            return self.median, self.median
        first, _, third = quantiles(self.measured, n=4, method="inclusive")
        return first, third

    def ratio_to(self, other: Times) -> float:
        """Median over the rounds of this time over the other's in the same round."""
        return median(mine / its for mine, its in self._rounds_with(other))

    def difference_to(self, other: Times) -> float:
        """Median over the rounds of this time minus the other's in the same round, in seconds."""
        return median(mine - its for mine, its in self._rounds_with(other))

    def _rounds_with(self, other: Times) -> list[tuple[float, float]]:
        pairs = zip(self.seconds, other.seconds, strict=True)
        return [(mine, its) for mine, its in pairs if mine is not None and its is not None]


@dataclass(frozen=True)
class Stopwatch:
    """Measures contestants on one device.

    Args:
        device: Where they compute; it is waited for before the clock is read.
        repeats: Number of rounds.
        on_round: Called after every round, for a progress bar.
        clock: What is read, in seconds. `time.thread_time` leaves out when the processor works for others, where all
            the work is this thread's.
    """

    device: torch.device
    repeats: int
    on_round: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter

    def measure_in_turns(
        self,
        contestants: Mapping[str, Contestant],
        on_result: Callable[[str, Any], None] = lambda _name, _result: None,
    ) -> dict[str, Times]:
        """Measure every contestant once a round, in an order of the round's own, after two calls that warm it up.

        Args:
            contestants: What to call, by name.
            on_result: Receives name and returned value of a measurement's last call, outside the measured time.

        Returns:
            Times by name.
        """
        calls, rounds = {}, {}
        for name, contestant in contestants.items():
            self._time(contestant)
            second, result = self._time(contestant)
            on_result(name, result)
            calls[name] = max(1, min(_MOST_CALLS, round(_SHORTEST / max(second, 1e-9))))
            rounds[name] = max(1, min(self.repeats, int(_BUDGET / max(second * calls[name], 1e-9))))
        seconds: dict[str, list[float | None]] = {name: [] for name in contestants}
        chance = random.Random(0)  # noqa: S311  # no secret
        for index in range(self.repeats):
            for name in chance.sample(list(contestants), len(contestants)):
                if index >= rounds[name]:
                    seconds[name].append(None)
                    continue
                with _starting_elsewhere(chance):
                    elapsed, result = self._time(contestants[name], calls[name])
                seconds[name].append(elapsed / calls[name])
                on_result(name, result)
            self.on_round()
        return {name: Times(tuple(values)) for name, values in seconds.items()}

    def measure_once(self, contestant: Contestant, calls: int) -> float:
        """Seconds of one of so many calls in a row."""
        return self._time(contestant, calls)[0] / calls

    def _time(self, contestant: Contestant, calls: int = 1) -> tuple[float, Any]:
        self._synchronize()
        started = self.clock()
        for _ in range(calls):
            result = contestant()
        self._synchronize()
        return self.clock() - started, result

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def _starting_elsewhere(chance: random.Random) -> Iterator[None]:
    """Hold some memory, so that what is taken next lies at other addresses than it did the last time."""
    held = [torch.empty(16 * chance.randrange(1, 2**15)) for _ in range(3)]  # steps of a cache line, 2 MiB at most
    try:
        yield
    finally:
        held.clear()


@contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Bind every library to so many threads: PyTorch by its setting, the others by the processors they may use."""
    before, allowed = torch.get_num_threads(), None
    if threads is not None:
        torch.set_num_threads(threads)
        if hasattr(os, "sched_setaffinity"):  # Linux
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, set(sorted(allowed)[:threads]))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if allowed is not None:
            os.sched_setaffinity(0, allowed)


@contextmanager
def keeping_memory() -> Iterator[bool]:
    """Let the C library keep the memory that is freed, so that no contestant pays for pages that another gave back.

    By default glibc returns large blocks to the system and takes them anew: every new page costs a fault, which for
    vectors of 32 MiB is more than the arithmetic, and whose share depends on who was measured before. Libraries with
    memory of their own are not concerned.

    Yields:
        Whether it is so; not without glibc.
    """
    trim_threshold, mmap_max = -1, -4  # names of the settings in malloc.h
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        yield False
        return
    kept = bool(set_option(mmap_max, 0)) and bool(set_option(trim_threshold, 2**31 - 1))
    try:
        yield kept
    finally:
        set_option(mmap_max, 65536)  # glibc's defaults; what was kept already, it may go on keeping
        set_option(trim_threshold, 128 * 1024)
