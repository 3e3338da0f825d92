from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, rankdata, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from inference.judging.uncertainty import (
    correctness_auroc,
    degradation_spearman,
    foreign_auroc,
    partial_spearman,
    probability_of_increase,
    severity_correlations,
    spearman,
)


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


@pytest.mark.parametrize("decimals", [0, 6], ids=["many_ties", "no_ties"])
def test_auroc_within_classes_counts_the_pairs_of_one_class(decimals: int) -> None:
    classes = torch.tensor([7, -1, 300]).repeat(50)
    right = random(150) + classes.sign() > 0.8  # some classes are easier
    right[classes == 300] = True  # nothing to rank there
    kappa = (random(150, seed=1) + right).round(decimals=decimals)
    same = classes[right][:, None] == classes[~right][None, :]
    above = kappa[right][:, None] - kappa[~right][None, :]
    expected = (above.sign()[same].mean() + 1) / 2
    assert correctness_auroc(kappa, right, classes) == pytest.approx(float(expected), abs=1e-12)


def test_a_concentration_that_knows_the_class_alone_ranks_nothing_within_classes() -> None:
    classes, right = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([True, True, False, True, False, False])
    kappa = 9.0 - classes
    assert correctness_auroc(kappa, right) > 0.5
    assert correctness_auroc(kappa, right, classes) == 0.5
    assert math.isnan(correctness_auroc(kappa, classes == 0, classes))


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


@pytest.mark.parametrize("classes", [torch.zeros(2).long(), torch.zeros(3)], ids=["other_length", "not_whole"])
def test_classes_that_do_not_fit_are_refused(classes: Tensor) -> None:
    with pytest.raises(ValueError, match=r"classes must be whole numbers of shape \(3,\), got torch\."):
        correctness_auroc(torch.ones(3), torch.ones(3).bool(), classes)


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


def test_concentration_that_falls_with_every_level_has_correlation_one() -> None:
    falls = torch.tensor([[1e5, 3.0], [1e2, 2.0], [1e-3, 1.9]])
    assert degradation_spearman(falls) == pytest.approx(1.0, abs=1e-12)
    assert degradation_spearman(falls.flip(0)) == pytest.approx(-1.0, abs=1e-12)


def test_constant_concentration_has_correlation_zero() -> None:
    assert degradation_spearman(torch.full((4, 3), 7.0)) == 0.0


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
def test_bad_concentrations_are_named(concentrations: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        degradation_spearman(concentrations)


@pytest.mark.parametrize("decimals", [0, 6], ids=["many_ties", "no_ties"])
def test_foreign_auroc_agrees_with_scikit_learn_and_scipy(decimals: int) -> None:
    inside, outside = random(150).round(decimals=decimals), (random(90, seed=1) + 0.7).round(decimals=decimals)
    labels = [0] * 150 + [1] * 90
    expected = roc_auc_score(labels, torch.cat([inside, outside]).numpy())
    assert foreign_auroc(inside, outside) == pytest.approx(expected, abs=1e-12)
    statistic = mannwhitneyu(outside.numpy(), inside.numpy()).statistic
    assert foreign_auroc(inside, outside) == pytest.approx(statistic / (150 * 90), abs=1e-12)


def test_foreign_auroc_of_one_set_against_itself_is_one_half() -> None:
    assert foreign_auroc(random(40), random(40)) == pytest.approx(0.5, abs=1e-12)
    assert foreign_auroc(torch.zeros(5), torch.ones(3)) == 1.0


def test_probability_of_increase_counts_images_and_half_of_the_ties() -> None:
    whole = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    cropped = torch.tensor([2.0, 1.0, 3.0, 9.0, 5.0])  # up, down, equal, up, equal
    assert probability_of_increase(whole, cropped) == pytest.approx((2 + 1) / 5, abs=1e-12)
    assert probability_of_increase(whole, whole) == 0.5
    assert probability_of_increase(whole, whole + 1) == 1.0


def test_severity_correlations_are_those_of_scipy() -> None:
    u = random(6, 25)
    expected = [spearmanr(column.numpy(), range(6)).statistic for column in u.T]
    assert severity_correlations(u).tolist() == pytest.approx(expected, abs=1e-12)
    assert degradation_spearman(-u) == pytest.approx(float(np.mean(expected)), abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 6], ids=["many_ties", "no_ties"])
