"""Keep the memory that a step frees in the process, for the next step."""

from __future__ import annotations

import ctypes

_SETTINGS = {
    -8: 1,  # M_ARENA_MAX: threads share one heap; what a thread's own heap frees is given back whatever is set
    -4: 0,  # M_MMAP_MAX: no block is mapped by itself, which would be given back when it is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: bytes free at the heap's end before they are given back
}


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that is freed, from now on and in every thread, where it is glibc.

    By default glibc returns large blocks to the system and requests them again. Every new page causes a page fault; for
    vectors of 32 MiB the faults take longer than the arithmetic. How many there are depends on what the process did
    before. Libraries that manage their own memory are not affected, and results of computations do not change.

    This cannot be undone. glibc adapts its thresholds only until one is set, and with its initial thresholds set by
    hand a step takes longer than before.

    Returns:
        Whether memory is kept; without glibc nothing happens.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(set_option(number, value) == 1 for number, value in _SETTINGS.items())
