"""The rule of precision for all distributions and functions of the library.

Vectors are kept in float32 or float64. Half precision is raised to float32 and projected onto the sphere again: a
cosine in half precision has three digits, and κ multiplies its error. Scalars of a distribution (concentrations,
normalisers, moments) are computed in float64 and returned in the widest dtype of the arguments, float32 at least;
integers count as float32.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch

HALF = frozenset({torch.float16, torch.bfloat16})


class _Typed(Protocol):
    """A tensor, or a distribution on the sphere."""

    @property
    def dtype(self) -> torch.dtype: ...


def result_dtype(*arguments: _Typed) -> torch.dtype:
    """The widest dtype of the arguments, float32 at least.

    Example:
        >>> result_dtype(torch.tensor(1), torch.tensor(1.0, dtype=torch.bfloat16))
        torch.float32
    """
    return functools.reduce(torch.promote_types, [argument.dtype for argument in arguments], torch.float32)
