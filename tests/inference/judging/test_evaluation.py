from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from inference.judging import evaluation
from inference.judging.evaluation import (
    knn_accuracy,
    nearest_neighbour_is_right,
    nearest_other_is_right,
)

Split = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> Split:
    x, y = load_digits(return_X_y=True)
    features, labels = torch.tensor(x, dtype=torch.float64), torch.tensor(y)
    return features[:1300], labels[:1300], features[1300:], labels[1300:]


def blobs(classes: int, per_class: int, dim: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat_interleave(per_class)
    return centres[labels] + torch.randn(len(labels), dim, generator=generator), labels


@pytest.mark.parametrize("k", [1, 5, 20])
def test_majority_vote_agrees_with_scikit_learn(digits: Split, k: int) -> None:
    train, train_labels, test, test_labels = digits
    witness = KNeighborsClassifier(k, metric="cosine").fit(train.numpy(), train_labels.numpy())
    expected = witness.score(test.numpy(), test_labels.numpy())
    assert knn_accuracy(*digits, k=k, temperature=math.inf) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.02, 0.07, 1.0])
def test_weighted_vote_agrees_with_scikit_learn(digits: Split, temperature: float) -> None:
    def weight(cosine_distance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.exp((1 - cosine_distance) / temperature)

    train, train_labels, test, test_labels = digits
    witness = KNeighborsClassifier(20, metric="cosine", weights=weight).fit(train.numpy(), train_labels.numpy())
    expected = witness.score(test.numpy(), test_labels.numpy())
    assert knn_accuracy(*digits, k=20, temperature=temperature) == pytest.approx(expected, abs=1e-12)


def test_a_small_temperature_gives_the_nearest_neighbour_without_overflow(digits: Split) -> None:
    train, train_labels, test, test_labels = digits
    nearest = nearest_neighbour_is_right(train, train_labels, test, test_labels).double().mean().item()
    single = (train.float(), train_labels, test.float(), test_labels)
    assert knn_accuracy(*single, k=20, temperature=1e-6) == pytest.approx(nearest, abs=1e-12)


def test_nearest_neighbour_is_right_agrees_with_scikit_learn_image_by_image(digits: Split) -> None:
    train, train_labels, test, test_labels = digits
    witness = KNeighborsClassifier(1, metric="cosine").fit(train.numpy(), train_labels.numpy())
    expected = torch.from_numpy(witness.predict(test.numpy())) == test_labels
    right = nearest_neighbour_is_right(*digits)
    assert right.dtype == torch.bool
    assert torch.equal(right, expected)
    assert not right.all()


def test_the_size_of_a_block_changes_nothing(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = knn_accuracy(*digits), nearest_neighbour_is_right(*digits)
    monkeypatch.setattr(evaluation, "_COSINES_AT_ONCE", 1300 * 7)  # 497 = 7 × 71 test images
    assert knn_accuracy(*digits) == whole[0]
    assert torch.equal(nearest_neighbour_is_right(*digits), whole[1])
    monkeypatch.setattr(evaluation, "_COSINES_AT_ONCE", 1)  # less than one row: still one image at a time
    assert knn_accuracy(*digits) == whole[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_neighbours_do_not_depend_on_the_lengths_of_the_features(digits: Split, scale: float) -> None:
    train, train_labels, test, test_labels = digits
    lengths = scale * (1 + torch.arange(len(train)))[:, None]
    assert torch.equal(
        nearest_neighbour_is_right(train * lengths, train_labels, test * scale, test_labels),
        nearest_neighbour_is_right(*digits),
    )


def test_neighbours_are_found_in_single_precision_under_autocast() -> None:
    # Two training directions at angles that half precision cannot tell apart.
    angle = torch.tensor([0.0, 4e-3])
    train = torch.stack([angle.cos(), angle.sin()], -1)
    test = torch.tensor([[math.cos(3.9e-3), math.sin(3.9e-3)]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        right = nearest_neighbour_is_right(train, torch.tensor([0, 1]), test, torch.tensor([1]))
    assert right.item()


def test_half_precision_features_are_accepted(digits: Split) -> None:
    train, train_labels, test, test_labels = digits
    half = knn_accuracy(train.bfloat16(), train_labels, test.bfloat16(), test_labels)
    assert half == pytest.approx(knn_accuracy(*digits), abs=0.01)


def test_an_unknown_test_label_is_missed() -> None:
    features, labels = blobs(3, 10, 4)
    assert knn_accuracy(features, labels, features, labels + 10, k=1) == 0.0


def test_labels_may_be_any_integers(digits: Split) -> None:
    train, train_labels, test, test_labels = digits
    renamed = (train, 100 - 7 * train_labels, test, 100 - 7 * test_labels)
    assert knn_accuracy(*renamed, k=1) == knn_accuracy(*digits, k=1)


X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1, 1, 1])
NAN = X.clone().index_fill(0, torch.tensor([2]), math.nan)

COMMON_ERRORS: dict[str, tuple[Split, str]] = {
    "train_features_not_a_matrix": ((X[0], Y, X, Y), r"train_features must have shape \(images, dim\).*got \(3,\)"),
    "no_test_images": ((X, Y, X[:0], Y[:0]), r"test_features must have shape .*got \(0, 3\)"),
    "too_few_train_labels": ((X, Y[:4], X, Y), r"train_labels must have shape \(6,\).*got \(4,\)"),
    "labels_one_hot": ((X, Y, X, torch.eye(6).long()), r"test_labels must have shape \(6,\).*got \(6, 6\)"),
    "labels_floating_point": ((X, Y.float(), X, Y), "train_labels must be integers, got torch.float32"),
    "other_dimension": ((X, Y, X[:, :2], Y), "test_features must have as many dimensions as train_features, 3, got 2"),
    "train_nan": ((NAN, Y, X, Y), "train_features must be finite, got 3 NaN or infinite"),
    "test_infinite": ((X, Y, NAN.nan_to_num(math.inf), Y), "test_features must be finite"),
}


@pytest.mark.parametrize("function", [knn_accuracy, nearest_neighbour_is_right])
@pytest.mark.parametrize("case", COMMON_ERRORS)
def test_bad_features_and_labels_are_named(function: Any, case: str) -> None:
    arguments, message = COMMON_ERRORS[case]
    options = {"k": 3} if function is knn_accuracy else {}
    with pytest.raises(ValueError, match=message):
        function(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 7}, "k must lie between 1 and the number of training images, 6, got 7"),
        ({"k": 0}, "k must lie between 1 .* got 0"),
        ({"k": 2, "temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"k": 2, "temperature": math.nan}, "temperature must be positive, got nan"),
    ],
    ids=["k_too_large", "k_zero", "temperature_zero", "temperature_nan"],
)
def test_bad_options_of_knn_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_accuracy(X, Y, X, Y, **options)


def test_nearest_other_is_found_among_all_other_images() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(120, 6, generator=generator)
    labels = torch.randint(4, (120,), generator=generator)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=-1)
    expected = labels[cosine.fill_diagonal_(-2).argmax(1)] == labels
    assert torch.equal(nearest_other_is_right(features, labels), expected)


def test_an_image_is_not_its_own_neighbour_even_beside_its_copies() -> None:
    features = torch.randn(1, 5).expand(4, 5)  # all cosines are equal
    assert not nearest_other_is_right(features, torch.arange(4)).any()
    assert nearest_other_is_right(features, torch.zeros(4, dtype=torch.long)).all()


def test_a_single_image_has_no_neighbour() -> None:
    with pytest.raises(ValueError, match="features must hold at least 2 images, got 1"):
        nearest_other_is_right(torch.ones(1, 3), torch.zeros(1, dtype=torch.long))


@pytest.mark.gpu
def test_labels_may_stay_in_the_processors_memory(digits: Split) -> None:
    train, labels, test, test_labels = digits
    assert knn_accuracy(train.cuda(), labels, test.cuda(), test_labels) == knn_accuracy(*digits)
    right = nearest_neighbour_is_right(train.cuda(), labels, test.cuda(), test_labels)
    assert torch.equal(right.cpu(), nearest_neighbour_is_right(*digits))
    assert torch.equal(
        nearest_other_is_right(test.cuda(), test_labels).cpu(), nearest_other_is_right(test, test_labels)
    )
