"""Degradations of known severity, which a predicted concentration should notice.

Each takes one severity for all images or one for each; where there is chance, it comes from the given generator, on
that generator's device. With a generator seeded alike for each severity the degradations are nested: the noise is the
same pattern made stronger, a larger square covers the smaller one, a tighter crop lies inside the wider one. Comparing
severities then has no other cause.

`DEGRADATIONS` are those that an uncertainty should follow, at rising severities. They judge, and are kept apart from
what a training may show: the defects among its views (`augmentations.defects`, off by default) are drawn from the
ranges of its recipe, the severities here are fixed. Where defects are on, noise,
occlusion and down-scaling are no longer foreign to the network, but the last levels here still go beyond the default
ranges there (0.3, half of the area, and a factor of 4): they tell whether κ goes on falling where the training showed
nothing. Covers here have the image's proportions, those there are rectangles; under either lies mid-grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def add_noise(images: Tensor, standard_deviation: float | Tensor, generator: torch.Generator) -> Tensor:
    """Add independent Gaussian noise to every pixel and channel, then clip to [0, 1].

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        standard_deviation: At least 0; a number, or a tensor of shape `(images,)`.
        generator: Source of the noise.

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or the standard deviation is negative or not finite.

    Example:
        >>> grey = torch.full((1, 1, 2, 2), 0.5)
        >>> noisy = add_noise(grey, 0.1, torch.Generator().manual_seed(0))
        >>> [round(value, 2) for value in noisy.flatten().tolist()]
        [0.65, 0.47, 0.28, 0.56]
    """
    severity = _severity("standard_deviation", standard_deviation, images)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return (images + severity.to(images)[:, None, None, None] * noise).clamp(0, 1)


def occlude(images: Tensor, fraction: float | Tensor, generator: torch.Generator) -> Tensor:
    """Cover a part of each image with a mid-grey square at a random position.

    On an image that is not square, the cover has the image's proportions. Its sides are √fraction of the image's,
    rounded to whole pixels, so the covered area is `fraction` up to that rounding; it lies wholly inside the image,
    each position being equally likely. Mid-grey is neither the background nor the foreground of common images, so a
    cover can be seen wherever it falls.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        fraction: Between 0 (nothing) and 1 (everything); a number, or a tensor of shape `(images,)`.
        generator: Source of the positions.

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or `fraction` lies outside [0, 1].

    Example:
        >>> covered = occlude(torch.zeros(1, 1, 4, 4), 0.25, torch.Generator().manual_seed(0))
        >>> (covered > 0).sum().item()  # 2 × 2 of the 16 pixels
        4
    """
    severity = _severity("fraction", fraction, images, at_most=1)
    position = _positions(images, generator)
    rows = _interval(position[0], severity.sqrt(), images.size(-2))
    columns = _interval(position[1], severity.sqrt(), images.size(-1))
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(covered, 0.5)


def blur(images: Tensor, standard_deviation: float | Tensor) -> Tensor:
    """Blur each image with a Gaussian; at its borders the image is continued by its mirror image.

    The Gaussian is sampled at whole pixels, summed over all mirror images and normalised, so that a blur of any width
    is exact: a constant image stays what it is, and a very wide blur leaves the mean.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        standard_deviation: In pixels, at least 0; a number, or a tensor of shape `(images,)`.

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or the standard deviation is negative or not finite.

    Example:
        >>> point = torch.tensor([0.0, 1.0, 0.0]).expand(1, 1, 3, 3)
        >>> [round(value, 3) for value in blur(point, 0.5)[0, 0, 1].tolist()]
        [0.107, 0.787, 0.107]
    """
    severity = _severity("standard_deviation", standard_deviation, images)
    rows, columns = (_gaussian_matrix(severity, size) for size in images.shape[-2:])
    return _apply_along_both(rows, columns, images)


def crop(images: Tensor, removed: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Cut a part out of each image and enlarge it to the image's size.

    Of each side `1 − removed` is kept, rounded to whole pixels and one at least. The part lies at a random position,
    each being equally likely, or in the middle. Enlarging is linear between the pixels that are kept; no other pixel
    has any influence.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        removed: Between 0 (nothing) and 1 (all but a pixel); a number, or a tensor of shape `(images,)`.
        generator: Source of the positions; the middle of the image when not given, as in the URL benchmark
            (arXiv:2307.03810).

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or `removed` lies outside [0, 1].

    Example:
        >>> row = torch.tensor([0.0, 0.2, 0.8, 1.0]).expand(1, 1, 4, 4)
        >>> [round(value, 3) for value in crop(row, 0.5)[0, 0, 0].tolist()]
        [0.2, 0.35, 0.65, 0.8]
    """
    severity = _severity("removed", removed, images, at_most=1)
    position = _positions(images, generator)
    rows = _enlarging_matrix(position[0], 1 - severity, images.size(-2))
    columns = _enlarging_matrix(position[1], 1 - severity, images.size(-1))
    return _apply_along_both(rows, columns, images)


