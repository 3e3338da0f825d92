"""Geometry of the unit sphere S^{d−1} in R^d: its area, unit vectors, distances that keep their digits, tangents."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_MANY = 2**20  # numbers, whose difference the operating system would have to provide new memory for
_PIECE = 64  # short enough for a plain sum to keep its digits, long enough to be fast


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


def half_squared_chord_value(x: Tensor, y: Tensor) -> Tensor:
    """`half_squared_chord` for the inside of an autograd function: without a derivative."""
    same = x.shape == y.shape and x.dtype == y.dtype and x.size(-1) % _PIECE == 0
    if same and x.numel() >= _MANY and x.device.type == "cpu" and not torch.compiler.is_compiling():
        # cdist of each piece of x with that of y never stores the difference. On a CPU that is up to eight times faster
        # for a large one: most of the time goes into the operating system's providing the memory.
        left, right = x.unflatten(-1, (-1, 1, _PIECE)), y.unflatten(-1, (-1, 1, _PIECE))
        distance = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").flatten(-3)
        squared = distance.square().sum(-1)
    else:
        squared = torch.linalg.vector_norm(x - y, dim=-1).square()
    return (squared / 2).clamp(max=2)  # only rounding takes the chord of unit vectors beyond the diameter


class _HalfSquaredChord(torch.autograd.Function):
    """½‖x−y‖² that keeps nothing but its inputs and whose backward builds one difference."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return half_squared_chord_value(x, y)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        if torch.is_grad_enabled():
            pull = (x - y) * grad
        else:  # 1·y: so that the difference has every batch dimension of grad too, and may be scaled in place
            pull = torch.addcmul(x, torch.ones_like(grad), y, value=-1).mul_(grad)
        return (
            pull.sum_to_size(x.shape) if ctx.needs_input_grad[0] else None,
            -pull.sum_to_size(y.shape) if ctx.needs_input_grad[1] else None,
        )


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
    chord: Tensor = _HalfSquaredChord.apply(x, y)
    return chord


def half_gap_and_height(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    r"""$e = (1-x^\top y)/2$ and $h = (1+x^\top y)/2$ in float64, each to its own relative accuracy.

    The squared chord to the nearer of y and −y gives the smaller of the two, which sum to one.

    Args:
        x: Unit vectors, shape `(*batch, dim)`.
        y: Unit vectors, broadcastable with `x`.

    Returns:
        Two tensors of shape `(*batch,)`, differentiable in x and y.
    """
    ahead = (x.detach() * y.detach()).sum(-1) >= 0
    sign = torch.where(ahead, 1.0, -1.0).to(y.dtype).unsqueeze(-1)
    near = half_squared_chord(x, sign * y).double() / 2
    return torch.where(ahead, near, 1 - near), torch.where(ahead, 1 - near, near)


def uniform_at_gap(direction: Tensor, gap: Tensor) -> Tensor:
    r"""Draw uniformly among the points z of the sphere with $1-\mu^\top z$ = `gap`, differentiably in both arguments.

    With n standard normal and $u = n-(\mu^\top n)\mu$ its part along the tangents,
    $z = (1-w)\mu + \sqrt{w(2-w)}\,u/\lVert u\rVert$. Unlike a Householder reflection of a fixed axis this has no
    direction at which its derivative is singular.

    Args:
        direction: Unit vectors μ, shape `(*batch, dim)` with dim ≥ 2.
        gap: w strictly between 0 and 2, shape `batch`.

    Returns:
        Unit vectors, shape of `direction`.

    Example:
        >>> z = uniform_at_gap(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(0.2))
        >>> z[2]
        tensor(0.8000)
    """
    gap = gap.unsqueeze(-1)
    sine = (gap * (2 - gap)).sqrt()
    noise = torch.randn_like(direction)
    along = (noise * direction).sum(-1, keepdim=True)
    if direction.size(-1) < _PIECE:
        # u is stored and projected again, which removes the rounding of the first: μ and n may nearly be parallel
        noise = torch.addcmul(noise, -along, direction)
        along = (noise * direction).sum(-1, keepdim=True)
    # For longer vectors |μᵀn| > 0.9 ‖n‖ has a probability below 1e-23: nothing cancels here, and u is never needed.
    square = torch.linalg.vector_norm(noise, dim=-1, keepdim=True).square() - along.square()
    scale = sine * square.rsqrt()
    return torch.addcmul((1 - gap - scale * along) * direction, scale, noise)
