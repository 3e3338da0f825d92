"""What the checks of several equations have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import mpmath
import torch
from torch import Tensor

from experiments.verification.claim import Outcome, Settings
from experiments.verification.tables import Table, loss_scale, relative_error
from experiments.verification.witnesses import exact_cosines
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.step import Derivation, DerivationError

Z_SCORE = 4.0
"""Tolerance of the Monte Carlo claims: a deviation of four standard errors."""

_DIGITS = 40
# mpmath sums the Bessel function's series up to a large argument only if it is allowed enough terms
_MODULES = [{"besseli": lambda order, x: mpmath.besseli(order, x, maxterms=10**7)}, "mpmath"]


def symbolic(*derivations: Derivation) -> Callable[[Settings], Outcome]:
    """Make the check that verifies derivations; its error is the number of those that fail."""

    def check(settings: Settings) -> Outcome:  # noqa: ARG001  # SymPy knows no device and no seed
        failures = []
        for derivation in derivations:
            try:
                derivation.verify()
            except DerivationError as error:
                failures.append(f"{derivation.title}: {error}")
        steps = sum(len(derivation.steps) for derivation in derivations)
        found = "; ".join(failures) or f"{steps} step(s) of {len(derivations)} derivation(s) verified"
        return Outcome(float(len(failures)), found)

    return check


def compare_loss(
    expression: Any, tables: Iterable[Table], objective: KLObjective, reference: Callable[[Any], Any] | None = None
) -> Outcome:
    """Compare the shipped pair under the shipped objective with the derived expression, evaluated by mpmath.

    Errors are relative to max(1, |loss|, Σκ + M d), the size of the terms that are added.

    Args:
        expression: A derived loss.
        tables: Experts and atoms.
        objective: The shipped objective.
        reference: Applied to the value of the expression, if the objective has another factor.
    """
    worst, count, where = 0.0, 0, ""
    compiled: dict[tuple[str, int], Any] = {}
    with mpmath.workdps(_DIGITS):
        for table in tables:
            key = table.family, len(table.kappa)
            if key not in compiled:
                compiled[key] = compile_loss(expression, *key, modules=_MODULES)  # type: ignore[arg-type]
            cosines = exact_cosines(table.mu, table.f)
            expected = compiled[key](table.dim, [mpmath.mpf(float(k)) for k in table.kappa], cosines)
            expected = expected if reference is None else reference(expected)
            error = relative_error(table.loss(objective).item(), expected, loss_scale(table))
            count += 1
            if error >= worst:
                worst, where = error, f"d = {table.dim}, M = {len(table.kappa)}"
    return Outcome(worst, f"{count} tables of experts and atoms; largest relative error at {where}")


def z_score(samples: Tensor, expected: float) -> float:
    """Deviation of the mean of independent samples from what is expected, in standard errors."""
    samples = samples.double().flatten()
    return abs(samples.mean().item() - expected) / (samples.std().item() / math.sqrt(samples.numel()))


def float64(values: Any, settings: Settings) -> Tensor:
    """A float64 tensor on the device."""
    return torch.as_tensor(values, dtype=torch.float64, device=settings.device)


def worst_of(errors: dict[str, float], detail: str = "") -> Outcome:
    """The largest of several errors, and which it is."""
    name = max(errors, key=lambda key: errors[key] if math.isfinite(errors[key]) else math.inf)
    return Outcome(errors[name], f"{detail}{': ' if detail else ''}largest of {len(errors)} at {name}")
