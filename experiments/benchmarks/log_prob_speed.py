"""Time of log_prob with its derivatives, next to the bare dot product; and the error of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mpmath
import numpy as np
import torch
from mpmath import mpf
from torch import Tensor

from experiments.benchmarks.peers import Implementation, Unsupported
from experiments.benchmarks.references import REFERENCES
from experiments.benchmarks.timing import Stopwatch, Times
from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.sphere import normalize

CONCENTRATION = 1e4  # a predictor's at d = 2048 when views agree to a cosine of 0.8
DOT_PRODUCT = "dot product"
_CHECKED = 64  # densities of a batch that are compared with 60 digits


@dataclass(frozen=True)
class Row:
    """One implementation in one setting.

    Attributes:
        library: Who implements it, or the dot product.
        family: "vMF" or "PS".
        dim: Dimension of the space around the sphere.
        per_sample: Whether every point has a concentration of its own, with a derivative.
        times: Of the forward and backward pass; `None` if it cannot do it.
        error: Largest |log p − exact| / max(1, |exact|) over some points of the batch.
        remark: Why it could not.
    """

    library: str
    family: str
    dim: int
    per_sample: bool
    times: Times | None
    error: float
    remark: str = ""


def _batch(dim: int, size: int, device: torch.device, *, per_sample: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Points, directions, concentrations: points drawn around their directions at the concentration."""
    mean_direction = normalize(torch.randn(size, dim, device=device))
    value = VonMisesFisher(mean_direction, CONCENTRATION, validate_args=False).sample()
    concentration = torch.tensor(CONCENTRATION, device=device)
    if per_sample:
        spread = torch.linspace(-0.5, 0.5, size, device=device)  # half a decade to each side
        concentration = (concentration * 10**spread).requires_grad_()
    return value.requires_grad_(), mean_direction.requires_grad_(), concentration


def _error(implementation: Implementation, value: Tensor, mean_direction: Tensor, concentration: Tensor) -> float:
    """Against 60 digits of the normaliser and the gap of the directions, which are normalised in float64 first."""
    with torch.no_grad():
        z, m, k = value[:_CHECKED], mean_direction[:_CHECKED], concentration.expand(value.shape[:1])[:_CHECKED]
        actual = implementation.log_prob(z, m, k)
        gap = (normalize(z.double()) - normalize(m.double())).square().sum(-1).cpu().numpy() / 2
    kappa = k.detach().double().cpu().numpy()
    exact = []
    for one_gap, one_kappa in zip(gap.tolist(), kappa.tolist(), strict=True):
        log_c = REFERENCES[implementation.family](z.size(-1), one_kappa).log_normalizer
        with mpmath.workdps(60):
            peak = log_c + mpf(one_kappa) * (1 if implementation.family == "vMF" else mpmath.log(2))
            fall = one_gap if implementation.family == "vMF" else -mpmath.log1p(-mpf(one_gap) / 2)
            exact.append(float(peak - one_kappa * fall))
    truth = np.array(exact)
    return float(np.max(np.abs(actual - truth) / np.maximum(1, np.abs(truth))))


def _dot_product_step(value: Tensor, mean_direction: Tensor) -> Callable[[], object]:
    ones = torch.ones(value.shape[:-1], device=value.device)

    def step() -> object:
        return torch.autograd.grad((value * mean_direction).sum(-1), (value, mean_direction), ones)

    return step


def measure_log_prob(
    implementations: Sequence[Implementation], dims: Sequence[int], batch: int, stopwatch: Stopwatch
) -> list[Row]:
    """Measure forward and backward of log_prob in float32; the dot product's row comes first in each setting."""
    rows: list[Row] = []
    for dim in dims:
        for per_sample in (False, True):
            inputs = _batch(dim, batch, stopwatch.device, per_sample=per_sample)
            steps = {DOT_PRODUCT: _dot_product_step(*inputs[:2])}
            remarks: dict[str, str] = {}
            for one in implementations:
                try:
                    steps[one.library + one.family] = one.log_prob_step(*inputs)
                except Unsupported as reason:
                    remarks[one.library + one.family] = str(reason)
            times = stopwatch.measure_in_turns(steps)
            rows.append(Row(DOT_PRODUCT, "", dim, per_sample, times[DOT_PRODUCT], float("nan")))
            for one in implementations:
                name, setting = one.library + one.family, (one.library, one.family, dim, per_sample)
                if name in times:
                    rows.append(Row(*setting, times[name], _error(one, *inputs)))
                else:
                    rows.append(Row(*setting, None, float("nan"), remarks[name]))
    return rows
