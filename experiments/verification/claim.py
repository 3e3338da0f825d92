"""What a claim is: a statement, the check that measures how far it is from holding, and the distance allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Kind = Literal["symbolic", "numeric", "Monte Carlo", "trajectory"]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """Where and from which seed a check computes.

    Attributes:
        device: Where the shipped code runs; references are computed on the CPU whatever it says.
        seed: Seed of every random draw of the check.
    """

    device: torch.device = _CPU
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a check measured.

    Attributes:
        error: What is compared with the tolerance; not finite means that the check failed.
        detail: Markdown of one or a few lines: what was measured.
    """

    error: float
    detail: str = ""


@dataclass(frozen=True)
class Claim:
    r"""A named, self-contained, refutable statement.

    Attributes:
        id: Its number in the ledger, "C1" … "C31"; several checks may share one.
        equation: Equation or part of arXiv:2203.11437v1 that it belongs to, such as "Eq. (12)".
        statement: Markdown with LaTeX between dollar signs.
        kind: How it is checked.
        tolerance: The largest error with which it counts as holding.
        check: Measures the error.
        long: Whether it takes too long for a default run.
        correction: What was wrong in the paper, or in the statement as it was first written; empty if nothing.

    Example:
        >>> claim = Claim("C0", "none", "$1 + 1 = 2$", "numeric", 0.0, lambda settings: Outcome(abs(1 + 1 - 2)))
        >>> claim.passed(claim.check(Settings()))
        True
    """

    id: str
    equation: str
    statement: str
    kind: Kind
    tolerance: float
    check: Callable[[Settings], Outcome]
    long: bool = False
    correction: str = ""

    def passed(self, outcome: Outcome) -> bool:
        """Whether the error is finite and within the tolerance."""
        return bool(math.isfinite(outcome.error) and outcome.error <= self.tolerance)
