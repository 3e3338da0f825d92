"""Colour operations on a batch, every image with factors of its own, as torchvision defines them on numbers in [0, 1].

Images are given as their channels, one or three tensors of shape `(images, height, width)`: so a compiler sees each
channel once, where a tensor of all of them would be cut and joined again at every change of hue.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Channels = Sequence[Tensor]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601, rounded as torchvision rounds them)."""


def jitter(channels: Channels, factors: Tensor, order: Tensor, where: Tensor) -> Channels:
    """Change brightness, contrast, saturation and hue, in an order of its own for each image.

    Three of the four mix the image with something: brightness with black, contrast with its mean grey, saturation with
    its grey. One mixing, with coefficients that say with what, serves whichever of them is due. Every order is then
    found in the fixed sequence of three mixings, the shift of hue, and three mixings: of the four places of an order,
    those before the hue are taken in the first half and those after it in the second; the others mix with nothing.
    So nothing about the orders has to be known to the host, and the compiled program is the same for all of them.

    Args:
        channels: Values in [0, 1].
        factors: As in `ViewParameters`.
        order: As in `ViewParameters`.
        where: Which images to change, shape `(images,)`; on the others the shift by nothing may round.

    Returns:
        Values in [0, 1].
    """
    place = torch.arange(4, device=order.device)
    place_of_hue = ((order == HUE) * place).sum(1, keepdim=True)
    factor = factors.gather(1, order)
    mixes = where[:, None] & (order != HUE)

    def mix_places(channels: Channels, places: range, due: Tensor) -> Channels:
        factor_if_due = torch.where(due & mixes, factor, 1)
        of_mean = torch.where(order == CONTRAST, 1 - factor_if_due, 0)
        of_grey = torch.where(order == SATURATION, 1 - factor_if_due, 0)
        for k in places:
            channels = mix(channels, factor_if_due[:, k], of_mean[:, k], of_grey[:, k])
        return channels

    channels = mix_places(channels, range(3), place < place_of_hue)
    channels = shift_hue(channels, torch.where(where, factors[:, HUE], 0))
    return mix_places(channels, range(1, 4), place > place_of_hue)


def mix(channels: Channels, of_image: Tensor, of_mean: Tensor, of_grey: Tensor) -> Channels:
    """Add multiples of an image, of its mean grey and of its grey, and clamp to [0, 1].

    With a factor f: (f, 0, 0) changes the brightness, (f, 1 − f, 0) the contrast, (f, 0, 1 − f) the saturation, and
    (1, 0, 0) nothing.

    Args:
        channels: Values in [0, 1].
        of_image: Coefficient of each image, shape `(images,)`.
        of_mean: Coefficient of its mean grey, shape `(images,)`.
        of_grey: Coefficient of its grey, shape `(images,)`.
    """
    of_image, of_mean, of_grey = (value[:, None, None] for value in (of_image, of_mean, of_grey))
    dull = grey(channels)
    other = torch.addcmul(of_mean * dull.mean((1, 2), keepdim=True), of_grey, dull)
    return [torch.addcmul(other, of_image, channel).clamp_(0, 1) for channel in channels]


def grey(channels: Channels) -> Tensor:
    """Lightness of each pixel, shape `(images, height, width)`; a single channel is its own."""
    if len(channels) == 1:
        return channels[0]
    red, green, blue = channels
    return (red * GREY_WEIGHTS[0]).add_(green, alpha=GREY_WEIGHTS[1]).add_(blue, alpha=GREY_WEIGHTS[2])


def drop_colours(channels: Channels, where: Tensor) -> Channels:
    """Replace all channels by the grey in those images for which `where`, shape `(images,)`, holds."""
    if len(channels) == 1:
        return channels
    dull = grey(channels)
    return [torch.where(where[:, None, None], dull, channel) for channel in channels]


def shift_hue(channels: Channels, shift: Tensor) -> Channels:
    """Turn the hue of each image by a fraction of the colour circle; a single channel has none.

    With m and M the least and the largest channel, C = M − m and the hue h in [0, 6), a pixel is m + C · clamp(|h − 3|
    − 1, 0, 1), m + C · clamp(2 − |h − 2|, 0, 1), m + C · clamp(2 − |h − 4|, 0, 1). This is the way there and back over
    hue, saturation and value, which torchvision goes, without saturation's division and multiplication by M.

    Args:
        channels: Values in [0, 1].
        shift: In [−0.5, 0.5], shape `(images,)`.

    Returns:
        Values in [0, 1] up to rounding.
    """
    if len(channels) == 1:
        return channels
    red, green, blue = channels
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    # Where there is no chroma, all differences are 0, and so is the product with any finite number.
    per_sextant = chroma.clamp_min(torch.finfo(chroma.dtype).tiny).mul_(6).reciprocal_()
    turn = 1 + shift[:, None, None]  # at least 1/2, so that the sum below is positive and its fraction too
    turn = torch.where(
        red == high,
        torch.addcmul(turn, green - blue, per_sextant),
        torch.where(
            green == high,
            torch.addcmul(turn + 1 / 3, blue - red, per_sextant),
            torch.addcmul(turn + 2 / 3, red - green, per_sextant),
        ),
    )
    hue = turn.frac_().mul_(6)
    # The same three formulas with the constants moved out of the clamp, which saves passes over memory.
    below, above = low - chroma, high + chroma
    return [
        torch.addcmul(below, chroma, (hue - 3).abs_().clamp_(1, 2)),
        torch.addcmul(above, chroma, (hue - 2).abs_().clamp_(1, 2), value=-1),
        torch.addcmul(above, chroma, hue.sub_(4).abs_().clamp_(1, 2), value=-1),
    ]
