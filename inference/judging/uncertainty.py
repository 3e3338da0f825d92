"""Measures of κ as an uncertainty: κ should be low where an image is hard, degraded, foreign or ambiguous.

The measures judge an uncertainty u, one number for each image: −κ or a rival. Here only the order of u matters.
`inference.judging.calibration` judges its value, `inference.judging.selective_prediction` its use to a classifier that
may abstain. Intervals come from `inference.judging.resampling`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

_MIN_LEVELS = 2
_MIN_IMAGES = 2
_ROUNDING = 1e-9  # relative size below which a residual of ranks is what rounding left of nothing


def correctness_auroc(concentration: Tensor, is_right: Tensor, classes: Tensor | None = None) -> float:
    """Probability that an image whose nearest neighbour is right has a larger κ than one whose neighbour is wrong.

    The area under the receiver operating characteristic of κ as a score for being right, ties counting half: 1 if
    κ ranks every right image above every wrong one, 0.5 if κ is unrelated to being right (or constant), below 0.5 if κ
    is larger for wrong images. Only the order of κ matters.

    With the nearest neighbour among the other images of the same set
    (`inference.judging.evaluation.nearest_other_is_right`) this is the R-AUROC of the URL benchmark (arXiv:2307.03810,
    Section 3).

    A κ that knows nothing but which classes are difficult has an area above 0.5. With `classes` only images of one
    class are compared, over all pairs of a right and a wrong one, and such a κ has 0.5.

    Args:
        concentration: κ, shape `(images,)`, finite.
        is_right: Booleans, shape `(images,)`, as from `inference.judging.evaluation.nearest_neighbour_is_right`.
        classes: Whole numbers, shape `(images,)`: compare within each class; all images are compared when not given.

    Returns:
        The area, or NaN when all images are right or all are wrong (in each class), because there is nothing to rank.
        NaN is not an error, so a very good or very bad encoder still gets a report.

    Raises:
        ValueError: If the shapes disagree, κ is not finite, `is_right` is not boolean or `classes` are not whole
            numbers.

    Example:
        >>> right = torch.tensor([True, True, False])
        >>> correctness_auroc(torch.tensor([5.0, 2.0, 3.0]), right)
        0.5
        >>> correctness_auroc(torch.tensor([5.0, 2.0, 3.0]), right, torch.tensor([0, 1, 1]))
        0.0
        >>> correctness_auroc(torch.tensor([5.0, 2.0]), torch.tensor([True, True]))
        nan
    """
    check_beside_right("concentration", concentration, is_right)
    if classes is None:
        classes = torch.zeros_like(is_right, dtype=torch.long)
    if classes.shape != is_right.shape or classes.is_floating_point() or classes.is_complex():
        raise ValueError(
            f"classes must be whole numbers of shape {tuple(is_right.shape)}, got {classes.dtype} of shape "
            f"{tuple(classes.shape)}"
        )
    right = is_right.cpu().numpy()
    _, group, size = np.unique(classes.cpu().numpy(), return_inverse=True, return_counts=True)
    # Mann and Whitney's U of all classes at once: ranked class by class, less the images of the classes before.
    ranked = rankdata(concentration.detach().double().cpu().numpy(), method="dense") + group * (len(right) + 1)
    rank = rankdata(ranked) - (size.cumsum() - size)[group]
    rights = np.bincount(group, right)
    pairs = (rights * (size - rights)).sum()
    won = rank[right].sum() - (rights * (rights + 1)).sum() / 2
    return float(won / pairs) if pairs else math.nan


def check_beside_right(name: str, values: Tensor, is_right: Tensor) -> None:
    """Refuse numbers that are not one an image, or beside which it is not said whether each image is right."""
    if values.dim() != 1 or len(values) == 0:
        raise ValueError(f"{name} must have shape (images,), got {tuple(values.shape)}")
    if is_right.shape != values.shape:
        raise ValueError(f"is_right must have the shape of {name}, {tuple(values.shape)}, got {tuple(is_right.shape)}")
    if is_right.dtype != torch.bool:
        raise ValueError(f"is_right must be boolean, got {is_right.dtype}")
    _check_finite(name, values)


def foreign_auroc(inside: Tensor, outside: Tensor) -> float:
    """Probability that an image from another set has a larger uncertainty than one from the training's set.

    The area under the receiver operating characteristic of u as a detector of images that are out of distribution,
    ties counting half.

    Args:
        inside: u of images of the training's kind (new ones), shape `(images,)`, finite.
        outside: u of other images, shape `(other images,)`, finite.

    Raises:
        ValueError: If a shape is wrong, a set is empty or u is not finite.

    Example:
        >>> foreign_auroc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        0.875
    """
    _check_vector("inside", inside)
    _check_vector("outside", outside)
    return _probability_of_greater(_finite_numpy("outside", outside), _finite_numpy("inside", inside))


def probability_of_increase(whole: Tensor, degraded: Tensor) -> float:
    """Probability that an image's uncertainty is greater after it was degraded, such as by cropping.

    Each image is compared with itself. Equal values count half, so that a constant u has ½; the URL benchmark
    (arXiv:2307.03810) counts them as failures, which makes no difference for a continuous u.

    Args:
        whole: u of the images as they are, shape `(images,)`, finite.
        degraded: u of the same images, degraded.

    Raises:
        ValueError: If the shapes disagree or u is not finite.

    Example:
        >>> probability_of_increase(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]))
        0.75
    """
    _check_vector("whole", whole)
    if degraded.shape != whole.shape:
        raise ValueError(f"degraded must have the shape of whole, {tuple(whole.shape)}, got {tuple(degraded.shape)}")
    before, after = _finite_numpy("whole", whole), _finite_numpy("degraded", degraded)
    return float((after > before).mean() + (after == before).mean() / 2)


def severity_correlations(uncertainties: Tensor) -> Tensor:
    r"""Spearman's rank correlation of u with the strength of a degradation, for each image.

    For each image, the rank correlation of $u_\ell$ with the level $\ell = 0, 1, \dots$; ties share their mean rank.
    It is 1 if u grows at each step, −1 if it falls, 0 if u does not follow the degradation. An image whose u is the
    same at all levels counts as 0.

    Args:
        uncertainties: u, shape `(levels, images)`, with level 0 clean and each further level more degraded.

    Returns:
        Shape `(images,)`, float64.

    Raises:
        ValueError: If the shape is not `(levels, images)` with at least two levels and one image, or u is not finite.

    Example:
        >>> severity_correlations(torch.tensor([[0.0, 4.0], [5.0, 4.0], [9.0, 4.0]]))  # grows; is constant
        tensor([1., 0.], dtype=torch.float64)
    """
    u = _check_levels("uncertainties", uncertainties)
    levels = np.arange(len(u), dtype=np.float64)
    return torch.from_numpy(_rank_correlations(u, levels[:, None]))


def degradation_spearman(concentrations: Tensor) -> float:
    r"""Spearman's rank correlation of −κ with the strength of a degradation, mean over images.

    The mean of `severity_correlations` of u = −κ. Each image is compared with itself only, so differences in κ between
    clean images do not count.

    Args:
        concentrations: κ, shape `(levels, images)`, with level 0 clean and each further level more degraded.

    Raises:
        ValueError: If the shape is not `(levels, images)` with at least two levels and one image, or κ is not finite.

    Example:
        >>> kappa = torch.tensor([[9.0, 4.0], [5.0, 4.0], [1.0, 4.0]])  # the first falls, the second is constant
        >>> degradation_spearman(kappa)
        0.5
    """
    _check_levels("concentrations", concentrations)
    return float(severity_correlations(-concentrations).mean())


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation of two numbers for each image, 0 where one of them is constant.

    Args:
        x: Shape `(images,)`, at least two, finite.
        y: The same.

    Raises:
        ValueError: If the shapes disagree, there are fewer than two images or a value is not finite.

    Example:
        >>> round(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
        1.0
    """
    return partial_spearman(x, y, x.new_empty(len(x) if x.dim() else 0, 0))


