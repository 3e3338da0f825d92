"""Do something for every image of a set in threads: Pillow decodes without holding Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Result = TypeVar("Result")

_CHUNK = 32  # calls of one task: tiny images would else take less time than the bookkeeping
_SHOWN_FROM = 2000  # calls from which on a bar is worth showing


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[int], Result],
    count: int,
    description: str,
    *,
    threads: int | None = None,
    bar_from: float = _SHOWN_FROM,
) -> Iterator[Result]:
    """Yield `function(0)`, `function(1)`, … in this order, computed ahead by threads, with a progress bar.

    Only a bounded number of results waits at any time. The bar appears on a terminal, and only for many calls.

    Args:
        function: What to call; the first exception that it raises ends the iteration.
        count: How many calls.
        description: What the bar says.
        threads: How many threads; by default as many as there are processors, at most 32.
        bar_from: Number of calls from which on there is a bar; infinity for none.

    Example:
        >>> list(in_threads(lambda index: index**2, 4, "squares", threads=2))
        [0, 1, 4, 9]
    """
    workers = min(32, available_processors()) if threads is None else threads

    def task(start: int) -> list[Result]:
        return [function(index) for index in range(start, min(start + _CHUNK, count))]

    executor = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[Result]]] = deque()
    starts = iter(range(0, count, _CHUNK))
    # `None` shows the bar on a terminal only.
    with tqdm(total=count, desc=description, unit="image", disable=True if count < bar_from else None) as bar:
        try:
            while True:
                while len(waiting) <= 4 * workers and (start := next(starts, None)) is not None:
                    waiting.append(executor.submit(task, start))
                if not waiting:
                    return
                results = waiting.popleft().result()
                bar.update(len(results))
                yield from results
        finally:
            executor.shutdown(cancel_futures=True)
