"""How well frozen features predict labels: nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.sphere import normalize

# A block of cosines holds at most this many numbers: 256 MiB in float32, whatever the number of images.
_COSINES_AT_ONCE = 2**26


@torch.no_grad()
def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    r"""Accuracy of a vote among the k training images of largest cosine.

    A neighbour at cosine c votes for its class with weight $\exp(c/T)$. This is the classifier of Wu et al.
    (arXiv:1805.01978, Section 3.4); k = 20 and T = 0.07 are what DINO (arXiv:2104.14294) evaluates with.
    `temperature=math.inf` gives every neighbour one vote, and k = 1 the nearest neighbour's class. Equal votes go to
    the smallest label.

    The cosines are computed in float32 or better, also under autocast, and a block of test images at a time, so that
    100,000 images with 2,048 features need a normalised copy of them and 256 MiB more.

    Args:
        train_features: Shape `(train, dim)`; need not be of unit length. A zero vector has cosine 0 with everything.
        train_labels: Integers, shape `(train,)`, on any device.
        test_features: Shape `(test, dim)`, on the device of `train_features`.
        test_labels: Integers, shape `(test,)`, on any device. A label that no training image has is always missed.
        k: Number of neighbours, between 1 and `train`.
        temperature: T > 0, possibly infinite.

    Returns:
        The fraction of test images classified correctly.

    Raises:
        ValueError: If shapes disagree, features are not finite, labels are not integers, or `k` or `temperature` is
            outside its range.

    Example:
        >>> train = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
        >>> test = torch.tensor([[5.0, 1.0], [-1.0, 4.0]])
        >>> knn_accuracy(train, torch.tensor([7, 7, 3]), test, torch.tensor([7, 7]), k=1)
        0.5
    """
    check_features_and_labels(train_features, train_labels, test_features, test_labels)
    if not 1 <= k <= len(train_features):
        raise ValueError(f"k must lie between 1 and the number of training images, {len(train_features)}, got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    classes, class_of_image = train_labels.to(train_features.device).unique(return_inverse=True)
    test_labels = test_labels.to(train_features.device)
    right = 0
    for rows, cosine, neighbour in _nearest(train_features, test_features, k):
        # Relative to the nearest neighbour no weight overflows, and the nearest one always counts.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(cosine), len(classes)).scatter_add_(1, class_of_image[neighbour], weight)
        right += int((classes[votes.argmax(1)] == test_labels[rows]).sum())
    return right / len(test_features)


@torch.no_grad()
def nearest_neighbour_is_right(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> Tensor:
    """Whether each test image's nearest training image, by cosine, has its label.

    A predicted concentration should rank this event, see `inference.judging.uncertainty.correctness_auroc`.

    Args:
        train_features: Shape `(train, dim)`.
        train_labels: Integers, shape `(train,)`.
        test_features: Shape `(test, dim)`.
        test_labels: Integers, shape `(test,)`.

    Returns:
        Booleans, shape `(test,)`.

    Raises:
        ValueError: If shapes disagree, features are not finite or labels are not integers.

    Example:
        >>> train = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> test = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
        >>> nearest_neighbour_is_right(train, torch.tensor([0, 1]), test, torch.tensor([0, 0])).tolist()
        [True, False]
    """
    check_features_and_labels(train_features, train_labels, test_features, test_labels)
    nearest = [neighbour[:, 0] for _, _, neighbour in _nearest(train_features, test_features, 1)]
    device = train_features.device
    return train_labels.to(device)[torch.cat(nearest)] == test_labels.to(device)


@torch.no_grad()
def nearest_other_is_right(features: Tensor, labels: Tensor) -> Tensor:
    """Whether, of all other images of the set, the nearest by cosine has an image's own label.

    This is recall at one, which an uncertainty should predict in the URL benchmark (arXiv:2307.03810). The neighbours
    are new images too; no training image is needed. An image is never its own neighbour, also where others equal it.

    Args:
        features: Shape `(images, dim)`, at least two images.
        labels: Integers, shape `(images,)`.

    Returns:
        Booleans, shape `(images,)`.

    Raises:
        ValueError: If shapes disagree, features are not finite, labels are not integers or there is one image.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest_other_is_right(features, torch.tensor([0, 0, 0])).tolist()
        [True, True, True]
        >>> nearest_other_is_right(features, torch.tensor([0, 1, 1])).tolist()
        [False, False, True]
    """
    check_features_and_labels(features, labels, features, labels)
    if len(features) < 2:
        raise ValueError(f"features must hold at least 2 images, got {len(features)}")
    row = torch.arange(len(features), device=features.device)
    nearest = torch.cat([neighbour for _, _, neighbour in _nearest(features, features, 2)])
    other = torch.where(nearest[:, 0] == row, nearest[:, 1], nearest[:, 0])
    labels = labels.to(features.device)
    return labels[other] == labels


def _nearest(train_features: Tensor, test_features: Tensor, k: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows of the test set with the cosines and indices of their k nearest training images, nearest first."""
    dtype = torch.promote_types(torch.promote_types(train_features.dtype, test_features.dtype), torch.float32)
    train = normalize(train_features.to(dtype))
    block = max(1, _COSINES_AT_ONCE // len(train))
    for start in range(0, len(test_features), block):
        rows = slice(start, start + block)
        # Autocast would compute the product in half precision, where near neighbours have equal cosines.
        with torch.autocast(train.device.type, enabled=False):
            cosine = normalize(test_features[rows].to(dtype)) @ train.T
        yield rows, *cosine.topk(k, dim=1)


def check_features_and_labels(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> None:
    """Refuse features and labels of the wrong shape, features that are not finite, and labels that are not integers."""
    pairs: Any = (("train", train_features, train_labels), ("test", test_features, test_labels))
    for name, features, labels in pairs:
        if features.dim() != 2 or 0 in features.shape:
            raise ValueError(
                f"{name}_features must have shape (images, dim) with neither 0, got {tuple(features.shape)}"
            )
        if labels.shape != features.shape[:1]:
            raise ValueError(
                f"{name}_labels must have shape {tuple(features.shape[:1])}, one for each of {name}_features, got "
                f"{tuple(labels.shape)}"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"{name}_labels must be integers, got {labels.dtype}")
        if not features.isfinite().all():
            raise ValueError(f"{name}_features must be finite, got {int((~features.isfinite()).sum())} NaN or infinite")
    if train_features.size(1) != test_features.size(1):
        raise ValueError(
            f"test_features must have as many dimensions as train_features, {train_features.size(1)}, got "
            f"{test_features.size(1)}"
        )
