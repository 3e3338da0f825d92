from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap as scipy_bootstrap
from torch import Tensor

from inference.judging.resampling import Estimate, bootstrap


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mean(x: Tensor) -> float:
    return float(x.mean())


def test_interval_of_a_mean_agrees_with_scipy() -> None:
    x = draw(300).exp()
    ours = bootstrap(mean, x, resamples=4000, seed=3)
    theirs = scipy_bootstrap(
        (x.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert ours.value == pytest.approx(x.mean().item(), abs=1e-15)
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * spread)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * spread)


def test_interval_of_a_correlation_agrees_with_scipy() -> None:
    x = draw(200)
    y = x + draw(200, seed=1)

    def correlation(a: Tensor, b: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    ours = bootstrap(correlation, x, y, resamples=3000)
    theirs = scipy_bootstrap(
        (x.numpy(), y.numpy()),
        lambda a, b: np.corrcoef(a, b)[0, 1],
        n_resamples=3000,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for repetition in range(200):
        estimate = bootstrap(mean, draw(100, seed=repetition), resamples=200, level=0.9, seed=repetition)
        covered += estimate.low <= 0 <= estimate.high
    # Binomial(200, 0.9) has the standard deviation 4.2; percentiles of 100 images fall short by one or two per cent.
    assert 165 <= covered <= 192


def test_unpaired_columns_are_resampled_on_their_own() -> None:
    x = draw(100)

    def difference(a: Tensor, b: Tensor) -> float:
        return float(a.mean() - b.mean())

    assert bootstrap(difference, x, x.clone()) == Estimate(0.0, 0.0, 0.0)
    apart = bootstrap(difference, x, x.clone(), paired=False, resamples=2000)
    expected = 1.96 * math.sqrt(2 * float(x.var(correction=0)) / 100)
    assert apart.high == pytest.approx(expected, rel=0.1)
    assert apart.low == pytest.approx(-expected, rel=0.1)
    assert bootstrap(difference, x, draw(7), paired=False).value == pytest.approx(float(x.mean() - draw(7).mean()))


def test_same_seed_gives_the_same_interval_and_another_another() -> None:
    x = draw(50)
    assert bootstrap(mean, x, seed=1) == bootstrap(mean, x, seed=1)
    assert bootstrap(mean, x, seed=1) != bootstrap(mean, x, seed=2)


def test_rows_of_a_matrix_are_resampled_whole() -> None:
    x = torch.arange(20.0).repeat(3, 1).T

    def spread_within_rows(rows: Tensor) -> float:
        return float((rows - rows[:, :1]).abs().max())

    assert bootstrap(spread_within_rows, x) == Estimate(0.0, 0.0, 0.0)


def test_resamples_without_a_value_are_left_out() -> None:
    x = torch.tensor([0.0, 0.0, 1.0])

    def share_where_it_varies(values: Tensor) -> float:
        return math.nan if values.unique().numel() == 1 else mean(values)

    estimate = bootstrap(share_where_it_varies, x)
    assert estimate.low == pytest.approx(1 / 3)
    assert estimate.high == pytest.approx(2 / 3)


def test_a_measure_that_does_not_exist_has_no_interval() -> None:
    estimate = bootstrap(lambda _: math.nan, draw(5))
    assert all(math.isnan(number) for number in (estimate.value, estimate.low, estimate.high))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ((), {}, r"columns must be tensors with at least one row, got lengths \[\]"),
        ((torch.ones(0),), {}, r"at least one row, got lengths \[0\]"),
        ((torch.ones(3), torch.ones(2)), {}, r"same number of rows when paired, got lengths \[3, 2\]"),
        ((torch.ones(3),), {"resamples": 0}, "resamples must be at least 1, got 0"),
        ((torch.ones(3),), {"level": 1.0}, "level must lie strictly between 0 and 1, got 1.0"),
    ],
    ids=["none", "empty", "lengths", "resamples", "level"],
)
def test_bad_arguments_are_named(columns: tuple[Tensor, ...], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(lambda *_: 0.0, *columns, **options)  # type: ignore[arg-type]