def partial_spearman(x: Tensor, y: Tensor, given: Tensor) -> float:
    r"""Rank correlation of x and y after removing what other numbers explain of both.

    The correlation of the residuals of the ranks of x and y after linear regression on the ranks of `given`. For one
    given number it is $(r_{xy}-r_{xz}r_{yz})/\sqrt{(1-r_{xz}^2)(1-r_{yz}^2)}$ with Spearman's correlations r. For
    example: does κ predict errors or degradations better than the edges of an image do?

    Args:
        x: Shape `(images,)`, at least two, finite.
        y: The same.
        given: Shape `(images,)`, or `(images, numbers)` with any number of columns.

    Returns:
        The correlation; 0 where nothing of x or of y is left, as when one is constant or a function of `given` by rank.

    Raises:
        ValueError: If the shapes disagree, there are fewer than two images or a value is not finite.

    Example:
        >>> x, z = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])
        >>> round(partial_spearman(x, torch.tensor([1.0, 2.0, 3.0, 4.0]), z), 6)
        1.0
        >>> partial_spearman(x, z, x)
        0.0
    """
    _check_vector("x", x, at_least=_MIN_IMAGES)
    given = given[:, None] if given.dim() == 1 else given
    if y.shape != x.shape:
        raise ValueError(f"y must have the shape of x, {tuple(x.shape)}, got {tuple(y.shape)}")
    if given.dim() != 2 or len(given) != len(x):
        raise ValueError(f"given must have shape ({len(x)},) or ({len(x)}, numbers), got {tuple(given.shape)}")
    ranks = [
        rankdata(_finite_numpy(name, values), axis=0) - (len(x) + 1) / 2
        for name, values in (("x", x), ("y", y), ("given", given))
    ]
    explained = _orthonormal_basis(ranks[2])
    left = []
    for rank in ranks[:2]:
        residual = rank - explained @ (explained.T @ rank)
        scale = np.linalg.norm(residual)
        if scale <= _ROUNDING * np.linalg.norm(rank):
            return 0.0
        left.append(residual / scale)
    return float(np.clip(left[0] @ left[1], -1, 1))


