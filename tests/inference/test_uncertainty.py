from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from inference.uncertainty import correctness_auroc, degradation_spearman, degradation_spearman_pooled


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def auroc_by_counting(concentration: Tensor, is_right: Tensor) -> float:
    right, wrong = concentration[is_right][:, None], concentration[~is_right][None, :]
    return float(((right > wrong).double() + 0.5 * (right == wrong).double()).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("distinct_values", [3, 1_000_000], ids=["many_ties", "no_ties"])
def test_auroc_is_the_fraction_of_pairs_in_order(seed: int, distinct_values: int) -> None:
    right = random(200, seed=seed) > 0.8
    kappa = ((random(200, seed=seed + 10) + right).exp() * distinct_values).round() + 1e4
    assert correctness_auroc(kappa, right) == pytest.approx(auroc_by_counting(kappa, right), abs=1e-12)
    assert correctness_auroc(kappa, right) == pytest.approx(roc_auc_score(right.numpy(), kappa.numpy()), abs=1e-12)


def test_auroc_of_a_case_counted_by_hand() -> None:
    # Right: 4, 2, 2. Wrong: 3, 2. Pairs in order: 4>3, 4>2; ties: 2=2 twice; out of order: 2<3 twice.
    kappa = torch.tensor([4.0, 2.0, 2.0, 3.0, 2.0])
    right = torch.tensor([True, True, True, False, False])
    assert correctness_auroc(kappa, right) == pytest.approx((2 + 0.5 * 2) / 6, abs=1e-12)


def test_auroc_of_large_concentrations_keeps_their_order() -> None:
    # A score squashed to [0, 1] in single precision, as a probability would be, would tie these.
    kappa = torch.tensor([18_000.0, 18_001.0, 18_002.0, 18_003.0])
    assert correctness_auroc(kappa, torch.tensor([False, False, True, True])) == 1.0
    assert correctness_auroc(kappa, torch.tensor([True, True, False, False])) == 0.0


def test_auroc_of_constant_concentration_is_one_half() -> None:
    assert correctness_auroc(torch.ones(4), torch.tensor([True, False, True, True])) == 0.5


@pytest.mark.parametrize("right", [True, False])
def test_auroc_is_nan_when_there_is_nothing_to_rank(right: bool) -> None:
    assert math.isnan(correctness_auroc(torch.rand(5), torch.full((5,), right)))


@pytest.mark.parametrize(
    ("concentration", "is_right", "message"),
    [
        (torch.ones(2, 2), torch.ones(2, 2).bool(), r"concentration must have shape \(images,\), got \(2, 2\)"),
        (torch.ones(0), torch.ones(0).bool(), r"concentration must have shape \(images,\), got \(0,\)"),
        (torch.ones(3), torch.ones(2).bool(), r"is_right must have the shape of concentration, \(3,\), got \(2,\)"),
        (torch.ones(3), torch.ones(3), "is_right must be boolean, got torch.float32"),
        (torch.tensor([1.0, math.nan]), torch.tensor([True, True]), "concentration must be finite, got 1 NaN"),
    ],
    ids=["matrix", "empty", "other_length", "not_boolean", "nan"],
)
def test_bad_arguments_of_auroc_are_named(concentration: Tensor, is_right: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correctness_auroc(concentration, is_right)


@pytest.mark.parametrize("levels", [2, 5, 9])
@pytest.mark.parametrize("decimals", [0, 6], ids=["many_ties", "no_ties"])
def test_spearman_agrees_with_scipy_image_by_image(levels: int, decimals: int) -> None:
    kappa = random(levels, 30).round(decimals=decimals) + 10
    # scipy calls the correlation with a constant NaN; here it is 0.
    expected = [
        0.0 if column.unique().numel() == 1 else spearmanr(-column.numpy(), range(levels)).statistic
        for column in kappa.T
    ]
    assert degradation_spearman(kappa) == pytest.approx(sum(expected) / 30, abs=1e-12)


def test_spearman_agrees_with_torchmetrics_image_by_image() -> None:
    kappa = random(6, 20)
    levels = torch.arange(6, dtype=torch.float64)
    expected = spearman_corrcoef(-kappa, levels[:, None].expand(-1, 20).contiguous()).mean().item()
    assert degradation_spearman(kappa) == pytest.approx(expected, abs=1e-6)


def test_pooled_spearman_agrees_with_scipy() -> None:
    kappa = random(5, 30).round(decimals=1)
    levels = torch.arange(5).repeat_interleave(30)
    expected = spearmanr(-kappa.flatten().numpy(), levels.numpy()).statistic
    assert degradation_spearman_pooled(kappa) == pytest.approx(expected, abs=1e-12)


def test_concentration_that_falls_with_every_level_has_correlation_one() -> None:
    falls = torch.tensor([[1e5, 3.0], [1e2, 2.0], [1e-3, 1.9]])
    assert degradation_spearman(falls) == pytest.approx(1.0, abs=1e-12)
    assert degradation_spearman(falls.flip(0)) == pytest.approx(-1.0, abs=1e-12)


def test_differences_between_images_lower_the_pooled_correlation_alone() -> None:
    kappa = torch.tensor([[3.0, 300.0], [2.0, 200.0], [1.0, 100.0]])
    assert degradation_spearman(kappa) == pytest.approx(1.0, abs=1e-12)
    assert 0 < degradation_spearman_pooled(kappa) < 0.6


@pytest.mark.parametrize("correlation", [degradation_spearman, degradation_spearman_pooled])
def test_constant_concentration_has_correlation_zero(correlation: object) -> None:
    assert callable(correlation)
    assert correlation(torch.full((4, 3), 7.0)) == 0.0


@pytest.mark.parametrize("correlation", [degradation_spearman, degradation_spearman_pooled])
@pytest.mark.parametrize(
    ("concentrations", "message"),
    [
        (torch.ones(4), r"concentrations must have shape \(levels, images\).*got \(4,\)"),
        (torch.ones(1, 4), r"at least 2 levels and one image, got \(1, 4\)"),
        (torch.ones(4, 0), r"at least 2 levels and one image, got \(4, 0\)"),
        (torch.tensor([[1.0], [math.inf]]), "concentrations must be finite, got 1 NaN or infinite"),
    ],
    ids=["vector", "one_level", "no_image", "infinite"],
)
def test_bad_concentrations_are_named(correlation: object, concentrations: Tensor, message: str) -> None:
    assert callable(correlation)
    with pytest.raises(ValueError, match=message):
        correlation(concentrations)
