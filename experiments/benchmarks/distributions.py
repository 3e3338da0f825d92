"""Compare the spherical distributions with their peers: time of log_prob and sampling, accuracy of the normalisers.

Everything is measured in one process and in turns, in float32, on the same inputs. The table of log_prob compares
forward and backward with those of the bare dot product of the same vectors; the table of sampling says beside each time
whether the mean of the draws is right; the table of accuracy compares with 60 digits. Peers that are not installed are
named and left out: pip install -e '.[peers]' installs them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from statistics import median_high

import mpmath
import numpy as np
import torch
from mpmath import mpf
from scipy.stats import ttest_1samp
from torch import Tensor
from tqdm import tqdm

from experiments.benchmarks.peers import (
    COMPILED,
    OURS,
    Array,
    Implementation,
    TorchLaw,
    load_implementations,
    to_array,
)
from experiments.benchmarks.references import REFERENCES
from experiments.benchmarks.timing import Contestant, Stopwatch, left_out_table
from experiments.records.environment import installed_versions
from experiments.records.record import Cell, Record, Table
from inference.fitting.memory import keep_freed_memory
from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.sphere import normalize

PACKAGES = (OURS, "torch", "pyro-ppl", "numpy", "scipy", "mpmath", "jax", "tensorflow-probability", "power-spherical")
"""What the measured times and errors depend on."""

CONCENTRATION = 1e4  # of log_prob: a predictor's at d = 2048 when views agree to a cosine of 0.8
SAMPLED_CONCENTRATION = 100.0
DOT_PRODUCT = "dot product | –"
COLUMNS = {  # title of a column of accuracies: quantity and dtype
    "log C, float64": ("log_normalizer", "float64"),
    "−(log C)′": ("slope", "float64"),
    "−(log C)″": ("curvature", "float64"),
    "KL to uniform": ("kl_to_uniform", "float64"),
    "E μᵀz": ("resultant", "float64"),
    "log C, float32": ("log_normalizer", "float32"),
}
_SMALL_WITH_KAPPA = ("−(log C)′", "−(log C)″", "KL to uniform")
_MOST_CORRECT = 4.0  # |z-score| of a correct sampler exceeds it once in 16,000 runs
_CHECKED = 64  # densities of a batch that are compared with 60 digits

_ON_LOG_PROB = (
    "Time of one forward and backward pass of log_prob in float32. Each point is drawn around a direction of its own, "
    "at κ = 10,000. Ratio: to the same pass of a bare dot product. Error: of the log density, relative to max(1, its "
    "size). JAX compiles TensorFlow Probability; compiled means torch.compile."
)
_ON_SAMPLING = (
    "Points around one direction at κ = 100. z-score: of the mean of μᵀz over all draws. Off the sphere: the largest "
    "difference of a length from 1."
)
_ON_ACCURACY = (
    "Error: the largest over all (d, κ) pairs of the grid, relative to max(1, |exact|), against 60 digits; in "
    "brackets, how many values were NaN or infinite. −(log C)′ and −(log C)″ come from automatic differentiation. "
    "They are A(κ) and A′(κ) for vMF, mean and variance of log(1 + μᵀz) for PS."
)
_ON_RELATIVE = "The same errors relative to |exact| itself, which is small where κ is small."

Rows = dict[str, dict[str, Cell]]


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        batch: Points of one log_prob.
        log_prob_dims: Dimensions of the table of log_prob.
        draws: Points of one call of a sampler.
        sampling_dims: Dimensions of the table of sampling.
        grid_dims: Dimensions of the table of accuracy.
        grid_concentrations: Concentrations of the table of accuracy.
    """

    batch: int = 4096
    log_prob_dims: tuple[int, ...] = (128, 2048)
    draws: int = 10_000
    sampling_dims: tuple[int, ...] = (3, 128, 2048)
    grid_dims: tuple[int, ...] = (2, 3, 5, 16, 64, 128, 512, 2048, 8192, 65536)
    grid_concentrations: tuple[float, ...] = (1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e6)


QUICK = Sizes(64, (8, 16), 500, (3, 16), (3, 128), (1e-3, 1.0, 1e3))


