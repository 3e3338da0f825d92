"""Lost detail, noise and a grey cover, the defects that make some views of an image less informative than others.

They come last, in this order, after the colours and before the normalisation, on numbers in [0, 1]. SimSiam's recipe
has none of them.

Detail is lost by making the view smaller and enlarging it again, both by antialiased linear interpolation: along each
axis one matrix, which is a product of two.

Noise is a function of a key and of the pixel, not a stream of numbers: so the parameters of a view stay a few numbers,
no image waits for another, and a view is the same on every device, up to the rounding of one function. Key and pixel
are mixed to 32 bits as hash functions do it, by shifts, exclusive ors and odd multipliers; the upper 24 of them, taken
for a number in (0, 1), give the quantile of a normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.images.augmentations.recipe import ViewRecipe

DEFECT_DRAWS = 9
"""Uniform numbers that decide noise and cover of one view."""

DETAIL_DRAWS = 2
"""Further ones that decide how much detail is lost, drawn only where the recipe asks for it."""

COVER = 0.5
"""Mid-grey: neither background nor foreground of common images, so that a cover can be seen wherever it falls."""

MOST_ELONGATED = 2.0
"""Largest ratio of a cover's sides."""

_WORD = 0xFFFFFFFF
_HALF_WORD = 1 << 16


class Defects(NamedTuple):
    """The parameters of the defects of one view of each image.

    Args:
        noise: Whether there is noise, shape `(images,)`.
        noise_std: Its standard deviation, shape `(images,)`.
        noise_key: A whole number from 0 to 2³² − 1 that fixes the pattern, int64, shape `(images,)`.
        occlusion: Whether a part is covered, shape `(images,)`.
        cover: That part in whole pixels of the view, `(top, left, height, width)`, int64, shape `(images, 4)`.
        downscale: Whether detail is lost, shape `(images,)`.
        pixels: Height and width of the view in between, int64, shape `(images,)`.
    """

    noise: Tensor
    noise_std: Tensor
    noise_key: Tensor
    occlusion: Tensor
    cover: Tensor
    downscale: Tensor
    pixels: Tensor


def defects_from_draws(recipe: ViewRecipe, draws: Tensor) -> Defects:
    """Turn independent uniform numbers into defects.

    The covered fraction of the area is uniform on `recipe.occlusion_scale`. Of a cover's width to its height, the
    logarithm of the ratio is uniform where both the cover fits into the view and no side is more than
    `MOST_ELONGATED` times the other. Its sides are rounded to whole pixels, and each place inside the view is
    equally likely. Where detail is lost, sides are divided by a factor uniform on `recipe.downscale_factor`, and
    rounded too.

    Args:
        recipe: Ranges and probabilities.
        draws: Uniform on [0, 1), float32, shape `(images, 9)`, or `(images, 11)` if the recipe loses detail.
    """
    noise, std, high, low, occlusion, area, ratio, *place = draws[:, :DEFECT_DRAWS].unbind(1)
    fraction = uniform(area, recipe.occlusion_scale)
    # With both sides at most the view's, fraction <= ratio <= 1 / fraction.
    widest = fraction.clamp_min(1 / MOST_ELONGATED).reciprocal()
    shape = widest ** (2 * ratio - 1)
    sides = torch.stack([(fraction / shape).sqrt(), (fraction * shape).sqrt()], dim=1)
    sides = (sides * recipe.size).round().clamp_max(recipe.size)
    start = (torch.stack(place, dim=1) * (recipe.size - sides + 1)).floor()
    if recipe.loses_detail:
        chance, factor = draws[:, DEFECT_DRAWS:].unbind(1)
    else:
        chance, factor = torch.ones_like(draws[:, :2]).unbind(1)
    return Defects(
        noise=noise < recipe.noise_probability,
        noise_std=uniform(std, recipe.noise_std),
        noise_key=(high * _HALF_WORD).long() * _HALF_WORD + (low * _HALF_WORD).long(),
        occlusion=occlusion < recipe.occlusion_probability,
        cover=torch.cat([start, sides], dim=1).long(),
        downscale=chance < recipe.downscale_probability,
        pixels=(recipe.size / uniform(factor, recipe.downscale_factor)).round().clamp_min(1).long(),
    )