def test_spearman_agrees_with_scipy(decimals: int) -> None:
    x = random(80).round(decimals=decimals)
    y = (x + random(80, seed=1)).round(decimals=decimals)
    assert spearman(x, y) == pytest.approx(spearmanr(x.numpy(), y.numpy()).statistic, abs=1e-12)


def test_spearman_with_a_constant_is_zero() -> None:
    assert spearman(torch.ones(5), random(5)) == 0.0
    assert spearman(random(5), torch.ones(5)) == 0.0


def test_partial_correlation_given_one_number_is_the_textbook_formula() -> None:
    z = random(120)
    x, y = z + 0.5 * random(120, seed=1), z.exp() + random(120, seed=2)
    xy, xz, yz = (spearmanr(a.numpy(), b.numpy()).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, z) == pytest.approx(expected, abs=1e-12)
    assert abs(partial_spearman(x, y, z)) < abs(spearman(x, y)) / 2  # what x and y share is z


def test_partial_correlation_given_several_agrees_with_regression_and_with_the_inverse_correlation() -> None:
    given = random(150, 3)
    x = given.sum(1) + random(150, seed=1)
    y = given[:, 0] - x.round(decimals=1) + random(150, seed=2)
    ranks = {name: rankdata(values.numpy(), axis=0) for name, values in (("x", x), ("y", y), ("z", given))}
    left = [ranks[name] - LinearRegression().fit(ranks["z"], ranks[name]).predict(ranks["z"]) for name in "xy"]
    assert partial_spearman(x, y, given) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)
    precision = np.linalg.inv(np.corrcoef(np.column_stack([ranks["x"], ranks["y"], ranks["z"]]).T))
    expected = -precision[0, 1] / math.sqrt(precision[0, 0] * precision[1, 1])
    assert partial_spearman(x, y, given) == pytest.approx(expected, abs=1e-10)


def test_partial_correlation_does_not_depend_on_constant_or_repeated_columns() -> None:
    x, y, z = random(60), random(60, seed=1), random(60, seed=2)
    expected = partial_spearman(x, y, z)
    given = torch.stack([z, torch.ones(60), z.exp(), -z], dim=1)
    assert partial_spearman(x, y, given) == pytest.approx(expected, abs=1e-12)
    assert partial_spearman(x, y, torch.ones(60)) == pytest.approx(spearman(x, y), abs=1e-12)


def test_nothing_is_left_of_what_is_given() -> None:
    x, y = random(50), random(50, seed=1)
    assert partial_spearman(x, y, x) == 0.0
    assert partial_spearman(x, y, y.exp()) == 0.0
    assert partial_spearman(torch.ones(50), y, x) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: foreign_auroc(torch.ones(0), torch.ones(2)), r"inside must have shape \(images,\) with at least 1"),
        (lambda: foreign_auroc(torch.ones(2), torch.ones(2, 2)), r"outside must have shape .* got \(2, 2\)"),
        (lambda: foreign_auroc(torch.ones(2), torch.tensor([math.nan])), "outside must be finite, got 1 NaN"),
        (
            lambda: probability_of_increase(torch.ones(2), torch.ones(3)),
            r"degraded must have the shape of whole, \(2,\)",
        ),
        (lambda: severity_correlations(torch.ones(1, 3)), "uncertainties must have shape .* at least 2 levels"),
        (lambda: spearman(torch.ones(1), torch.ones(1)), r"x must have shape \(images,\) with at least 2"),
        (lambda: partial_spearman(torch.ones(3), torch.ones(2), torch.ones(3)), "y must have the shape of x"),
        (lambda: partial_spearman(torch.ones(3), torch.ones(3), torch.ones(2)), r"given must have shape \(3,\) or"),
        (
            lambda: partial_spearman(torch.ones(3), torch.ones(3), torch.full((3, 1), math.inf)),
            "given must be finite, got 3 NaN or infinite",
        ),
    ],
    ids=["empty", "matrix", "nan", "length", "one_level", "one_image", "y", "given", "given_infinite"],
)
def test_bad_arguments_of_the_measures_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
