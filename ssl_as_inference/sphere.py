"""Geometry of the unit sphere S^{d−1} in R^d: its area, unit vectors, distances that keep their digits, tangents."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import OwnDerivatives, sum_to
from ssl_as_inference.precision import result_dtype

_MANY = 2**20  # numbers, whose difference the operating system would have to provide new memory for
_PIECE = 2**17  # numbers, that a processor's cache holds
_LONG = 64  # dimension from which on a normal vector is next to never parallel to a given one


def checked_dim(dim: int, least: int = 2) -> int:
    """The dimension as a plain integer.

    Args:
        dim: Dimension of the space around the sphere; NumPy's integers are taken, and `torch.compile`'s specialised.
        least: Least dimension that is allowed.

    Raises:
        ValueError: If it is not an integer or is too small.
    """
    try:
        index = operator.index(dim)
    except TypeError:
        index = least - 1
    if index < least:
        raise ValueError(f"dim must be an integer >= {least}, got {dim}")
    return index


def log_surface_area(dim: int) -> float:
    r"""Logarithm of the area of the unit sphere in R^dim, $\log\{2\pi^{d/2}/\Gamma(d/2)\}$.

    Args:
        dim: Dimension d ≥ 1 of the surrounding space; the sphere itself has dimension d − 1.

    Raises:
        ValueError: If dim is not an integer ≥ 1.

    Example:
        >>> round(math.exp(log_surface_area(3)) / math.pi, 12)  # 4π in space
        4.0
    """
    dim = checked_dim(dim, 1)
    return math.log(2.0) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def _unit_and_length(vector: Tensor) -> tuple[Tensor, Tensor]:
    """The unit vector and the length; for zero, which has no direction, zero and an infinite one: no derivative."""
    limits = torch.finfo(vector.dtype)
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    # Where the squares of its numbers leave the range of the dtype, a vector is first divided by the largest of them.
    sound = (length > (limits.tiny / limits.eps) ** 0.5) & (length < limits.max)
    if is_plain_on_cpu(sound) and bool(sound.all()):
        return vector / length, length
    largest = vector.detach().abs().amax(-1, keepdim=True) if vector.size(-1) else length.detach()
    scale = torch.where(sound | (largest == 0) | ~largest.isfinite(), 1.0, largest)
    scaled = vector / scale
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    length = torch.where(length == 0, torch.inf, length)
    return scaled / length, length * scale


class _Normalized(OwnDerivatives):
    """The unit vector and the length it was divided by; backward stores one vector, torch's `normalize` seven."""

    event_dims = (1,)

    @staticmethod
    def value(vector: Tensor) -> tuple[Tensor, Tensor]:
        return _unit_and_length(vector)

    @classmethod
    def keep(cls, tensors: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        del tensors
        return outputs

    @staticmethod
    def _across(change: Tensor, unit: Tensor, length: Tensor) -> Tensor:
        along = (change * unit).sum(-1, keepdim=True)
        return torch.addcmul(change, along, unit, value=-1) / length

    @classmethod
    def pull(cls, grads: Any, needed: Any, unit: Tensor, length: Tensor) -> tuple[Tensor | None]:
        del needed
        in_unit, in_length = grads
        pulled = None if in_unit is None else cls._across(in_unit, unit, length)
        if in_length is not None:
            pulled = in_length * unit if pulled is None else torch.addcmul(pulled, in_length, unit)
        return (pulled,)

    @classmethod
    def push(cls, tangents: Any, unit: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        (vector,) = tangents
        return cls._across(vector, unit, length), (vector * unit).sum(-1, keepdim=True)


def normalize(vector: Tensor) -> Tensor:
    """Project onto the unit sphere, in float32 or better.

    Half precision and integers are raised to float32 first: a cosine in half precision has three digits, and κ
    multiplies its error. Vectors of any other length become unit vectors, however small or large their numbers. Zero
    has no direction: it stays zero, with a derivative of zero, and a validating distribution reports it.

    Args:
        vector: Shape `(*batch, dim)`.

    Returns:
        Unit vectors of the same shape.

    Example:
        >>> normalize(torch.tensor([3, 0, 4]))
        tensor([0.6000, 0.0000, 0.8000])
    """
    unit: Tensor = _Normalized.apply(vector.to(result_dtype(vector)))[0]
    return unit


def is_plain_on_cpu(tensor: Tensor) -> bool:
    """Whether neither a device would have to be waited for nor a tracer be misled before its numbers are used."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu" or type(tensor) is not Tensor:
        return False
    if torch._C._len_torch_dispatch_stack():  # noqa: SLF001  # as when `make_fx` records
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # noqa: SLF001  # as torch's own functions ask


def chord_length_value(x: Tensor, y: Tensor) -> Tensor:
    """The length of x − y, without a derivative."""
    return _length_of(torch.sub, x, y)


def opposite_chord_length_value(x: Tensor, y: Tensor) -> Tensor:
    """The length of x + y, the chord from x to −y, without a derivative."""
    return _length_of(torch.add, x, y)


def _length_of(combine: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
    same = x.shape == y.shape and x.dtype == y.dtype and x.dim() > 1 and x.is_contiguous() and y.is_contiguous()
    if not same or x.numel() < _MANY or not (is_plain_on_cpu(x) and is_plain_on_cpu(y)):
        whole: Tensor = torch.linalg.vector_norm(combine(x, y), dim=-1)
        return whole
    # A large sum is never stored: a CPU spends most of the time for it in the operating system's providing the memory.
    # One piece, which the processor's cache holds, is used again and again.
    left, right, rows = x.flatten(0, -2), y.flatten(0, -2), max(1, _PIECE // x.size(-1))
    piece, length = left.new_empty(rows, x.size(-1)), left.new_empty(len(left))
    for a, b, out in zip(left.split(rows), right.split(rows), length.split(rows), strict=True):
        torch.linalg.vector_norm(combine(a, b, out=piece[: len(a)]), dim=-1, out=out)
    return length.view(x.shape[:-1])


def half_squared_chord_value(x: Tensor, y: Tensor) -> Tensor:
    """`half_squared_chord` for the inside of an autograd function: without a derivative."""
    # Only rounding takes the chord of unit vectors beyond the diameter.
    return (chord_length_value(x, y).square() / 2).clamp(max=2)


def _scaled_difference(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return (x - y) * scale
    # 1·y: so that the difference has every batch dimension of the scale too, and may be scaled in place
    return torch.addcmul(x, torch.ones_like(scale), y, value=-1).mul_(scale)


class _HalfSquaredChord(OwnDerivatives):
    """½‖x−y‖² that keeps nothing but its inputs and whose backward builds one difference."""

    event_dims = (1, 1)

    @staticmethod
    def value(x: Tensor, y: Tensor) -> Tensor:
        return half_squared_chord_value(x, y)

    @classmethod
    def pull(cls, grads: Any, needed: Any, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        grad = grads[0].unsqueeze(-1)
        if not needed[0]:
            return None, sum_to(y.shape, _scaled_difference(y, x, grad))
        pulled = _scaled_difference(x, y, grad)
        return sum_to(x.shape, pulled), sum_to(y.shape, -pulled) if needed[1] else None

    @classmethod
    def push(cls, tangents: Any, x: Tensor, y: Tensor) -> Tensor:
        x_moves, y_moves = (0.0 if tangent is None else tangent for tangent in tangents)
        return ((x - y) * (x_moves - y_moves)).sum(-1)


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


def without_copies(tensor: Tensor, event_dims: int = 0) -> Tensor:
    """Undo `expand`, to length 1, in the batch dimensions: what is shared need not be computed for every element."""
    for axis, stride in enumerate(tensor.stride()[: tensor.dim() - event_dims]):
        if stride == 0 and tensor.size(axis) > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _tangents_in_space(direction: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Two unit tangents at μ in R³ at right angles to each other: Duff et al. (2017), J. Comp. Graph. Tech. 6(1), 1–8.

    As functions of μ they jump at μ₃ = 0 but are smooth on either side, so that the derivative of a draw is right.
    """
    x, y, z = direction.unbind(-1)
    sign = torch.where(z < 0, -1.0, 1.0).to(z.dtype)
    a = -(sign + z).reciprocal()
    b = x * y * a
    return (1 + sign * x * x * a, sign * b, -sign * x), (b, sign + y * y * a, -y)


def _uniform_at_gap_in_space(direction: Tensor, gap: Tensor, sine: Tensor) -> Tensor:
    """By an angle: a third of the random numbers, and no sums over a last axis of three, which are slow."""
    angle = torch.rand(direction.shape[:-1], dtype=gap.dtype, device=gap.device) * (2 * math.pi)
    mean = without_copies(direction, 1)
    level, first, second = 1 - gap, sine * angle.cos(), sine * angle.sin()
    axes = zip(mean.unbind(-1), *_tangents_in_space(mean), strict=True)
    return torch.stack([torch.addcmul(torch.addcmul(level * m, first, u), second, v) for m, u, v in axes], dim=-1)


def uniform_at_gap(direction: Tensor, gap: Tensor) -> Tensor:
    r"""Draw uniformly among the points z of the sphere with $1-\mu^\top z$ = `gap`, differentiably in both arguments.

    With n standard normal and $u = n-(\mu^\top n)\mu$ its part along the tangents,
    $z = (1-w)\mu + \sqrt{w(2-w)}\,u/\lVert u\rVert$; in R³ the direction of u is drawn as an angle. Unlike a
    Householder reflection of a fixed axis this has no direction at which its derivative is singular.

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
    sine = (gap * (2 - gap)).sqrt()
    if direction.size(-1) == 3:
        return _uniform_at_gap_in_space(direction, gap, sine)
    gap, sine = gap.unsqueeze(-1), sine.unsqueeze(-1)
    noise = torch.randn(direction.shape, dtype=direction.dtype, device=direction.device)  # whatever its layout
    along = (noise * direction).sum(-1, keepdim=True)
    if direction.size(-1) < _LONG:
        # u is stored and projected again, which removes the rounding of the first: μ and n may nearly be parallel
        noise = _never_zero(torch.addcmul(noise, -along, direction), along, direction)
        along = (noise * direction).sum(-1, keepdim=True)
        square = torch.linalg.vector_norm(noise, dim=-1, keepdim=True).square() - along.square()
        scale = sine * square.rsqrt()
        return torch.addcmul((1 - gap - scale * along) * direction, scale, noise)
    # For longer vectors |μᵀn| > 0.9 ‖n‖ has a probability below 1e-23: nothing cancels here, and u is never needed.
    # It happens all the same where μ was drawn under the seed that n is drawn under now, and the two are one vector. A
    # push along an axis then gives them a plane; numbers, not vectors, so that it costs next to nothing.
    length = torch.linalg.vector_norm(noise, dim=-1, keepdim=True)
    push = _off_axis(direction) * torch.where(along.abs() > 0.9 * length, length, 0.0)
    along = along + (push * direction[..., :2]).sum(-1, keepdim=True)
    square = length.square() + (push * (push + 2 * noise[..., :2])).sum(-1, keepdim=True) - along.square()
    scale = sine * square.rsqrt()
    draw = torch.addcmul((1 - gap - scale * along) * direction, scale, noise)
    draw[..., :2] += scale * push
    return draw


def _off_axis(direction: Tensor) -> Tensor:
    """(1, 0) or (0, 1): of the first two axes one that is not parallel to μ, shape `(*batch, 2)`."""
    first = direction[..., :1].detach().abs() < 0.7
    return torch.cat([first, ~first], dim=-1).to(direction.dtype)


def _never_zero(tangential: Tensor, along: Tensor, direction: Tensor) -> Tensor:
    """u, or an axis in its place where it is no more than the rounding of μᵀn: n and μ are then the same vector."""
    rounding = 16 * torch.finfo(tangential.dtype).eps * along.abs()
    lost = torch.linalg.vector_norm(tangential.detach(), dim=-1, keepdim=True) <= rounding
    axis = torch.nn.functional.pad(_off_axis(direction), (0, direction.size(-1) - 2))
    along_axis = (axis * direction).sum(-1, keepdim=True)
    return torch.where(lost, torch.addcmul(axis, -along_axis, direction), tangential)