def _orthonormal_basis(columns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A basis of what the columns span, of which some may be constant (zero) or depend on others."""
    if columns.shape[1] == 0:
        return columns
    directions, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: np.ndarray[Any, Any] = directions[:, sizes > _ROUNDING * max(sizes[0], 1.0)]
    return basis


def _probability_of_greater(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """P(a > b) + ½ P(a = b) for a of the first and b of the second: Mann and Whitney's U, from ranks."""
    ranks = rankdata(np.concatenate([first, second]))[: len(first)]
    pairs_won = ranks.sum() - len(first) * (len(first) + 1) / 2
    return float(pairs_won / (len(first) * len(second)))


def _rank_correlations(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Spearman's correlation down each column, 0 where a column of x is constant.

    `scipy.stats.spearmanr` correlates every column with every other, which is quadratic in the images, and warns about
    constant columns.
    """
    x, y = (rankdata(values, axis=0) - (len(values) + 1) / 2 for values in (x, y))
    covariance = (x * y).sum(0)
    scale = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    correlation: np.ndarray[Any, Any] = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return correlation


def _check_levels(name: str, values: Tensor) -> np.ndarray[Any, Any]:
    if values.dim() != 2 or len(values) < _MIN_LEVELS or values.size(1) == 0:
        raise ValueError(
            f"{name} must have shape (levels, images) with at least {_MIN_LEVELS} levels and one image, got "
            f"{tuple(values.shape)}"
        )
    return _finite_numpy(name, values)


def _check_vector(name: str, values: Tensor, *, at_least: int = 1) -> None:
    if values.dim() != 1 or len(values) < at_least:
        raise ValueError(f"{name} must have shape (images,) with at least {at_least}, got {tuple(values.shape)}")


def _check_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {int((~values.isfinite()).sum())} NaN or infinite")


def _finite_numpy(name: str, values: Tensor) -> np.ndarray[Any, Any]:
    _check_finite(name, values)
    return values.detach().double().cpu().numpy()
