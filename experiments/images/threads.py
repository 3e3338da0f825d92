"""Do something for every image of a set in threads: Pillow decodes without holding Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHOWN_FROM = 2000  # calls from which on a bar is worth showing


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    description: str = "",
    *,
    threads: int | None = None,
    bar_from: float = _SHOWN_FROM,
    unit: str = "image",
    at_once: int = 32,
) -> Generator[Result]:
    """Yield `function(item)` of each item in order, computed ahead by threads, with a progress bar.

    Only a bounded number of items and results waits at any time. The bar appears on a terminal, and only for many
    items whose number is known.

    Args:
        function: What to call; the first exception that it raises ends the iteration.
        items: What to call it with, without end if need be; taken by the thread that iterates.
        description: What the bar says.
        threads: How many threads; by default as many as there are processors, at most 32. With 0 the calling thread
            does the work when a result is wanted.
        bar_from: Number of calls from which on there is a bar; infinity for none.
        unit: What the bar counts.
        at_once: Calls of one task: for tiny images, one would take less time than the bookkeeping.

    Example:
        >>> list(in_threads(lambda number: number**2, range(4), "squares", threads=2))
        [0, 1, 4, 9]
    """
    if threads == 0:
        yield from map(function, items)
        return
    workers = min(32, available_processors()) if threads is None else threads
    count = len(items) if isinstance(items, Sized) else 0

    def task(chunk: list[Item]) -> list[Result]:
        return [function(item) for item in chunk]

    executor = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[Result]]] = deque()
    rest = iter(items)
    # `None` shows the bar on a terminal only.
    with tqdm(total=count, desc=description, unit=unit, disable=True if count < bar_from else None) as bar:
        try:
            while True:
                while len(waiting) <= 2 * workers and (chunk := list(islice(rest, at_once))):
                    waiting.append(executor.submit(task, chunk))
                if not waiting:
                    return
                results = waiting.popleft().result()
                bar.update(len(results))
                yield from results
        finally:
            executor.shutdown(cancel_futures=True)