@dataclass(frozen=True, order=True)
class Error:
    """The largest error of one quantity over the grid, and where it is.

    Attributes:
        error: |value − exact| / max(1, |exact|) of the finite values; NaN if there is none.
        relative: |value − exact| / |exact|, the largest of them.
        dim: Where the error is largest.
        concentration: Where the error is largest.
        non_finite: How many values are infinite or not numbers.
    """

    error: float
    relative: float
    dim: int
    concentration: float
    non_finite: int = 0

    def cell(self, *, relative: bool = False) -> Cell:
        """The error, and in brackets the number of values that are not finite."""
        value = self.relative if relative else self.error
        shown = Cell(None if math.isnan(value) else value, form=".1e")
        return Cell(shown.value, text=f"{shown.show(0)} ({self.non_finite})") if self.non_finite else shown


def measure_accuracy(
    one: Implementation,
    dims: Sequence[int],
    concentrations: Sequence[float],
    on_dim: Callable[[], object] = lambda: None,
) -> dict[str, Error]:
    """Compare one implementation with 60 digits.

    Args:
        one: What to measure.
        dims: Dimensions of the grid.
        concentrations: Concentrations of the grid, rounded to the dtype that is measured before they are used.
        on_dim: Called after every dimension in every dtype, for a progress bar.

    Returns:
        By title of the column; without those that the implementation does not offer.
    """
    found: dict[tuple[str, str], list[Error]] = {}
    for dtype, dim in product(("float64", "float32"), dims):
        rounded = np.array(concentrations, dtype=dtype)
        for quantity, values in one.quantities(dim, rounded).items():
            for value, kappa in zip(values.tolist(), rounded.tolist(), strict=True):
                exact = getattr(REFERENCES[one.family](dim, kappa), quantity)
                found.setdefault((quantity, dtype), []).append(_error(value, exact, dim, kappa))
        on_dim()
    return {title: _worst(found[key]) for title, key in COLUMNS.items() if key in found}


def _error(value: float, truth: mpf, dim: int, concentration: float) -> Error:
    """The subtraction is done with the digits of the reference."""
    if not math.isfinite(value):
        return Error(math.nan, math.nan, dim, concentration)
    with mpmath.workdps(60):
        gap = abs(mpf(value) - truth)
        return Error(float(gap / max(mpf(1), abs(truth))), float(gap / abs(truth)), dim, concentration)


def _worst(errors: list[Error]) -> Error:
    finite = [entry for entry in errors if not math.isnan(entry.error)]
    worst = max(finite, default=Error(math.nan, math.nan, 0, math.nan))
    relative = max((entry.relative for entry in finite), default=math.nan)
    return Error(worst.error, relative, worst.dim, worst.concentration, len(errors) - len(finite))


def measure_log_prob(
    implementations: Sequence[Implementation], sizes: Sizes, stopwatch: Stopwatch, *, per_sample: bool
) -> Rows:
    """Forward and backward of log_prob: time and its ratio to the dot product's by dimension, largest error of a value.

    Args:
        implementations: Who takes part.
        sizes: Dimensions and points.
        stopwatch: What measures.
        per_sample: Whether every point has a κ of its own, with a derivative, and not all one constant.
    """
    rows: Rows = {}
    errors: dict[str, float] = {}
    by_name = {one.name: one for one in implementations}
    for dim in sizes.log_prob_dims:
        inputs = _batch(dim, sizes.batch, stopwatch.device, per_sample=per_sample)
        truth = {family: _exact_log_prob(family, *inputs) for family in {one.family for one in implementations}}

        def check(name: str, result: tuple[object, object], truth: Mapping[str, Array] = truth) -> None:
            if name in by_name:
                exact = truth[by_name[name].family]
                gap = np.abs(to_array(result[0])[:_CHECKED] - exact) / np.maximum(1, np.abs(exact))
                errors[name] = max(errors.get(name, 0.0), float(gap.max()))

        entrants = {DOT_PRODUCT: partial(_dot_product_step, *inputs[:2])}
        entrants |= {name: partial(one.log_prob_step, *inputs) for name, one in by_name.items()}
        times = stopwatch.measure_in_turns(entrants, check)
        for name, taken in times.items():
            ratio = Cell(taken.ratio_to(times[DOT_PRODUCT]), form=".2f")
            rows.setdefault(name, {}).update({f"d = {dim}, ms": taken.cell(), f"ratio, d = {dim}": ratio})
    for name, error in errors.items():
        rows[name]["error"] = Cell(error, form=".0e")
    return rows


