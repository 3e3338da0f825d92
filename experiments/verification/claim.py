"""What a claim is: a statement, the check that measures how far it is from holding, and the distance allowed."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from sympy import Expr
from torch import Tensor

from experiments.verification.lab import Lab
from ssl_as_inference.derivations.notation import to_latex
from ssl_as_inference.derivations.step import Derivation, DerivationError

Derivations = Sequence[Derivation]
Kind = Literal["symbolic", "numeric", "Monte Carlo", "trajectory"]

Z_SCORE = 4.0
"""Tolerance of the Monte Carlo claims: a deviation of four standard errors."""

_SYMBOLS = {
    "dim": "d",
    "views": "M",
    "images": "N",
    "kappa": "κ",
    "tau": "τ",
    "cosine": "c",
    "theta": "θ",
    "length": "r",
}
_PARAGRAPH = re.compile(r" (Error|Correction|Printed|Corrected|Code): ")


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
        id: Its number in the ledger, such as "C12"; several checks may share one.
        equation: Equation or part of arXiv:2203.11437v1 that it belongs to, such as "Eq. (12)".
        statement: Markdown with LaTeX between dollar signs.
        kind: How it is checked.
        tolerance: The largest error with which it counts as holding.
        check: Measures the error in a `Lab`; a training takes options that make it shorter.
        extent: For what it is checked: "symbolic in M, κ", or the numbers that are gone through.
        long: Whether it takes too long for a default run.
        correction: What was wrong in the paper, or in the statement as it was first written; empty if nothing.
        derivations: What a symbolic check verifies.

    Example:
        >>> claim = Claim("C0", "none", "$1 + 1 = 2$", "numeric", 0.0, lambda lab: Outcome(abs(1 + 1 - 2)))
        >>> claim.passed(claim.check(Lab()))
        True
    """

    id: str
    equation: str
    statement: str
    kind: Kind
    tolerance: float
    check: Callable[..., Outcome]
    extent: str = ""
    long: bool = False
    correction: str = ""
    derivations: Derivations = ()

    def passed(self, outcome: Outcome) -> bool:
        """Whether the error is finite and within the tolerance."""
        return bool(math.isfinite(outcome.error) and outcome.error <= self.tolerance)


def largest(errors: Iterable[float]) -> float:
    """The maximum, infinite if an error is not finite: `max` alone would pass over a NaN."""
    return max(error if math.isfinite(error) else math.inf for error in errors)


def worst_of(errors: Iterable[tuple[str, float]], detail: str = "") -> Outcome:
    """The largest of several named errors, and which it is; one that is not finite counts as the largest."""
    listed = list(errors)
    error = largest(error for _, error in listed)
    name = next(name for name, each in listed if each == error or not math.isfinite(each))
    place = f"largest of {len(listed)} at {name}" if len(listed) > 1 else name
    return Outcome(error, "; ".join(filter(None, (detail, place))))


def claim(
    number: str,
    equation: str,
    tolerance: float | None = None,
    /,
    *,
    kind: Kind | None = None,
    long: bool = False,
    shows: Sequence[Expr] = (),
    **axes: Any,
) -> Callable[[Callable[..., Any]], Claim]:
    """Make a check a claim, whose statement is the check's docstring.

    The check asks by name for what it needs: `lab`, and one value of each axis. It is called for every combination
    and returns an error, several errors by name, or an `Outcome` that also says what was measured; the largest error
    is the claim's. In the docstring {0}, {1}, … stand for the formulas of the statement, which are objects, none typed.
    A paragraph of it that begins with "Error:" says what the error is, and one that begins with "Correction:" what was
    wrong in the paper.

    Args:
        number: Such as "C12".
        equation: Such as "Eq. (12)".
        tolerance: The largest error allowed; that of a Monte Carlo claim is `Z_SCORE`, and is not given.
        kind: How it is checked, if not "Monte Carlo" or, where a tolerance is given, "numeric".
        long: Whether it takes too long for a default run.
        shows: Formulas of the statement.
        **axes: Values to go through, or a function that draws them in a lab, such as `Tables`; `dim__kappa` goes
            through pairs of both.

    Example:
        >>> @claim("C0", "none", 1e-15, kappa=(1.0, 2.0), cosine=(0.5, -0.5))
        ... def products(kappa, cosine):
        ...     "A product does not depend on the order of its factors."
        ...     return abs(kappa * cosine - cosine * kappa)
        >>> products.extent, products.check(Lab())
        ('κ = 1, 2; c = 0.5, -0.5', Outcome(error=0.0, detail='largest of 4 at κ = 1, c = 0.5'))
    """

    def decorate(function: Callable[..., Any]) -> Claim:
        told = paragraphs(function, shows)
        wants_lab = "lab" in inspect.signature(function).parameters

        def check(lab: Lab, **options: Any) -> Outcome:
            given = options | ({"lab": lab} if wants_lab else {})
            errors: list[tuple[str, float]] = []
            measured = [told.get("Error", "").removesuffix(".")]
            for case in product(*(axis(lab) if callable(axis) else axis for axis in axes.values())):
                chosen = dict(pair for axis, value in zip(axes, case, strict=True) for pair in _split(axis, value))
                found = function(**given, **chosen)
                if isinstance(found, Outcome):
                    measured.append(found.detail)
                    found = found.error
                said = [_said(name, value) for name, value in chosen.items()]
                named = found if isinstance(found, Mapping) else {"": found}
                errors += [(", ".join(filter(None, (*said, key))), float(error)) for key, error in named.items()]
            return worst_of(errors, "; ".join(filter(None, measured)))

        extent = "; ".join(_extent(axis, values) for axis, values in axes.items())
        how, allowed = (kind or "Monte Carlo", Z_SCORE) if tolerance is None else (kind or "numeric", tolerance)
        return Claim(number, equation, told[""], how, allowed, check, extent, long, told.get("Correction", ""))

    return decorate


