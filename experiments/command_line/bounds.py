"""What the fields of a configuration may hold, said by their types; nothing here needs torch.

A field `epochs: bounds.Count = 200` of a dataclass that inherits from `Bounded` refuses 0 when the object is made.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, get_args, get_type_hints

_LEAST, _MOST = math.ulp(0.0), sys.float_info.max  # the smallest positive number and the largest finite one


class Bound(NamedTuple):
    """From `least` to `most`, in words `expected`; of a pair both, in ascending order."""

    least: float
    most: float
    expected: str
    pair: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a number, or a pair of them, lies between."""
        values = tuple(value) if self.pair else (value,)
        return len(values) == 1 + self.pair and self.least <= values[0] <= values[-1] <= self.most


Natural = Annotated[int, Bound(0, math.inf, ">= 0")]
Count = Annotated[int, Bound(1, math.inf, ">= 1")]
Several = Annotated[int, Bound(2, math.inf, ">= 2")]
Word = Annotated[int, Bound(0, 2**32 - 1, "a whole number from 0 to 4294967295")]
Positive = Annotated[float, Bound(_LEAST, _MOST, "positive and finite")]
NotNegative = Annotated[float, Bound(0, _MOST, "finite and >= 0")]
Fraction = Annotated[float, Bound(0, 1, "in [0, 1]")]
FractionBelowOne = Annotated[float, Bound(0, math.nextafter(1, 0), "in [0, 1)")]

_PAIR = "(smallest, largest),"
Range = tuple[float, float]
PositiveRange = Annotated[Range, Bound(_LEAST, _MOST, f"{_PAIR} positive and finite", pair=True)]
NotNegativeRange = Annotated[Range, Bound(0, _MOST, f"{_PAIR} at least 0 and finite", pair=True)]
RangeFromOne = Annotated[Range, Bound(1, _MOST, f"{_PAIR} at least 1 and finite", pair=True)]
FractionRange = Annotated[Range, Bound(0, 1, f"{_PAIR} at least 0 and at most 1", pair=True)]
PositiveFractionRange = Annotated[Range, Bound(_LEAST, 1, f"{_PAIR} positive and at most 1", pair=True)]


@dataclass(frozen=True)
class Bounded:
    """Base of a dataclass whose fields' types say what they may hold.

    Raises:
        ValueError: If one of them holds something else; the message names it, what is expected and what came.

    Example:
        >>> @dataclass(frozen=True)
        ... class Section(Bounded, prefix="training."):
        ...     epochs: Count = 200
        >>> Section(epochs=0)
        Traceback (most recent call last):
            ...
        ValueError: training.epochs must be >= 1, got 0
    """

    _prefix: ClassVar[str] = ""

    def __init_subclass__(cls, prefix: str = "") -> None:
        """Take what stands before the fields' names in messages."""
        super().__init_subclass__()
        cls._prefix = prefix

    def __post_init__(self) -> None:
        """Check every field."""
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            for part in (hint, *get_args(hint)):  # the type, or what it is a union of, such as `Count | None`
                for bound in getattr(part, "__metadata__", ()):
                    self.require(name, bound.allows, bound.expected)
        self._check()

    def _check(self) -> None:
        """What types do not say, such as what several fields may hold together; fields alone are right already."""

    def require(self, name: str, allowed: Callable[[Any], bool], expected: str) -> None:
        """Refuse the value of a field that is not allowed; `None` passes.

        Raises:
            ValueError: With the field's name, what is expected and what came.
        """
        value = getattr(self, name)
        if value is not None and not allowed(value):
            raise ValueError(f"{self._prefix}{name} must be {expected}, got {value!r}")