def _batch(dim: int, size: int, device: torch.device, *, per_sample: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Points, directions, concentrations: points drawn around their directions at the concentration."""
    mean_direction = normalize(torch.randn(size, dim, device=device))
    value = VonMisesFisher(mean_direction, CONCENTRATION, validate_args=False).sample()
    concentration = torch.tensor(CONCENTRATION, device=device)
    if per_sample:
        spread = torch.linspace(-0.5, 0.5, size, device=device)  # half a decade to each side
        concentration = (concentration * 10**spread).requires_grad_()
    return value.requires_grad_(), mean_direction.requires_grad_(), concentration


def _exact_log_prob(family: str, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> Array:
    """By 60 digits of the normaliser and the gap of the directions, which are normalised in float64 first."""
    z, m, k = (
        one.detach()[:_CHECKED].double() for one in (value, mean_direction, concentration.expand(value.shape[:1]))
    )
    gap = (normalize(z) - normalize(m)).square().sum(-1) / 2
    exact = []
    for one_gap, kappa in zip(gap.tolist(), k.tolist(), strict=True):
        log_c = REFERENCES[family](z.size(-1), kappa).log_normalizer
        with mpmath.workdps(60):
            peak = log_c + mpf(kappa) * (1 if family == "vMF" else mpmath.log(2))
            fall = one_gap if family == "vMF" else -mpmath.log1p(-mpf(one_gap) / 2)
            exact.append(float(peak - kappa * fall))
    return np.array(exact)


def _dot_product_step(value: Tensor, mean_direction: Tensor) -> Contestant:
    ones = torch.ones(value.shape[:-1], device=value.device)
    return lambda: torch.autograd.grad((value * mean_direction).sum(-1), (value, mean_direction), ones)


def measure_sampling(implementations: Sequence[Implementation], sizes: Sizes, seed: int, stopwatch: Stopwatch) -> Rows:
    """Draw points around one direction at κ = 100: time and z-score of the mean by dimension, off the sphere.

    A z-score beyond 4 is marked as wrong.
    """
    rows: Rows = {}
    by_name = {one.name: one for one in implementations}
    for dim in sizes.sampling_dims:
        mean_direction = normalize(torch.randn(dim, device=stopwatch.device))
        direction = to_array(normalize(mean_direction.double()))
        cosines: dict[str, list[Array]] = {}

        def check(name: str, draws: object, d: Array = direction, found: dict[str, list[Array]] = cosines) -> None:
            points = to_array(draws)
            found.setdefault(name, []).append(points @ d)
            off = float(np.abs(np.linalg.norm(points, axis=-1) - 1).max())
            before = rows.setdefault(name, {}).get("off the sphere", Cell(0.0)).value or 0.0
            rows[name]["off the sphere"] = Cell(max(off, before), form=".0e")

        entrants = {
            name: partial(one.sampler, mean_direction, SAMPLED_CONCENTRATION, sizes.draws, seed)
            for name, one in by_name.items()
        }
        for name, taken in stopwatch.measure_in_turns(entrants, check).items():
            exact = float(REFERENCES[by_name[name].family](dim, SAMPLED_CONCENTRATION).resultant)
            score = Cell(float(ttest_1samp(np.concatenate(cosines[name]), exact).statistic), form="+.1f")
            wrong = Cell(score.value, text=f"**{score.show(1)}, wrong**")
            rows[name] |= {f"d = {dim}, ms": taken.cell(), f"z-score, d = {dim}": score if is_correct(score) else wrong}
    return rows


def is_correct(z_score: Cell) -> bool:
    """Whether a sampler's mean is right as far as the draws can tell."""
    return z_score.value is not None and abs(z_score.value) < _MOST_CORRECT


def summary(accuracy: Mapping[str, Mapping[str, Error]], log_prob: Rows, sampling: Rows, sizes: Sizes) -> Table:
    """What matters of the other tables: first and last dimension of log_prob, one κ per point; right draws; errors."""
    low, high, middle = sizes.log_prob_dims[0], sizes.log_prob_dims[-1], median_high(sizes.sampling_dims)
    titles = {f"log p and slopes, d = {low}, ms": f"d = {low}, ms", f"÷ dot product, d = {high}": f"ratio, d = {high}"}
    draws = f"draws, d = {middle}, ms"
    accuracies = ("log C, float64", "log C, float32", "KL to uniform")
    rows: Rows = {}
    for name, errors in accuracy.items():
        library, _, family = name.partition(" | ")
        plain, compiled = (log_prob.get(f"{library}{which} | {family}", {}) for which in ("", COMPILED))
        drawn = sampling.get(name, {})
        cells = {title: plain.get(column, Cell()) for title, column in titles.items()}
        cells |= {f"compiled, {column}": compiled.get(column, Cell()) for column in titles.values()}
        if is_correct(drawn.get(f"z-score, d = {middle}", Cell())):
            cells[draws] = drawn[f"d = {middle}, ms"]
        rows[name] = cells | {title: errors[title].cell() for title in accuracies if title in errors}
    columns = [column for title, short in titles.items() for column in (title, f"compiled, {short}")]
    note = (
        f"Time: one forward and backward pass of log_prob on {sizes.batch} points, each with its own κ, and "
        f"{sizes.draws:,} draws. Error: the largest over the grid below, relative to max(1, size); in brackets, how "
        "many values were NaN or infinite. JAX compiles TensorFlow Probability."
    )
    return Table("In short", (*columns, draws, *accuracies), rows, note, "library | family")


def compare(options: argparse.Namespace, device: torch.device) -> Record:
    """Measure and report."""
    sizes = QUICK if options.quick else Sizes()
    kept = keep_freed_memory()  # so that no contestant pays for pages that another gave back
    implementations, left_out = load_implementations()
    rounds = options.repeats * (2 * len(sizes.log_prob_dims) + len(sizes.sampling_dims))
    with tqdm(total=rounds + 2 * len(sizes.grid_dims) * len(implementations), desc="accuracy") as bar:
        accuracy = {
            one.name: measure_accuracy(one, sizes.grid_dims, sizes.grid_concentrations, bar.update)
            for one in implementations
        }
        if not options.quick:  # as the peer that is written in JAX is
            both = [(one, one.compile()) if isinstance(one, TorchLaw) else (one,) for one in implementations]
            implementations = [variant for variants in both for variant in variants]
        stopwatch = Stopwatch(device, options.repeats, bar.update, left_out=left_out)
        bar.set_description("log_prob")
        constant, per_sample = (
            measure_log_prob(implementations, sizes, stopwatch, per_sample=each) for each in (False, True)
        )
        bar.set_description("sampling")
        drawn = measure_sampling(implementations, sizes, options.seed, stopwatch)
    log_prob = {f"{name} | constant": cells for name, cells in constant.items()}
    log_prob |= {f"{name} | one per point, ∂κ": cells for name, cells in per_sample.items()}
    columns = [column for dim in sizes.log_prob_dims for column in (f"d = {dim}, ms", f"ratio, d = {dim}")]
    draws = [column for dim in sizes.sampling_dims for column in (f"d = {dim}, ms", f"z-score, d = {dim}")]
    errors = {name: {title: error.cell() for title, error in row.items()} for name, row in accuracy.items()}
    relative = {
        name: {title: row[title].cell(relative=True) for title in _SMALL_WITH_KAPPA}
        for name, row in accuracy.items()
        if set(_SMALL_WITH_KAPPA) <= set(row)
    }
    corner = "library | family"
    tables = (
        summary(accuracy, per_sample, drawn, sizes),
        Table("Forward and backward of log_prob", (*columns, "error"), log_prob, _ON_LOG_PROB, f"{corner} | κ"),
        Table("Sampling", (*draws, "off the sphere"), drawn, _ON_SAMPLING, corner),
        Table("Largest errors", tuple(COLUMNS), errors, _ON_ACCURACY, corner),
        Table("Largest relative errors", _SMALL_WITH_KAPPA, relative, _ON_RELATIVE, corner),
        *left_out_table(left_out),
    )
    memory = "; freed memory kept for the next call" if kept else ""
    settings = ", ".join(f"{name} {value}" for name, value in asdict(sizes).items())
    about = f"Medians of {options.repeats} measurements in turns{memory}; {settings.replace('_', ' ')}."
    where = {name: {title: asdict(error) for title, error in row.items()} for name, row in accuracy.items()}
    return Record(
        name="benchmark_distributions",
        title="Distributions, side by side",
        command=options.command,
        configuration={**asdict(sizes), "repeats": options.repeats, "freed memory kept": kept, "quick": options.quick},
        seeds=(options.seed,),
        tables=tables,
        notes=(about,),
        details={"largest errors": where},
        versions=installed_versions(PACKAGES),
    )
