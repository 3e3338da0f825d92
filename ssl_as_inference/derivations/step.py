"""A derivation as a chain of steps, each of which names its rule and is verified by SymPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Expr, Integer, simplify

from ssl_as_inference.derivations.notation import M, canonical, to_latex

VIEWS = (2, 3, 4)
"""Numbers of views at which every step is written out, whether or not it is proved for a symbolic M as well."""


class DerivationError(ArithmeticError):
    """A step does not follow from its rule."""


@dataclass(frozen=True)
class Step:
    """left = right, by a rule.

    Attributes:
        rule: Name of the rule: "Bayes' rule", "sifting of the Dirac measure", …
        left: What is rewritten.
        right: What it becomes.
        by: What the rule allows beyond linearity, the rules of logarithms and finite sums; applied to left − right.
        given: Definitions and assumptions of the rule: functions, and what they stand for as a function of their
            arguments.
        symbolic: Whether the step is proved for a symbolic number of views, not only for those in `VIEWS`.
    """

    rule: str
    left: Expr
    right: Expr
    by: Callable[[Expr], Expr] | None = None
    given: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    symbolic: bool = True

    def residual(self, views: int | None = None) -> Expr:
        """Left − right after the rule; zero if the step holds.

        Args:
            views: Write the sums out for this number of views; `None` leaves M a symbol.
        """
        difference = self.left - self.right
        for name, meaning in self.given.items():
            difference = difference.replace(name, meaning)
        if views is not None:
            difference = difference.subs(M, views).doit()
        difference = canonical(difference)
        if self.by is not None:
            difference = canonical(self.by(difference))
        return Integer(0) if difference == 0 else simplify(difference)

    def verify(self) -> None:
        """Check the step.

        Raises:
            DerivationError: If left − right does not vanish under the rule.
        """
        cases: list[int | None] = [None] if self.symbolic else []
        if self.left.has(M) or self.right.has(M):
            cases += VIEWS
        for views in cases or [None]:
            residual = self.residual(views)
            if residual != 0:
                number = "a symbolic M" if views is None else f"M = {views}"
                raise DerivationError(f"{self.rule}: left − right is {residual} for {number}, not 0")


@dataclass(frozen=True)
class Derivation:
    """Steps of which each starts where the one before has ended.

    Attributes:
        equation: Equation of the paper that is arrived at, such as "Eq. (12)".
        title: What is derived.
        steps: At least one.
    """

    equation: str
    title: str
    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        """Iterate over the steps."""
        return iter(self.steps)

    @property
    def start(self) -> Expr:
        """What is derived from."""
        return self.steps[0].left

    @property
    def result(self) -> Expr:
        """What is arrived at."""
        return self.steps[-1].right

    def verify(self) -> None:
        """Check every step, and that the steps form a chain.

        Raises:
            DerivationError: If a step does not hold or does not start where the one before has ended.
        """
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if canonical(before.right - after.left) != 0:
                raise DerivationError(
                    f"{after.rule}: starts at {after.left}, where the step before ends at {before.right}"
                )
        for step in self.steps:
            step.verify()

    def latex(self) -> str:
        """The chain as an `aligned` environment, printed from the objects that `verify` checks."""
        lines = [rf"& {to_latex(self.start)}"]
        lines += [rf"&= {to_latex(step.right)} && \text{{{step.rule}}}" for step in self.steps]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        """Typeset the chain in a notebook."""
        return f"$$\n{self.latex()}\n$$"
