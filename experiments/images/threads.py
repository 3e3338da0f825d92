"""Do something for every image of a set in threads: Pillow decodes without holding Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from joblib import cpu_count
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHOWN_AFTER = 1.0  # seconds


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], description: str = "", *, threads: int | None = None
) -> Generator[Result]:
    """Yield `function(item)` of each item in order, computed ahead by threads, with a progress bar.

    Only a bounded number of items and results waits at any time. The bar appears on a terminal, where it has something
    to say of items whose number is known, after a second.

    Args:
        function: What to call; the first exception that it raises ends the iteration.
        items: What to call it with, without end if need be; taken by the thread that iterates.
        description: What the bar says; no bar when empty.
        threads: How many threads; by default as many as there are processors, at most 32. With 0 the calling thread
            does the work when a result is wanted.

    Example:
        >>> list(in_threads(lambda number: number**2, range(4), "squares", threads=2))
        [0, 1, 4, 9]
    """
    if threads == 0:
        yield from map(function, items)
        return
    workers = min(32, cpu_count()) if threads is None else threads  # type: ignore[no-untyped-call]
    executor = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    rest = iter(items)
    count = len(items) if isinstance(items, Sized) else 0
    # `None` shows the bar on a terminal only.
    hidden = None if description and count else True
    with tqdm(total=count, desc=description, disable=hidden, delay=_SHOWN_AFTER) as bar:
        try:
            while True:
                for item in islice(rest, 2 * workers + 1 - len(waiting)):
                    waiting.append(executor.submit(function, item))
                if not waiting:
                    return
                result = waiting.popleft().result()
                bar.update()
                yield result
        finally:
            executor.shutdown(cancel_futures=True)
