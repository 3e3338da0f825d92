"""Memory that a step frees stays with the process, for the next step to take."""

from __future__ import annotations

import ctypes

_SETTINGS = {
    -8: 1,  # M_ARENA_MAX: threads share one heap; what a thread's own heap frees is given back whatever is set
    -4: 0,  # M_MMAP_MAX: no block is mapped by itself, which would be given back when it is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: bytes free at the heap's end before they are given back
}


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that is freed, from now on and in every thread, where it is glibc.

    By default glibc returns large blocks to the system and takes them anew: every new page costs a fault, which for
    vectors of 32 MiB is more than the arithmetic, and whose share depends on what the process did before. Libraries
    with memory of their own are not concerned; the results of a computation are not, either.

    There is no way back: glibc adapts its thresholds by itself only as long as nobody has set one, and with the numbers
    it starts from written down a step takes longer than before.

    Returns:
        Whether it is so; elsewhere than on glibc nothing happens.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(set_option(number, value) == 1 for number, value in _SETTINGS.items())
