r"""Maximum likelihood for the Power Spherical distribution.

With weights that sum to one the log likelihood is $\log C(\kappa) + \kappa\sum_i w_i\log(1+\mu^\top z_i)$. Only the sum
depends on μ, so the best μ does not depend on κ. Then κ solves $\psi(a+b)-\psi(a) = \log 2 - \sum_i w_i\log(1+\mu^\top
z_i)$.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.special import polygamma_difference
from ssl_as_inference.sphere import half_squared_chord, normalize

_DIRECTION_STEPS = 40  # near the maximum each gains a factor of about √n of the error, or of n/d where n is not ≫ d
_CONCENTRATION_STEPS = 12  # 1/(ψ(a+b)−ψ(a)) is close to linear in κ: half of them reach the last digit
_LONGEST_STEP = 0.5  # radians; binds only far from the maximum, where the line search's parabola is no model


def fit_mean_direction(samples: Tensor, weights: Tensor) -> Tensor:
    r"""Maximise $\sum_i w_i\log(1+\mu^\top z_i)$ over unit vectors μ, from the mean of the samples.

    Steepest ascent along great circles with Newton's step length. The expected Hessian is a multiple of the identity on
    the tangent space, so that for many samples this is Newton's method, at the cost of the gradient. The
    sum is −∞ opposite each sample and may have several maxima, on the circle one between any two poles; one is found.

    Args:
        samples: Shape `(n, *batch, dim)`.
        weights: Shape `(n, *batch)`, of the dtype of `samples`, sums to one over the first dimension.

    Returns:
        Shape `(*batch, dim)`.
    """
    floor = torch.finfo(samples.dtype).eps  # of 1 + t, as in `PowerSpherical.log_prob`
    mean = (weights.unsqueeze(-1) * samples).sum(0)
    # Samples that cancel: from a direction that is hardly one of theirs, or its opposite, where no slope leads on.
    start = torch.arange(1, mean.size(-1) + 1, dtype=mean.dtype, device=mean.device).cos()
    balanced = mean.norm(dim=-1, keepdim=True) <= floor
    direction = normalize(torch.where(balanced, start, mean))
    for _ in range(_DIRECTION_STEPS):
        cosine = 1 - half_squared_chord(samples, direction)
        height = (1 + cosine).clamp_min(floor)
        gradient = ((weights / height).unsqueeze(-1) * samples).sum(0)
        gradient = gradient - (gradient * direction).sum(-1, keepdim=True) * direction
        slope = gradient.norm(dim=-1)
        tangent = normalize(gradient)
        across = (samples * tangent).sum(-1)
        curvature = (weights * (cosine / height + (across / height).square())).sum(0)
        step = (slope / curvature.abs().clamp_min(floor)).clamp_max(_LONGEST_STEP).unsqueeze(-1)
        direction = normalize(direction * step.cos() + tangent * step.sin())
    return direction


def fit_concentration(dim: int, mean_log_depth: Tensor) -> Tensor:
    r"""Solve $\psi(a+b)-\psi(a) = s$ for κ, by Newton's method on the reciprocals of both sides.

    Args:
        dim: Dimension d ≥ 2.
        mean_log_depth: $s = \log 2 - \mathbb{E}\log(1+\mu^\top z) > 0$, float64.

    Returns:
        κ, and 0 where s is that of the uniform distribution or larger; same shape.
    """
    b = (dim - 1) / 2
    concentration = (b / mean_log_depth - b).clamp_min(0)
    for _ in range(_CONCENTRATION_STEPS):
        a = concentration + b
        depth = -polygamma_difference(0, a, b, lower=b)
        slope = polygamma_difference(1, a, b, lower=b) / depth.square()
        concentration = (concentration + (1 / mean_log_depth - 1 / depth) / slope).clamp_min(0)
    return concentration


def fit_power_spherical(samples: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean direction `(*batch, dim)` and concentration `(*batch)` of largest likelihood, from float64 weights."""
    mean_direction = fit_mean_direction(samples, weights.to(samples.dtype))
    gap = half_squared_chord(samples, mean_direction).double()
    floor = torch.finfo(samples.dtype).eps
    mean_log_depth = -(weights * (-gap / 2).clamp_min(floor - 1).log1p()).sum(0)
    # Samples that coincide have no finite best κ. Below eps² their spread is the rounding of their numbers.
    return mean_direction, fit_concentration(samples.size(-1), mean_log_depth.clamp_min(floor**2))