def lose_detail(channels: Sequence[Tensor], defects: Defects) -> Sequence[Tensor]:
    """Make views smaller, antialiased, and enlarge them to their size again, where there is detail to be lost.

    Args:
        channels: Values in [0, 1], of shape `(images, size, size)` each.
        defects: Of each image.

    Returns:
        The same shapes. An image that loses nothing keeps its bits.
    """
    matrix = _coarsening_matrix(defects.pixels, channels[0].size(-1))
    where = defects.downscale[:, None, None]
    # Weights add to 1 up to rounding, so that white may come out a little whiter.
    coarse = [torch.bmm(torch.bmm(matrix, channel), matrix.mT).clamp(0, 1) for channel in channels]
    return [torch.where(where, new, old) for new, old in zip(coarse, channels, strict=True)]


def add_defects(channels: Sequence[Tensor], defects: Defects, *, loses_detail: bool) -> Sequence[Tensor]:
    """Lose detail where it is lost, add noise where there is some, clip to [0, 1], and cover what is covered with grey.

    Args:
        channels: Values in [0, 1], of shape `(images, size, size)` each.
        defects: Of each image.
        loses_detail: Whether any may lose detail; otherwise that is not computed.

    Returns:
        The same shapes. An image without defects keeps its bits.
    """
    if loses_detail:
        channels = lose_detail(channels, defects)
    size = channels[0].size(-1)
    covered = _inside(defects.cover, size) & defects.occlusion[:, None, None]
    result = []
    for channel, noise in zip(channels, noise_pattern(defects.noise_key, len(channels), size).unbind(1), strict=True):
        noisy = torch.addcmul(channel, defects.noise_std[:, None, None], noise).clamp(0, 1)
        result.append(torch.where(defects.noise[:, None, None], noisy, channel).masked_fill(covered, COVER))
    return result


def noise_pattern(key: Tensor, channels: int, size: int) -> Tensor:
    """Standard normal numbers for every pixel, the same for the same key.

    Args:
        key: Whole numbers from 0 to 2³² − 1, shape `(images,)`.
        channels: Number of channels.
        size: Height and width.

    Returns:
        Float32, shape `(images, channels, size, size)`, between −5.4 and 5.4.

    Example:
        >>> pattern = noise_pattern(torch.tensor([7, 8]), 3, 64)
        >>> abs(pattern.mean().item()) < 0.01, round(pattern.std().item(), 2)
        (True, 1.0)
    """
    pixel = torch.arange(channels * size * size, device=key.device).view(channels, size, size)
    bits = _mixed(_mixed(pixel) ^ _mixed(key)[:, None, None, None]) >> 8
    # Odd multiples of 2^-24 in (-1, 1): exact in float32, symmetric, and never an end, where the quantile is infinite.
    centred = (2 * bits + 1 - (1 << 24)).float() * 2.0**-24
    return torch.erfinv(centred) * math.sqrt(2)


def _mixed(word: Tensor) -> Tensor:
    """A permutation of the numbers of 32 bits after which neighbours have nothing in common.

    They are kept in 64 bits; the multipliers are less than 2³⁰, so that no product leaves those.
    """
    word = word ^ (word >> 15)
    word = (word * 0x2C1B3C6D) & _WORD
    word = word ^ (word >> 12)
    word = (word * 0x297A2D39) & _WORD
    return word ^ (word >> 15)


def _coarsening_matrix(pixels: Tensor, size: int) -> Tensor:
    """Weights `(images, size, size)` of the pixels of a line in those of the line, made smaller and enlarged again.

    Either step has the triangular filter of `taps.resampling_taps`; the line in between has `size` places here, those
    from `pixels` on being empty, so that no shape depends on a number.
    """
    place = torch.arange(size, device=pixels.device) + 0.5
    scale = size / pixels.float()[:, None, None]
    between = place < pixels[:, None]
    down = (1 - (place - scale * place[:, None]).abs() / scale).clamp_min(0) * between[:, :, None]
    up = (1 - (place - place[:, None] / scale).abs()).clamp_min(0) * between[:, None]
    # Rows of places that are empty have no weights to divide by.
    down = down / down.sum(2, keepdim=True).clamp_min(torch.finfo(torch.float32).eps)
    return torch.bmm(up / up.sum(2, keepdim=True), down)


def _inside(box: Tensor, size: int) -> Tensor:
    """Mark the pixels of a box for each image, shape `(images, size, size)`."""
    pixel = torch.arange(size, device=box.device)
    start, length = box[:, :2, None], box[:, 2:, None]
    rows, columns = ((pixel >= start) & (pixel < start + length)).unbind(1)
    return rows[:, :, None] & columns[:, None, :]


def uniform(draw: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Numbers uniform on [0, 1) moved to another range."""
    return bounds[0] + (bounds[1] - bounds[0]) * draw
