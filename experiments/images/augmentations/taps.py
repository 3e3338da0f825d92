"""Linear filters whose weights differ from image to image: resampling from an interval, and Gaussian blur.

Along one axis, every output pixel is a weighted sum of a few input pixels, its taps. Two functions apply them, with
equal results: on a processor `sum_taps` as sums over the taps, which is three times as fast there, and elsewhere
`multiply_taps` as one batched product with the matrix of all weights, most of them 0, which suits a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class Taps(NamedTuple):
    """Which input pixels make up each output pixel of a line, and with which weights.

    Args:
        source: Input pixels, int64, shape `(images, outputs, taps)`; one may occur more than once.
        weight: Shape `(images, outputs, taps)`.
    """

    source: Tensor
    weight: Tensor


def multiplies(device: torch.device) -> bool:
    """Whether taps are applied as matrix products on a device, or as sums."""
    return device.type != "cpu"


def resampling_taps(start: Tensor, length: Tensor, scale: Tensor, position: Tensor, limit: Tensor, inputs: int) -> Taps:
    """Antialiased linear interpolation of an interval of a line.

    The output pixel at position p of the resampled interval has its centre at c = (p + 1/2) · scale. Input pixel j of
    the interval has the weight max(0, 1 − |j + 1/2 − c| / max(scale, 1)), divided by the sum over the interval. This is
    the filter of Pillow's BILINEAR, and of PyTorch's `interpolate` with antialiasing.

    Args:
        start: First input pixel of the interval, shape `(images,)`.
        length: Number of input pixels of the interval, shape `(images,)`.
        scale: Input pixels for one output pixel, shape `(images,)`.
        position: Wanted pixels of the resampled interval, from 0 on, shape `(images or 1, outputs)`.
        limit: Number of input pixels that belong to the image, shape `(images,)`; none beyond is read.
        inputs: Number of input pixels of the line, at least every `limit`; it decides the number of taps.
    """
    taps = math.ceil(2 * max(inputs / position.size(-1), 1))
    start, length, limit = (value[:, None, None] for value in (start, length, limit))
    scale = scale.float()[:, None]
    support = scale.clamp_min(1)
    centre = (position + 0.5) * scale
    first = (centre - support - 0.5).floor() + 1  # the first whose weight is positive
    pixel = first[:, :, None] + torch.arange(taps, device=centre.device)
    weight = 1 - (pixel + 0.5 - centre[:, :, None]).abs() / support[:, :, None]
    weight = weight.clamp_min(0) * ((pixel >= 0) & (pixel < length))
    weight = weight / weight.sum(2, keepdim=True)
    return Taps((pixel.long() + start).clamp_min(0).minimum(limit - 1), weight)


def blur_taps(sigma: Tensor, where: Tensor, kernel_size: int, size: int) -> Taps:
    """Convolution with a truncated Gaussian whose weights add to 1.

    The line is mirrored at its first and last pixel. This is torchvision's `gaussian_blur` along one axis.

    Args:
        sigma: Standard deviations in pixels, positive, shape `(images,)`.
        where: Which images to blur, shape `(images,)`; the others stay exactly as they are.
        kernel_size: Odd, at most 2 · size − 1.
        size: Number of pixels of the line.
    """
    offset = torch.arange(-(kernel_size // 2), kernel_size // 2 + 1, device=sigma.device)
    weight = torch.softmax(-0.5 * (offset / sigma[:, None]).square(), dim=1)
    weight = torch.where(where[:, None], weight, (offset == 0).float())
    pixel = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()
    pixel = (size - 1) - ((size - 1) - pixel).abs()
    return Taps(pixel.expand(len(sigma), -1, -1), weight[:, None].expand(-1, size, -1))


def resample(images: Tensor, vertical: Taps, horizontal: Taps) -> Tensor:
    """Apply taps along both axes of images of whole numbers.

    Args:
        images: uint8, shape `(images, channels, height, width)`.
        vertical: Taps of the lines of `height` pixels.
        horizontal: Taps of the lines of `width` pixels.

    Returns:
        Values in [0, 1], shape `(images, channels, rows, columns)`, in memory as suits `convolve`.
    """
    vertical = Taps(vertical.source, vertical.weight / 255)
    # Rows first, then channels: each row of all channels is one piece of memory, and so is each row of the result.
    lines = images.permute(0, 2, 1, 3).to(torch.float32, memory_format=torch.contiguous_format)
    if multiplies(images.device):
        return multiply_taps_from_right(multiply_taps(lines, vertical), horizontal).transpose(1, 2)
    columns = sum_taps(lines, vertical).transpose(1, 3).contiguous()
    return sum_taps(columns, horizontal).permute(0, 2, 3, 1)


def convolve(channels: Sequence[Tensor], taps: Taps) -> Sequence[Tensor]:
    """Apply the same taps along both axes of square images.

    Args:
        channels: Of shape `(images, size, size)` each.
        taps: Taps of the lines of `size` pixels.
    """
    if multiplies(taps.weight.device):
        lines = torch.stack(tuple(channels), dim=2)
        return multiply_taps_from_right(multiply_taps(lines, taps), taps).unbind(2)
    return [
        sum_taps(sum_taps(channel.transpose(1, 2), taps).transpose(1, 2).contiguous(), taps) for channel in channels
    ]


def sum_taps(lines: Tensor, taps: Taps) -> Tensor:
    """Apply taps to the second axis, shape `(images, inputs, …)` → `(images, outputs, …)`, summing over the taps."""
    count, inputs = lines.shape[:2]
    outputs, each = taps.source.shape[1:]
    first = torch.arange(count, device=lines.device) * inputs
    index = (taps.source + first[:, None, None]).view(count * outputs, each)
    weight = taps.weight.reshape(count * outputs, each)
    # PyTorch's one function for weighted sums of few rows; nothing is embedded here.
    summed = embedding_bag(index, lines.reshape(count * inputs, -1), per_sample_weights=weight, mode="sum")
    return summed.view(count, outputs, *lines.shape[2:])


def multiply_taps(lines: Tensor, taps: Taps) -> Tensor:
    """Apply taps to the second axis, shape `(images, inputs, …)` → `(images, outputs, …)`, as a matrix product."""
    return torch.bmm(_matrix(taps, lines.size(1)), lines.flatten(2)).view(len(lines), -1, *lines.shape[2:])


def multiply_taps_from_right(lines: Tensor, taps: Taps) -> Tensor:
    """Apply taps to the last axis, shape `(images, …, inputs)` → `(images, …, outputs)`, as a matrix product."""
    matrix = _matrix(taps, lines.size(-1)).transpose(1, 2)
    return torch.bmm(lines.flatten(1, -2), matrix).view(*lines.shape[:-1], -1)


def _matrix(taps: Taps, inputs: int) -> Tensor:
    """All weights, shape `(images, outputs, inputs)`."""
    count, outputs, _ = taps.source.shape
    return taps.weight.new_zeros(count, outputs, inputs).scatter_add_(2, taps.source, taps.weight)
