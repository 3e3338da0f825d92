"""Geometry of the unit sphere S^{d−1} in R^d: its area, unit vectors, distances that keep their digits, tangents."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_surface_area(dim: int) -> float:
    r"""Logarithm of the area of the unit sphere in R^dim, $\log\{2\pi^{d/2}/\Gamma(d/2)\}$.

    Args:
        dim: Dimension d ≥ 1 of the surrounding space; the sphere itself has dimension d − 1.

    Example:
        >>> round(math.exp(log_surface_area(3)) / math.pi, 12)  # 4π in space
        4.0
    """
    return math.log(2.0) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def normalize(vector: Tensor) -> Tensor:
    """Project onto the unit sphere, in float32 or better.

    Half precision is raised to float32 first: a cosine in half precision has three digits, and κ multiplies its error.
    A vector shorter than `torch.finfo(dtype).tiny` has no direction; it is divided by `tiny` and so does not become a
    unit vector, which a validating distribution reports.

    Args:
        vector: Shape `(*batch, dim)`.

    Returns:
        Unit vectors of the same shape.
    """
    if vector.dtype in {torch.float16, torch.bfloat16}:
        vector = vector.float()
    return torch.nn.functional.normalize(vector, dim=-1, eps=torch.finfo(vector.dtype).tiny)


def half_squared_chord(x: Tensor, y: Tensor) -> Tensor:
    r"""$\tfrac12\lVert x-y\rVert^2 = 1 - x^\top y$ for unit vectors.

    The squared chord keeps its relative accuracy where x and y nearly agree, which is where a large concentration
    multiplies the error: there `1 - x @ y` has lost every digit. Rounding of the lengths of x and y enters only
    in second order.

    Args:
        x: Unit vectors, shape `(*batch, dim)`.
        y: Unit vectors, broadcastable with `x`.

    Returns:
        Shape `(*batch,)`, between 0 (equal) and 2 (opposite).
    """
    return (x - y).square().sum(-1) / 2


def uniform_tangent(direction: Tensor) -> Tensor:
    r"""Draw unit vectors uniformly among those orthogonal to `direction`, differentiably in `direction`.

    A standard normal vector is projected on the tangent space and normalised. Unlike a Householder reflection of a
    fixed axis this has no direction at which its derivative is singular.

    Args:
        direction: Unit vectors, shape `(*batch, dim)` with dim ≥ 2.

    Returns:
        Unit vectors v of the same shape with $v^\top$ `direction` = 0.
    """
    noise = torch.randn_like(direction)
    tangent = noise - (noise * direction).sum(-1, keepdim=True) * direction
    tangent = (
        tangent - (tangent * direction).sum(-1, keepdim=True) * direction
    )  # again: removes the rounding of the first
    return normalize(tangent)
