"""The check that every section of a configuration makes of its values."""

from __future__ import annotations


def require(name: str, value: object, allowed: bool, expected: str) -> None:
    """Refuse a value that is not allowed.

    Args:
        name: The field as the command line calls it, such as `training.epochs`.
        value: What was given.
        allowed: Whether it may be.
        expected: What may be, after "must be".

    Raises:
        ValueError: If it may not.
    """
    if not allowed:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
