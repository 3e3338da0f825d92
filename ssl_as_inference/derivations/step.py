"""A derivation as a chain of steps, each of which names its rule and is verified by SymPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Add, Expr, Integer, Sum, Symbol, diff, factor, simplify, together

from ssl_as_inference.derivations.notation import (
    Inner,
    LogNormalizer,
    M,
    N,
    SphereIntegral,
    canonical,
    concentrations,
    d,
    kappa,
    to_latex,
)

VIEWS = (2, 3, 4)
"""Numbers of views, or images, at which every step is written out, whether or not it is proved for a symbol as well."""


class DerivationError(ArithmeticError):
    """A step does not follow from its rule."""


@dataclass(frozen=True)
class Step:
    """left = right, or left ≥ right, by a rule.

    Attributes:
        rule: Name of the rule: "Bayes' rule", "sifting of the Dirac measure", …
        left: What is rewritten.
        right: What it becomes.
        by: What the rule allows beyond linearity, the rules of logarithms and finite sums; applied to left − right.
        given: Definitions and assumptions of the rule: functions, and what they stand for as a function of their
            arguments.
        symbolic: Whether the step is proved for a symbolic number of views, not only for those in `VIEWS`.
        at_least: Proves of left − right, after the rule, that it is not negative; without it left = right is meant.
    """

    rule: str
    left: Expr
    right: Expr
    by: Callable[[Expr], Expr] | None = None
    given: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    symbolic: bool = True
    at_least: Callable[[Expr], bool] | None = None

    @property
    def relation(self) -> str:
        r"""The sign between left and right in LaTeX, `=` or `\ge`."""
        return "=" if self.at_least is None else r"\ge"

    def residual(self, views: int | None = None) -> Expr:
        """Left − right after the rule; zero if the step holds.

        Args:
            views: Write the sums out for this number of views or images; `None` leaves M and N symbols.
        """
        difference = self.left - self.right
        for name, meaning in self.given.items():
            difference = difference.replace(name, meaning)
        if views is not None:
            difference = difference.subs({M: views, N: views}).doit()
        difference = canonical(difference)
        if self.by is not None:
            difference = canonical(self.by(difference))
        return Integer(0) if difference == 0 else difference

    def verify(self) -> None:
        """Check the step.

        Raises:
            DerivationError: If left − right does not vanish under the rule, or is not shown to be at least 0.
        """
        cases: list[int | None] = [None] if self.symbolic else []
        if self.left.has(M, N) or self.right.has(M, N):
            cases += VIEWS
        for views in cases or [None]:
            residual = self.residual(views)
            holds = self.at_least(residual) if self.at_least else residual == 0 or simplify(residual) == 0
            if not holds:
                count = "N" if self.left.has(N) else "M"
                number = f"a symbolic {count}" if views is None else f"{count} = {views}"
                expected = "not shown to be ≥ 0" if self.at_least else "not 0"
                raise DerivationError(f"{self.rule}: left − right is {residual} for {number}, {expected}")


def jensen(convex: Callable[[Expr], Expr], density: Expr, argument: Expr, variable: Expr) -> Callable[[Expr], bool]:
    r"""Make the rule that $\mathbb{E}_q\varphi(u) - \varphi(\mathbb{E}_qu) \ge 0$ for a convex φ, for `Step.at_least`.

    Args:
        convex: φ, whose second derivative SymPy has to find not negative for positive arguments.
        density: q, which integrates to one.
        argument: u > 0.
        variable: What q and u are functions of.

    Example:
        >>> from sympy import Function, log
        >>> from ssl_as_inference.derivations.notation import z
        >>> q, u = Function("q"), Function("u")
        >>> mean, of_mean = SphereIntegral(q(z) * log(u(z)), z), log(SphereIntegral(q(z) * u(z), z))
        >>> jensen(lambda x: -log(x), q(z), u(z), z)(of_mean - mean), jensen(log, q(z), u(z), z)(mean - of_mean)
        (True, False)
    """

    def holds(difference: Expr) -> bool:
        x = Symbol("x", positive=True)
        mean = SphereIntegral(density * convex(argument), variable)
        of_mean = convex(SphereIntegral(density * argument, variable))
        return bool(diff(convex(x), x, 2).is_nonnegative) and canonical(difference - (mean - of_mean)) == 0

    return holds


def positive_terms(difference: Expr) -> bool:
    """Whether multiples of sums over one index add up to a sum of which SymPy finds no term to be negative."""
    sums, parts = difference.atoms(Sum), Add.make_args(difference)
    if len({term.limits for term in sums}) != 1 or any(part.as_independent(Sum)[1] not in sums for part in parts):
        return False
    combined = factor(together(difference.replace(Sum, lambda term, *_: term)))
    return bool(combined.is_nonnegative)


@dataclass(frozen=True)
class Derivation:
    """Steps of which each starts where the one before has ended.

    Attributes:
        equation: Equation of the paper that is arrived at, such as "Eq. (12)".
        title: What is derived.
        steps: At least one.
        case: The numbers for which alone it is derived, such as "d = 3"; empty if its symbols stand for any.
    """

    equation: str
    title: str
    steps: tuple[Step, ...]
    case: str = ""

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

    def formula(self) -> str:
        """What is derived, from where it starts to its result, in LaTeX."""
        relation = next((step.relation for step in self.steps if step.at_least), "=")
        return f"{to_latex(self.start)} {relation} {to_latex(self.result)}"

    def extent(self) -> str:
        """For what it is derived: "symbolic in M, d, κ", or its case; formal vectors are of any dimension d."""
        if self.case:
            return self.case
        sides = [side for step in self.steps for side in (step.left, step.right)]
        proved = all(step.symbolic for step in self.steps)
        meant = {
            "M": (M,),
            "N": (N,),
            "d": (d, Inner, LogNormalizer, SphereIntegral),
            "κ": (kappa, concentrations, LogNormalizer),
        }
        found = [name for name, marks in meant.items() if any(side.has(*marks) for side in sides)]
        if not proved and (count := next((name for name in found if name in {"M", "N"}), "")):
            return f"{count} = {', '.join(str(views) for views in VIEWS)}"
        return f"symbolic in {', '.join(found)}" if found else "symbolic"

    def latex(self) -> str:
        """The chain as an `aligned` environment, each step's rule above it, from the objects that `verify` checks."""
        lines = [rf"& {to_latex(self.start)}"]
        for step in self.steps:
            lines += [rf"& \triangleright\ \text{{{step.rule}}}", f"&{step.relation} {to_latex(step.right)}"]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        """Typeset the chain in a notebook."""
        return f"$$\n{self.latex()}\n$$"
