"""Measures of collapse: how much of the sphere an encoder's outputs fill."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_as_inference.sphere import normalize

COLLAPSED_STANDARD_DEVIATION = 0.1
COLLAPSED_RANK = 2.0
"""Of the outputs; below either of the two nothing that is said of single images means anything."""

_MIN_OUTPUTS = 2

# Outputs of one and the same value differ by rounding: about one unit in the last place of the dtype they were
# computed in, on the unit sphere, and a few more after a network. A spread below this many units is no spread.
_ROUNDING_UNITS = 8


@torch.no_grad()
def standard_deviation(outputs: Tensor) -> float:
    r"""Standard deviation of the ℓ2-normalised outputs, scaled so that uniform outputs have 1.

    With $z_n$ the normalised outputs this is $\sqrt d$ times the mean, over the d dimensions, of the standard
    deviation of $z_{nj}$ over n. It is 0 if and only if all directions are equal (complete collapse), at most
    $\sqrt{1-\lVert\bar z\rVert^2} \le 1$, and near 1 when the directions are spread evenly over all dimensions.
    SimSiam (arXiv:2011.10566, Fig. 2) plots the same quantity without the factor, so its ceiling is $1/\sqrt d$.

    Args:
        outputs: Shape `(images, dim)`, at least two images; need not be of unit length.

    Raises:
        ValueError: If `outputs` has another shape or is not finite.

    Example:
        >>> standard_deviation(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]))  # corners
        1.0
        >>> standard_deviation(torch.ones(10, 3))
        0.0
    """
    z = _normalized(outputs)
    return float(math.sqrt(z.size(1)) * z.std(0, correction=0).mean())


@torch.no_grad()
def effective_rank(outputs: Tensor) -> float:
    r"""Effective number of dimensions in which the ℓ2-normalised outputs vary.

    The exponential of the entropy of $p_k = \sigma_k/\sum_l \sigma_l$, with σ the singular values of the centred,
    normalised outputs (Roy and Vetterli, "The effective rank", EUSIPCO 2007). It is m when the outputs vary equally
    in m orthogonal directions, at most min(images − 1, dim), and 1 when they lie on one line. Outputs that are all
    equal vary in no dimension: there the entropy is undefined, and 0 is returned, which no other input gives. "Equal"
    means a root mean square distance to the centre of less than eight units in the last place of the outputs' dtype,
    since below it the singular values are those of the rounding.

    Unlike the standard deviation it detects dimensional collapse: outputs that vary along few directions.

    Args:
        outputs: Shape `(images, dim)`, at least two images; need not be of unit length.

    Raises:
        ValueError: If `outputs` has another shape or is not finite.

    Example:
        >>> round(effective_rank(torch.cat([torch.eye(5), -torch.eye(5)])), 6)
        5.0
        >>> effective_rank(torch.ones(10, 3))
        0.0
    """
    z = _normalized(outputs)
    sigma = torch.linalg.svdvals(z - z.mean(0))
    spread = sigma.norm() / math.sqrt(len(z))
    if spread < _ROUNDING_UNITS * torch.finfo(outputs.dtype).eps:
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.special.entr(p).sum().exp())


def has_collapsed(deviation: float, rank: float) -> bool:
    """Whether outputs fill so little of the sphere that no other measure of them means anything.

    Args:
        deviation: Their `standard_deviation`.
        rank: Their `effective_rank`.

    Example:
        >>> has_collapsed(0.9, 50.0), has_collapsed(0.001, 50.0), has_collapsed(0.9, 1.0)
        (False, True, True)
    """
    return deviation < COLLAPSED_STANDARD_DEVIATION or rank < COLLAPSED_RANK


def _normalized(outputs: Tensor) -> Tensor:
    if outputs.dim() != 2 or len(outputs) < _MIN_OUTPUTS or outputs.size(1) == 0:
        raise ValueError(
            f"outputs must have shape (images, dim) with at least {_MIN_OUTPUTS} images, got {tuple(outputs.shape)}"
        )
    if not outputs.is_floating_point():
        raise ValueError(f"outputs must be real floating-point numbers, got {outputs.dtype}")
    if not outputs.isfinite().all():
        raise ValueError(f"outputs must be finite, got {int((~outputs.isfinite()).sum())} NaN or infinite")
    return normalize(outputs.double())
