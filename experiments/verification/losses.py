"""The shipped pair against derived losses, and the slopes of the shipped loss of one pair."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import mpmath
import torch
from sympy import Expr, lambdify

from experiments.verification.lab import Lab, Table, relative_error
from experiments.verification.witnesses import Array, two_directions
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations.evaluation import compile_loss


@cache
def _compiled(expression: Any, family: Any, views: int) -> Any:
    # mpmath sums the Bessel function's series up to a large argument only if it is allowed enough terms
    modules = [{"besseli": lambda order, x: mpmath.besseli(order, x, maxterms=10**7)}, "mpmath"]
    return compile_loss(expression, family, views, modules)


@cache
def _function_of(expression: Expr, names: tuple[str, ...]) -> Any:
    symbols = {str(symbol): symbol for symbol in expression.free_symbols}
    return lambdify([symbols[name] for name in names], expression, "scipy")


def at(expression: Expr, **values: Any) -> Any:
    """What a formula is at these numbers or arrays, by the names of its symbols.

    Example:
        >>> from ssl_as_inference.derivations.vi_simsiam import CORRECTED_SLOPE
        >>> at(CORRECTED_SLOPE.result, kappa=6.0, c=0.5)
        -4.0
    """
    return _function_of(expression, tuple(values))(*values.values())


def derived_loss(expression: Any, table: Table) -> Any:
    """A derived expression at the experts and atoms of a table, evaluated by mpmath in 40 digits."""
    with mpmath.workdps(40):
        loss = _compiled(expression, table.family, table.count)
        kappas = [mpmath.mpf(float(k)) for k in table.kappa]
        return loss(table.dim, kappas, _cosines(table.mu, table.f))


def compare_loss(expression: Any, table: Table, objective: KLObjective) -> float:
    """Error of the shipped pair under the shipped objective against a derived expression.

    It is relative to max(1, |loss|, Σκ + M d), the size of the terms that are added.
    """
    expected = derived_loss(expression, table)
    return relative_error(table.loss(objective), expected, table.scale)


def _cosines(mu: Array, f: Array) -> list[list[Any]]:
    """Cosines of the directions of two stacks of vectors, in all digits asked for."""
    units = []
    for vectors in (mu, f):
        numbers = [[mpmath.mpf(x) for x in row.tolist()] for row in vectors]
        units.append([(row, mpmath.sqrt(mpmath.fdot(row, row))) for row in numbers])
    return [[mpmath.fdot(m, v) / (length * other) for v, other in units[1]] for m, length in units[0]]


def slope_in_the_cosine(lab: Lab, family: str, dim: int, kappa: float, cosine: float) -> float:
    """Derivative in c of the shipped loss of one pair, −log p."""
    angle = lab.tensor(math.acos(cosine)).requires_grad_()
    mu = angle.cos() * lab.pole(dim) + angle.sin() * lab.pole(dim, 1)
    loss = -lab.law(family, mu, kappa, validate_args=False).log_prob(lab.pole(dim))
    return torch.autograd.grad(loss, angle)[0].item() / -math.sqrt(1 - cosine**2)


def slope_in_the_concentration(lab: Lab, family: str, dim: int, kappa: float, cosine: float) -> float:
    """Derivative in κ of the same."""
    mu, f = two_directions(dim, cosine)
    k = lab.tensor(kappa).requires_grad_()
    return torch.autograd.grad(-lab.law(family, mu, k).log_prob(lab.tensor(f)), k)[0].item()
