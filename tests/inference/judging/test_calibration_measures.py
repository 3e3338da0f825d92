from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, ive
from scipy.stats import beta
from torch import Tensor

from inference.judging.calibration import (
    calibration_bins,
    gaps_by_chance,
    power_spherical_likelihood_gain,
    von_mises_fisher_likelihood_gain,
)


def cosines(dim: int, kappa: np.ndarray[Any, Any], seed: int = 0) -> np.ndarray[Any, Any]:
    """(1 + μᵀz)/2 of a Power Spherical follows Beta(κ + b, b), b = (d − 1)/2; drawn by SciPy."""
    b = (dim - 1) / 2
    drawn: np.ndarray[Any, Any] = 2 * beta.rvs(kappa + b, b, random_state=np.random.default_rng(seed)) - 1
    return drawn


def spread_concentrations(images: int, dim: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rho = np.random.default_rng(seed).uniform(0.1, 0.9, images)
    kappa: np.ndarray[Any, Any] = (dim - 1) * rho / (1 - rho)
    return kappa


def test_bins_are_means_of_equal_parts_in_the_order_of_prediction() -> None:
    generator = np.random.default_rng(0)
    predicted, observed = generator.uniform(size=103), generator.uniform(size=103)
    bins = calibration_bins(torch.from_numpy(predicted), torch.from_numpy(observed), bins=10)
    parts = np.array_split(np.argsort(predicted), 10)
    assert bins.count.tolist() == [len(part) for part in parts]
    assert bins.predicted.tolist() == pytest.approx([predicted[part].mean() for part in parts], abs=1e-14)
    assert bins.observed.tolist() == pytest.approx([observed[part].mean() for part in parts], abs=1e-14)
    gaps = [abs(predicted[part].mean() - observed[part].mean()) for part in parts]
    assert bins.largest_gap == pytest.approx(max(gaps), abs=1e-14)
    assert bins.mean_gap == pytest.approx(sum(g * len(p) for g, p in zip(gaps, parts, strict=True)) / 103, abs=1e-14)


def test_bins_can_be_in_another_order() -> None:
    predicted, observed = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    bins = calibration_bins(predicted, observed, bins=2, by=torch.tensor([3, 0, 2, 1]))
    assert bins.observed.tolist() == [3.0, 2.0]
    assert bins.predicted.tolist() == pytest.approx([0.3, 0.2])


def test_gaps_by_chance_are_those_of_a_perfect_concentration() -> None:
    """Whether κ is right or wrong by a constant, they are the mean over draws of what the true κ shows."""
    kappa = spread_concentrations(500, 8)
    predicted = torch.from_numpy(kappa / (kappa + 7))
    drawn = [torch.from_numpy(cosines(8, kappa, seed)) for seed in range(100)]
    bins = [calibration_bins(predicted, observed) for observed in drawn]
    expected = [np.mean([one.largest_gap for one in bins]), np.mean([one.mean_gap for one in bins])]
    for wrong in (0.0, 0.2):
        found = [gaps_by_chance(predicted - wrong, observed, seed=seed) for seed, observed in enumerate(drawn[:20])]
        assert np.mean(found, axis=0) == pytest.approx(expected, rel=0.05)


def test_what_a_prediction_tells_within_a_bin_is_no_chance() -> None:
    """Predictions that spread in a bin by more than the cosines lie off them, most of all in the lowest one."""
    generator = torch.Generator().manual_seed(0)
    predicted = 1 - torch.rand(400, generator=generator, dtype=torch.float64) ** 4
    draws = [predicted + 0.05 * torch.randn(400, generator=generator, dtype=torch.float64) for _ in range(400)]
    bins = [calibration_bins(predicted, observed) for observed in draws]
    expected = [np.mean([one.largest_gap for one in bins]), np.mean([one.mean_gap for one in bins])]
    found = [gaps_by_chance(predicted, observed, seed=seed) for seed, observed in enumerate(draws[:20])]
    assert np.mean(found, axis=0) == pytest.approx(expected, rel=0.05)


def test_a_bin_of_one_image_tells_nothing_about_chance() -> None:
    found = gaps_by_chance(torch.tensor([0.1, 0.9]), torch.tensor([0.3, 0.3]))
    assert all(map(math.isnan, found))


def test_chance_asks_for_a_vector_as_the_bins_do() -> None:
    with pytest.raises(ValueError, match=r"predicted must have shape \(images,\), got \(\)"):
        gaps_by_chance(torch.tensor(1.0), torch.tensor(1.0))


@pytest.mark.parametrize("dim", [8, 128])
def test_true_concentrations_are_calibrated_and_others_are_not(dim: int) -> None:
    kappa = spread_concentrations(40_000, dim)
    observed = torch.from_numpy(cosines(dim, kappa))
    predicted = torch.from_numpy(kappa / (kappa + dim - 1))
    assert calibration_bins(predicted, observed).largest_gap < 0.02
    assert calibration_bins(predicted.sqrt(), observed).largest_gap > 0.1


@pytest.mark.parametrize(
    ("predicted", "observed", "bins", "message"),
    [
        (torch.ones(2, 2), torch.ones(2, 2), 2, r"predicted must have shape \(images,\), got \(2, 2\)"),
        (torch.ones(3), torch.ones(2), 2, r"observed must have the shape of predicted, \(3,\), got \(2,\)"),
        (torch.ones(3), torch.ones(3), 4, "bins must lie between 1 and the number of images, 3, got 4"),
        (torch.ones(3), torch.tensor([1.0, math.nan, 0.0]), 2, "observed must hold finite floating-point"),
    ],
    ids=["matrix", "length", "bins", "nan"],
)
def test_bad_arguments_of_bins_are_named(predicted: Tensor, observed: Tensor, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_bins(predicted, observed, bins=bins)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (torch.arange(3), r"by must have the shape of predicted, \(4,\), got \(3,\)"),
        (torch.ones(4, 2), r"by must have the shape of predicted, \(4,\), got \(4, 2\)"),
        (torch.tensor([1.0, math.nan, 0.0, 2.0]), "by must hold finite"),
    ],
    ids=["length", "matrix", "nan"],
)
def test_a_bad_order_of_bins_is_named(by: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_bins(torch.ones(4), torch.ones(4), bins=2, by=by)


def test_gaps_by_chance_need_a_draw() -> None:
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        gaps_by_chance(torch.ones(4), torch.ones(4), draws=0)


def power_spherical_log_density(dim: int, kappa: Any, cosine: Any) -> Any:
    """Written once more with SciPy: (1 + c)^κ over 2^(2b + κ) π^b Γ(κ + b)/Γ(κ + 2b)."""
    b = (dim - 1) / 2
    normalizer = (2 * b + kappa) * math.log(2) + b * math.log(math.pi) + gammaln(kappa + b) - gammaln(kappa + 2 * b)
    return kappa * np.log1p(cosine) - normalizer


def von_mises_fisher_log_density(dim: int, kappa: Any, cosine: Any) -> Any:
    order = dim / 2 - 1
    bessel = np.log(ive(order, kappa)) + kappa
    return kappa * cosine + order * np.log(kappa) - dim / 2 * math.log(2 * math.pi) - bessel


LAWS: list[Any] = [
    pytest.param(power_spherical_likelihood_gain, power_spherical_log_density, id="power_spherical"),
    pytest.param(von_mises_fisher_likelihood_gain, von_mises_fisher_log_density, id="von_mises_fisher"),
]
GAINS = [power_spherical_likelihood_gain, von_mises_fisher_likelihood_gain]
Gain = Callable[[int, Tensor, Tensor], float]


@pytest.mark.parametrize("dim", [4, 33])
@pytest.mark.parametrize(("gain", "log_density"), LAWS)
def test_gain_is_that_over_the_best_constant_found_by_search(gain: Gain, log_density: Any, dim: int) -> None:
    kappa = spread_concentrations(500, dim)
    cosine = cosines(dim, kappa)
    search = minimize_scalar(
        lambda log_k: -log_density(dim, math.exp(log_k), cosine).mean(), bounds=(-5, 8), options={"xatol": 1e-9}
    )
    expected = (log_density(dim, kappa, cosine).mean() + search.fun) / dim
    assert gain(dim, torch.from_numpy(kappa), torch.from_numpy(cosine)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("gain", GAINS)
def test_a_constant_concentration_gains_nothing(gain: Gain) -> None:
    cosine = torch.from_numpy(cosines(8, np.full(300, 9.0)))
    for kappa in (0.5, 4.0, 9.0, 40.0):
        assert gain(8, torch.full((300,), kappa, dtype=torch.float64), cosine) <= 1e-12
    assert gain(8, torch.zeros(300, dtype=torch.float64), -cosine) == pytest.approx(0, abs=1e-12)  # best is κ = 0


def test_shuffled_concentrations_lose_and_true_ones_gain() -> None:
    kappa = spread_concentrations(5000, 32)
    cosine = torch.from_numpy(cosines(32, kappa))
    assert power_spherical_likelihood_gain(32, torch.from_numpy(kappa), cosine) > 0.05
    assert (
        power_spherical_likelihood_gain(32, torch.from_numpy(np.random.default_rng(9).permutation(kappa)), cosine) < 0
    )


@pytest.mark.parametrize("gain", GAINS)
def test_gain_is_finite_at_the_ends(gain: Gain) -> None:
    ones = torch.ones(4)
    assert math.isfinite(gain(8, 3 * ones, ones))
    assert math.isfinite(gain(8, 3 * ones, -ones))


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize(
    ("dim", "kappa", "cosine", "message"),
    [
        (1, torch.ones(2), torch.zeros(2), "dim must be an integer >= 2, got 1"),
        (4, -torch.ones(2), torch.zeros(2), "concentration must be at least 0, got -1.0"),
        (4, torch.ones(2), torch.full((2,), 1.5), r"cosine must lie in \[-1, 1\], got 1.5"),
        (4, torch.ones(2), torch.zeros(3), r"cosine must have the shape of concentration, \(2,\), got \(3,\)"),
        (4, torch.tensor([1.0, math.inf]), torch.zeros(2), "concentration must hold finite"),
    ],
    ids=["dim", "negative", "range", "length", "infinite"],
)
def test_bad_arguments_of_gain_are_named(
    gain: Gain,
    dim: int,
    kappa: Tensor,
    cosine: Tensor,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        gain(dim, kappa, cosine)


def test_witness_of_the_normalizer_agrees_with_the_beta_distribution() -> None:
    # The density of (1 + c)/2 on the sphere, integrated over the circle of latitude, is Beta(κ + b, b).
    dim, kappa, b = 6, 4.0, 2.5
    area = 2 * math.pi**b / math.gamma(b)  # of the unit sphere in R^5
    c = 0.3
    density = math.exp(power_spherical_log_density(dim, kappa, c)) * area * (1 - c * c) ** (b - 1)
    assert density == pytest.approx(beta.pdf((1 + c) / 2, kappa + b, b) / 2, rel=1e-12)
