"""How long something will take, in words that people use."""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE, _HOUR = 60, 3600
_FEW = 90  # seconds or minutes that are still said as such


@dataclass(frozen=True)
class Expected:
    """What is left to do.

    Attributes:
        runs: How many.
        seconds: Their time, one after the other; `None` if the first try failed.
        source: How it is known.
    """

    runs: int
    seconds: float | None
    source: str


def words(seconds: float) -> str:
    """A duration.

    Example:
        >>> words(42), words(600), words(3 * 3600)
        ('42 s', '10 min', '3.0 h')
    """
    if seconds < _FEW:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _FEW * _MINUTE else f"{seconds / _HOUR:.1f} h"
