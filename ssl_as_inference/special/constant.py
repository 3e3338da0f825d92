"""Numbers that follow from the dimension alone: computed once, and constants for `torch.compile`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def constant(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """`functools.cache` that `torch.compile` does not trace into: it takes what is returned as a constant.

    The mark is all that `torch.compiler.assume_constant_result` sets, which would import the whole compiler (2 s) to do
    it.

    Example:
        >>> calls = []
        >>> half = constant(lambda dim: calls.append(dim) or dim / 2)
        >>> half(3), half(3), calls
        (1.5, 1.5, [3])
    """
    cached = functools.cache(function)

    @functools.wraps(function)
    def look_up(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return cached(*args, **kwargs)  # type: ignore[arg-type]  # are hashable

    setattr(look_up, "_dynamo_marked_constant", True)  # noqa: B010
    return look_up