def downscale(images: Tensor, factor: float | Tensor) -> Tensor:
    """Make each image smaller by a factor, antialiased, and enlarge it to its size again.

    What is lost are details finer than `factor` pixels. Sides are rounded to whole pixels, one at least; both steps are
    bilinear, as `torchvision.transforms.functional.resize` does them.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        factor: At least 1 (nothing is lost); a number, or a tensor of shape `(images,)`.

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or `factor` is less than 1 or not finite.

    Example:
        >>> stripes = torch.tensor([0.0, 1.0]).repeat(2).expand(1, 1, 4, 4)
        >>> [round(value, 3) for value in downscale(stripes, 4)[0, 0, 0].tolist()]
        [0.5, 0.5, 0.5, 0.5]
    """
    severity = _severity("factor", factor, images, at_least=1)
    size = images.shape[-2:]
    result = images.clone()
    for one in severity.unique().tolist():
        chosen = severity == one
        smaller = [max(1, round(side / one)) for side in size]
        if smaller != list(size):
            reduced = interpolate(images[chosen], smaller, mode="bilinear", antialias=True)
            result[chosen] = interpolate(reduced, size, mode="bilinear", antialias=True).clamp(0, 1)
    return result


def _gaussian_matrix(standard_deviation: Tensor, size: int) -> Tensor:
    """Weights `(images, size, size)` of the source pixels in each blurred pixel."""
    pixel = torch.arange(size, dtype=torch.float64, device=standard_deviation.device)
    # Beyond seven standard deviations nothing is left in float32. Each period of the mirrored line is 2 · size long.
    periods = math.ceil(7 * float(standard_deviation.max()) / (2 * size)) + 1
    sigma = standard_deviation.double().clamp_min(1e-3)[:, None, None]  # narrower is the pixel itself, exactly
    weights = torch.zeros(len(standard_deviation), size, size, dtype=torch.float64, device=pixel.device)
    for period in range(-periods, periods + 1):
        shifted = pixel + 2 * size * period
        mirrored = 2 * size * period - 1 - pixel
        for source in (shifted, mirrored):
            weights += torch.exp(-0.5 * ((pixel[:, None] - source) / sigma).square())
    return weights / weights.sum(-1, keepdim=True)


def _enlarging_matrix(position: Tensor, relative_length: Tensor, size: int) -> Tensor:
    """Weights `(images, size, size)` of the source pixels in each pixel of an enlarged interval."""
    start, length = _placed(position, relative_length, size, at_least=1)
    pixel = torch.arange(size, dtype=torch.float64, device=position.device)
    inside = (pixel + 0.5) * length[:, None].double() / size - 0.5
    inside = torch.minimum(inside.clamp_min(0), length[:, None].double() - 1)
    source = start[:, None].double() + inside
    return (1 - (source[:, :, None] - pixel).abs()).clamp_min(0)


def _apply_along_both(rows: Tensor, columns: Tensor, images: Tensor) -> Tensor:
    """Multiply each image from both sides, `(images, size, size)` each; rounding does not leave [0, 1]."""
    rows, columns = rows.to(images.dtype)[:, None], columns.to(images.dtype)[:, None]
    return (rows @ images @ columns.transpose(-1, -2)).clamp(0, 1)