def symbolic(number: str, equation: str, shown: int | None = None) -> Callable[[Callable[[], Derivations]], Claim]:
    """Make a function that gives derivations the claim that they hold, whose error is the number of those that fail.

    The statement is the function's docstring, with the derivations' own formulas behind it.

    Args:
        number: Such as "C12".
        equation: Such as "Eq. (12)".
        shown: The formulas of so many derivations; `None` for all.
    """

    def decorate(function: Callable[[], Derivations]) -> Claim:
        derivations, told = function(), paragraphs(function)

        def check(_: Lab) -> Outcome:
            failures = []
            for derivation in derivations:
                try:
                    derivation.verify()
                except DerivationError as error:
                    failures.append(f"{derivation.title}: {error}")
            steps = sum(len(derivation.steps) for derivation in derivations)
            found = "; ".join(failures) or f"{steps} step(s) of {len(derivations)} derivation(s) verified"
            return Outcome(float(len(failures)), found)

        formulas = "; ".join(f"${derivation.formula()}$" for derivation in derivations[:shown])
        extent = "; ".join(dict.fromkeys(derivation.extent() for derivation in derivations))
        text = f"{told[''].removesuffix('.')}: {formulas}."
        correction = told.get("Correction", "")
        return Claim(number, equation, text, "symbolic", 0.0, check, extent, False, correction, derivations)

    return decorate


def paragraphs(function: Callable[..., Any], formulas: Sequence[Expr] = ()) -> dict[str, str]:
    """The docstring of a check, each of {0}, {1}, … replaced by the LaTeX of a formula, by what its paragraphs tell.

    What stands before the first of "Error:", "Correction:", "Printed:", "Corrected:" and "Code:" has the name "".

    Raises:
        ValueError: If a formula is typed, or one is not shown.
    """
    text = " ".join((inspect.getdoc(function) or "").split())
    marks = {int(mark) for mark in re.findall(r"\{(\d)\}", text)}
    if "$" in text or marks != set(range(len(formulas))):
        raise ValueError(
            f"the docstring of {function.__name__} must have its formulas as {{0}}, {{1}}, … up to their number, "
            f"{len(formulas)}, and none between dollar signs, got {text!r}"
        )
    shown = re.sub(r"\{(\d)\}", lambda mark: f"${to_latex(formulas[int(mark[1])])}$", text)
    first, *others = _PARAGRAPH.split(shown)
    return {"": first} | dict(zip(others[::2], others[1::2], strict=True))


def z_score(samples: Tensor, expected: float) -> float:
    """Deviation of the mean of independent samples from what is expected, in standard errors."""
    samples = samples.double().flatten()
    return abs(samples.mean().item() - expected) / (samples.std().item() / math.sqrt(samples.numel()))


def _split(axis: str, value: Any) -> list[tuple[str, Any]]:
    """Name and value; of an axis such as `dim__kappa` each of both."""
    names = axis.split("__")
    return list(zip(names, value if len(names) > 1 else [value], strict=True))


def _said(name: str, *values: Any) -> str:
    """Values behind their symbol: "d = 2, 3". What is no number speaks for itself."""
    shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return f"{_SYMBOLS.get(name, name)} = {shown}" if isinstance(values[0], int | float) else shown


def _extent(axis: str, values: Any) -> str:
    """What an axis goes through."""
    if callable(values):
        return str(values)
    if "__" not in axis:
        return _said(axis, *values)
    return "; ".join(", ".join(_said(*pair) for pair in _split(axis, value)) for value in values)
