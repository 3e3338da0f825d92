"""Whether a predicted concentration κ means what it should: low where an image is hard or degraded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch import Tensor

_MIN_LEVELS = 2


def correctness_auroc(concentration: Tensor, is_right: Tensor) -> float:
    """Probability that an image whose nearest neighbour is right has a larger κ than one whose neighbour is wrong.

    The area under the receiver operating characteristic of κ as a score for being right, ties counting half: 1 if
    κ ranks every right image above every wrong one, 0.5 if κ says nothing (or is constant), below 0.5 if κ misleads.
    Only the order of κ matters.

    Args:
        concentration: κ, shape `(images,)`, finite.
        is_right: Booleans, shape `(images,)`, as from `inference.evaluation.nearest_neighbour_is_right`.

    Returns:
        The area, or NaN when all images are right or all are wrong: there is then nothing to rank, and no number
        would be true. It is returned rather than raised so that a very good or very bad encoder still gets a report.

    Raises:
        ValueError: If the shapes disagree, κ is not finite or `is_right` is not boolean.

    Example:
        >>> right = torch.tensor([True, True, False])
        >>> correctness_auroc(torch.tensor([5.0, 2.0, 3.0]), right)
        0.5
        >>> correctness_auroc(torch.tensor([5.0, 2.0]), torch.tensor([True, True]))
        nan
    """
    if concentration.dim() != 1 or len(concentration) == 0:
        raise ValueError(f"concentration must have shape (images,), got {tuple(concentration.shape)}")
    if is_right.shape != concentration.shape:
        raise ValueError(
            f"is_right must have the shape of concentration, {tuple(concentration.shape)}, got {tuple(is_right.shape)}"
        )
    if is_right.dtype != torch.bool:
        raise ValueError(f"is_right must be boolean, got {is_right.dtype}")
    kappa = _finite_numpy("concentration", concentration)
    if is_right.all() or not is_right.any():
        return math.nan
    return float(roc_auc_score(is_right.cpu().numpy(), kappa))


def degradation_spearman(concentrations: Tensor) -> float:
    r"""How faithfully κ falls when an image is degraded more: mean over images of Spearman(−κ, level).

    For each image, the rank correlation of $-\kappa_{\ell}$ with the level $\ell = 0, 1, \dots$ (ties share their mean
    rank); then the mean over images. It is 1 if every image's κ falls at each step, −1 if every κ rises, and 0 if κ
    does not follow the degradation. An image whose κ is the same at all levels says nothing and counts as 0.
    Comparing each image with itself leaves out that images differ in κ before any degradation; for the correlation
    with that difference left in, see `degradation_spearman_pooled`.

    Args:
        concentrations: κ, shape `(levels, images)`, with level 0 clean and each further level more degraded.

    Raises:
        ValueError: If the shape is not `(levels, images)` with at least two levels and one image, or κ is not finite.

    Example:
        >>> kappa = torch.tensor([[9.0, 4.0], [5.0, 4.0], [1.0, 4.0]])  # the first falls, the second is constant
        >>> degradation_spearman(kappa)
        0.5
    """
    kappa = _check_levels(concentrations)
    levels = np.arange(len(kappa), dtype=np.float64)
    return float(_rank_correlations(-kappa, levels[:, None]).mean())


def degradation_spearman_pooled(concentrations: Tensor) -> float:
    """Spearman correlation of −κ with the level over all pairs of a level and an image at once.

    It asks more than `degradation_spearman`: that κ tells a degraded image from a clean one without knowing which
    image it is. Levels tie (all images share one), so even a perfect ranking of levels gives less than 1 when κ also
    differs within a level. A constant κ gives 0.

    Args:
        concentrations: κ, shape `(levels, images)`, as for `degradation_spearman`.

    Raises:
        ValueError: As for `degradation_spearman`.

    Example:
        >>> degradation_spearman_pooled(torch.tensor([[9.0, 9.0], [5.0, 5.0], [1.0, 1.0]]))
        1.0
    """
    kappa = _check_levels(concentrations)
    levels = np.broadcast_to(np.arange(len(kappa), dtype=np.float64)[:, None], kappa.shape)
    return float(_rank_correlations(-kappa.reshape(-1, 1), levels.reshape(-1, 1))[0])


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


def _check_levels(concentrations: Tensor) -> np.ndarray[Any, Any]:
    if concentrations.dim() != 2 or len(concentrations) < _MIN_LEVELS or concentrations.size(1) == 0:
        raise ValueError(
            f"concentrations must have shape (levels, images) with at least {_MIN_LEVELS} levels and one image, got "
            f"{tuple(concentrations.shape)}"
        )
    return _finite_numpy("concentrations", concentrations)


def _finite_numpy(name: str, values: Tensor) -> np.ndarray[Any, Any]:
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {int((~values.isfinite()).sum())} NaN or infinite")
    return values.detach().double().cpu().numpy()