def _positions(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Where something lies in each image, in [0, 1] along each axis, shape `(2, images)`; without chance the middle."""
    if generator is None:
        return torch.full((2, len(images)), 0.5, device=images.device)
    return torch.rand(2, len(images), generator=generator, device=generator.device).to(images.device)


def _interval(position: Tensor, relative_length: Tensor, size: int) -> Tensor:
    """Mark, of `size` pixels, an interval of that relative length for each image; shape `(images, size)`."""
    start, length = _placed(position, relative_length, size)
    pixel = torch.arange(size, device=position.device)
    return (pixel >= start[:, None]) & (pixel < (start + length)[:, None])


def _placed(position: Tensor, relative_length: Tensor, size: int, *, at_least: int = 0) -> tuple[Tensor, Tensor]:
    """Start and length, in whole pixels, of an interval of that relative length at a position in [0, 1]."""
    length = (relative_length * size).round().clamp_min(at_least)
    # The start is uniform on 0 … size − length. Rounding may carry position × (…) to its excluded upper end.
    return torch.minimum((position * (size - length + 1)).floor(), size - length), length


def _severity(
    name: str, severity: float | Tensor, images: Tensor, *, at_least: float = 0, at_most: float = math.inf
) -> Tensor:
    """The severity of each image, shape `(images,)`; both are checked."""
    if images.dim() != 4 or not images.is_floating_point():
        expected = "floating-point numbers of shape (images, channels, height, width)"
        raise ValueError(f"images must be {expected}, got {images.dtype} of shape {tuple(images.shape)}")
    if images.numel() and not ((images >= 0) & (images <= 1)).all():
        raise ValueError(f"images must have values in [0, 1], got {images.min().item()} … {images.max().item()}")
    value = torch.as_tensor(severity, dtype=torch.float32, device=images.device)
    if value.shape not in {torch.Size([]), images.shape[:1]}:
        raise ValueError(f"{name} must be a number or of shape {tuple(images.shape[:1])}, got {tuple(value.shape)}")
    if not (value.isfinite() & (value >= at_least)).all():
        raise ValueError(f"{name} must be finite and at least {at_least}, got {value.tolist()}")
    if (value > at_most).any():
        raise ValueError(f"{name} must lie in [{at_least}, {at_most}], got {value.max().item()}")
    return value.expand(len(images))


@dataclass(frozen=True)
class DegradationSeries:
    """One degradation at rising severities, of which the first leaves the image as it is.

    Attributes:
        name: What to call it.
        severities: Rising.
        unit: What a severity is.
        degrade: Images in [0, 1], severity and generator to degraded images.
    """

    name: str
    severities: tuple[float, ...]
    unit: str
    degrade: Callable[[Tensor, float, torch.Generator], Tensor]

    def __call__(self, images: Tensor, level: int, *, seed: int = 0) -> Tensor:
        """Images at one level; every level of a seed has the same chance, so that the levels are nested."""
        return self.degrade(images, self.severities[level], torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.severities)


def _blur(images: Tensor, severity: float, _: torch.Generator) -> Tensor:
    # Relative to the image, so that a level means the same to images of 16 and of 224 pixels.
    return blur(images, severity * min(images.shape[-2:]))


def _downscale(images: Tensor, severity: float, _: torch.Generator) -> Tensor:
    return downscale(images, severity)


# The augmentations of SimSiam (arXiv:2011.10566) blur by up to 2 pixels (at 128 pixels the first level), keep a fifth
# of the area or more (55 % of each side removed at most), and show neither noise nor occlusion nor fewer pixels, unless
# defects are put among the views: then noise up to 0.3, occlusion up to 0.5 and a factor of up to 4, by default.
DEGRADATIONS = (
    DegradationSeries("blur", (0, 1 / 64, 1 / 32, 1 / 16, 3 / 32, 1 / 8), "standard deviation / side", _blur),
    DegradationSeries("noise", (0, 0.05, 0.1, 0.2, 0.4, 0.8), "standard deviation", add_noise),
    DegradationSeries("occlusion", (0, 0.1, 0.2, 0.35, 0.5, 0.7), "covered area", occlude),
    DegradationSeries("crop", (0, 0.15, 0.3, 0.45, 0.6, 0.75), "of each side removed", crop),
    DegradationSeries("down-scaling", (1, 1.5, 2, 3, 4, 8), "factor", _downscale),
)
