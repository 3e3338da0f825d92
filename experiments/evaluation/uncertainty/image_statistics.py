"""Uncertainties that look at pixels alone, with no network: what a learned one has to beat.

Each is a number an image that grows with how much there is to see. As an uncertainty it is taken negatively: an image
with few edges, a small file or one grey level says little. That choice of sign is part of the rival; where a rival lies
below chance, its opposite would lie above it by as much.
"""

from __future__ import annotations

import io
import math

import torch
from PIL import Image
from torch import Tensor

JPEG_QUALITY = 75
_LEVELS = 256


def edge_energy(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, across and down, over channels.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`; one row or column has no difference.

    Returns:
        Shape `(images,)`.

    Example:
        >>> edge_energy(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]]))
        tensor([1., 0.])
    """
    down = (images[:, :, 1:] - images[:, :, :-1]).square().flatten(1)
    across = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().flatten(1)
    return _mean(down) + _mean(across)


def jpeg_bytes(images: Tensor, *, quality: int = JPEG_QUALITY) -> Tensor:
    """Size of each image as a JPEG file, in bytes.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)` with 1 or 3 channels.
        quality: Of the compression.

    Returns:
        Shape `(images,)`, float32, on the CPU.

    Raises:
        ValueError: If there are neither 1 nor 3 channels.

    Example:
        >>> flat, noise = torch.full((1, 1, 64, 64), 0.5), torch.rand(1, 1, 64, 64)
        >>> bool(jpeg_bytes(flat) < jpeg_bytes(noise))
        True
    """
    if images.dim() != 4 or images.size(1) not in {1, 3}:
        raise ValueError(f"images must have shape (images, 1 or 3, height, width), got {tuple(images.shape)}")
    sizes = []
    for pixels in _bytes(images).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
        sizes.append(float(file.tell()))
    return torch.tensor(sizes)


def pixel_entropy(images: Tensor) -> Tensor:
    """Entropy, in bits, of the distribution of an image's grey values over 256 levels.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`; channels are averaged.

    Returns:
        Shape `(images,)`, between 0 and 8.

    Example:
        >>> pixel_entropy(torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]]))
        tensor([2., 0.])
    """
    level = _bytes(images.mean(1)).flatten(1).long()
    share = torch.zeros(len(level), _LEVELS, device=level.device)
    share.scatter_add_(1, level, torch.ones_like(level, dtype=share.dtype))
    share /= level.size(1)
    bits: Tensor = torch.special.entr(share).sum(1) / math.log(2)
    return bits


def _bytes(images: Tensor) -> Tensor:
    return (images * (_LEVELS - 1)).round().to(torch.uint8)


def _mean(values: Tensor) -> Tensor:
    return values.mean(1) if values.size(1) else values.new_zeros(len(values))
