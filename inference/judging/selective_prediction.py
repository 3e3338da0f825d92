"""How much an uncertainty helps a classifier that may abstain on the images it is least certain of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.judging.uncertainty import check_beside_right


def risk_coverage_curve(uncertainty: Tensor, is_right: Tensor) -> Tensor:
    r"""Error rate among the k images of least uncertainty, for k = 1 … n.

    Entry k − 1 is the risk at coverage k/n (El-Yaniv and Wiener, JMLR 11, 2010). Within a group of equal u the entry is
    the mean over all orders, so a constant u has the overall error rate at every coverage.

    Args:
        uncertainty: u, shape `(images,)`, finite.
        is_right: Booleans, shape `(images,)`: whether the classifier is right.

    Returns:
        Shape `(images,)`, float64.

    Raises:
        ValueError: If the shapes disagree, u is not finite or `is_right` is not boolean.

    Example:
        >>> risk_coverage_curve(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([True, False, True]))
        tensor([0.0000, 0.0000, 0.3333], dtype=torch.float64)
    """
    check_beside_right("uncertainty", uncertainty, is_right)
    values, group, count = uncertainty.double().unique(return_inverse=True, return_counts=True)
    wrong = torch.zeros(len(values), dtype=torch.float64, device=group.device).index_add_(
        0, group, (~is_right).double()
    )
    # Of the first k of a group with c images, e of them wrong, e k/c are wrong on average.
    each = (wrong / count).repeat_interleave(count)
    k = torch.arange(1, len(each) + 1, dtype=torch.float64, device=each.device)
    risk: Tensor = each.cumsum(0) / k
    return risk


def area_under_risk_coverage(uncertainty: Tensor, is_right: Tensor) -> float:
    """Mean risk over all coverages, AURC (Geifman et al., arXiv:1805.08206); arguments as `risk_coverage_curve`.

    Example:
        >>> round(area_under_risk_coverage(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([True, False, True])), 4)
        0.1111
    """
    return float(risk_coverage_curve(uncertainty, is_right).mean())


def excess_area(uncertainty: Tensor, is_right: Tensor) -> float:
    """How much AURC exceeds that of an oracle, which leaves all wrong images to the end: E-AURC of arXiv:1805.08206.

    It is 0 for an u that ranks perfectly, whatever the classifier's accuracy; for any other u it grows with the error.
    Arguments as `risk_coverage_curve`.

    Example:
        >>> excess_area(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([True, False, True]))
        0.0
    """
    return area_under_risk_coverage(uncertainty, is_right) - area_under_risk_coverage((~is_right).double(), is_right)


def accuracy_at_coverage(uncertainty: Tensor, is_right: Tensor, coverage: float = 0.8) -> float:
    """Accuracy on the given fraction of images, those of least uncertainty.

    Args:
        uncertainty: As for `risk_coverage_curve`.
        is_right: As for `risk_coverage_curve`.
        coverage: Fraction of images that are kept, in (0, 1]; rounded up to whole images.

    Raises:
        ValueError: As for `risk_coverage_curve`, or if `coverage` is outside its range.

    Example:
        >>> accuracy_at_coverage(torch.tensor([0.1, 0.3, 0.2, 0.0]), torch.tensor([True, False, True, True]), 0.75)
        1.0
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage}")
    curve = risk_coverage_curve(uncertainty, is_right)
    # 0.8 × 5 = 4.000000000000001 in floating point would keep a fifth image of five.
    kept = max(1, math.ceil(round(coverage * len(curve), 9)))
    return 1 - float(curve[kept - 1])
