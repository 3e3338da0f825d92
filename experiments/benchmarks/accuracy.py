"""How many digits of the normalisers and moments an implementation gets right, over dimensions and concentrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath
import numpy as np
from mpmath import mpf

from experiments.benchmarks.peers import Array, Implementation, Unsupported
from experiments.benchmarks.references import REFERENCES

GRID_DIMS = (2, 3, 5, 16, 64, 128, 512, 2048, 8192, 65536)
GRID_CONCENTRATIONS = (1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e6)

COLUMNS: dict[str, tuple[str, str]] = {  # title of a column: quantity and dtype
    "log C, float64": ("log_normalizer", "float64"),
    "−(log C)′": ("slope", "float64"),
    "−(log C)″": ("curvature", "float64"),
    "KL to uniform": ("kl_to_uniform", "float64"),
    "E μᵀz": ("resultant", "float64"),
    "log C, float32": ("log_normalizer", "float32"),
}


_Error = tuple[float, float, int, float]  # relative to max(1, |exact|), to |exact|; dimension, concentration


@dataclass(frozen=True)
class Cell:
    """Error of one quantity over the grid.

    Attributes:
        error: Largest |value − exact| / max(1, |exact|) among the finite values; NaN if there is none.
        relative: Largest |value − exact| / |exact| among them.
        non_finite: How many values are infinite or not numbers.
        dim: Where the error is largest.
        concentration: Where the error is largest.
    """

    error: float
    relative: float
    non_finite: int
    dim: int
    concentration: float

    def __str__(self) -> str:
        """As in the table: the error, and in brackets the number of values that are not finite."""
        return self.show(self.error)

    def show(self, error: float) -> str:
        """An error with the number of values that are not finite."""
        shown = "–" if np.isnan(error) else f"{error:.1e}"
        return f"{shown} ({self.non_finite})" if self.non_finite else shown


def _errors(values: Array, exact: Sequence[mpf]) -> list[tuple[float, float]]:
    """Relative to max(1, |exact|) and to |exact|; the subtraction is done with the digits of the reference."""
    with mpmath.workdps(60):
        gaps = [abs(mpf(float(value)) - truth) for value, truth in zip(values, exact, strict=True)]
        return [
            (float(gap / max(mpf(1), abs(truth))), float(gap / abs(truth))) if np.isfinite(value) else (np.nan, np.nan)
            for value, gap, truth in zip(values, gaps, exact, strict=True)
        ]


def measure_accuracy(
    implementation: Implementation,
    dims: Sequence[int] = GRID_DIMS,
    concentrations: Sequence[float] = GRID_CONCENTRATIONS,
    *,
    on_dim: Callable[[], object] = lambda: None,
) -> dict[str, Cell]:
    """Compare one implementation with 60 digits.

    Args:
        implementation: What to measure.
        dims: Dimensions of the grid.
        concentrations: Concentrations of the grid, rounded to the dtype that is measured before they are used.
        on_dim: Called after every dimension in every dtype, for a progress bar.

    Returns:
        By title of the column; without those that the implementation does not offer.
    """
    reference = REFERENCES[implementation.family]
    errors: dict[tuple[str, str], list[_Error]] = {}
    for dtype in ("float64", "float32"):
        rounded = np.array(concentrations, dtype=dtype).astype(np.float64)
        for dim in dims:
            exact = [reference(dim, float(kappa)) for kappa in rounded]
            for quantity, values in _quantities(implementation, dim, rounded, dtype).items():
                row = _errors(values, [getattr(truth, quantity) for truth in exact])
                where = [(*error, dim, float(kappa)) for error, kappa in zip(row, rounded, strict=True)]
                errors.setdefault((quantity, dtype), []).extend(where)
            on_dim()
    return {title: _worst(errors[key]) for title, key in COLUMNS.items() if key in errors}


def _quantities(implementation: Implementation, dim: int, concentrations: Array, dtype: str) -> dict[str, Array]:
    try:
        if dtype == "float64":
            return implementation.quantities(dim, concentrations)
        return {"log_normalizer": implementation.single_log_normalizer(dim, concentrations)}
    except Unsupported:
        return {}


def _worst(errors: list[_Error]) -> Cell:
    finite = [entry for entry in errors if not np.isnan(entry[0])]
    nan = float("nan")
    error, _, dim, concentration = max(finite, default=(nan, nan, 0, nan))
    relative = max((entry[1] for entry in finite), default=nan)
    return Cell(error, relative, len(errors) - len(finite), dim, concentration)
