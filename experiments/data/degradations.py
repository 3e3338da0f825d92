"""Degradations of known severity, which a predicted concentration should notice.

Both draw their randomness from the given generator, on that generator's device, and take one severity for all images
or one for each. With a generator seeded alike for each severity the degradations are nested: the noise is the same
pattern made stronger, and a larger square covers the smaller one. A comparison of severities then has no other cause.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
    _check_images(images)
    severity = _severity("standard_deviation", standard_deviation, images)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    return (images + severity.to(images)[:, None, None, None] * noise).clamp(0, 1)


def occlude(images: Tensor, fraction: float | Tensor, generator: torch.Generator, *, value: float = 0.5) -> Tensor:
    """Cover a part of each image with a square of constant value at a random position.

    On an image that is not square, the cover has the image's proportions. Its sides are √fraction of the image's,
    rounded to whole pixels, so the covered area is `fraction` up to that rounding; it lies wholly inside the image,
    each position being equally likely. The value is mid-grey by default, which is neither the background nor the
    foreground of common images, so a cover can be seen wherever it falls.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`.
        fraction: Between 0 (nothing) and 1 (everything); a number, or a tensor of shape `(images,)`.
        generator: Source of the positions.
        value: Value of the covered pixels in every channel, in [0, 1].

    Returns:
        Images of the same shape, dtype and device.

    Raises:
        ValueError: If `images` has another shape or range, or `fraction` or `value` lies outside [0, 1].

    Example:
        >>> covered = occlude(torch.zeros(1, 1, 4, 4), 0.25, torch.Generator().manual_seed(0))
        >>> (covered > 0).sum().item()  # 2 × 2 of the 16 pixels
        4
    """
    _check_images(images)
    severity = _severity("fraction", fraction, images)
    if (severity > 1).any():
        raise ValueError(f"fraction must lie in [0, 1], got {severity.max().item()}")
    if not 0 <= value <= 1:
        raise ValueError(f"value must lie in [0, 1], got {value}")
    position = torch.rand(2, len(images), generator=generator, device=generator.device).to(images.device)
    rows = _interval(position[0], severity.sqrt(), images.size(-2))
    columns = _interval(position[1], severity.sqrt(), images.size(-1))
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(covered, value)


def _interval(position: Tensor, relative_length: Tensor, size: int) -> Tensor:
    """Mark, of `size` pixels, an interval of that relative length for each image; shape `(images, size)`."""
    length = (relative_length * size).round()
    # The start is uniform on 0 … size − length. Rounding may carry position × (…) to its excluded upper end.
    start = torch.minimum((position * (size - length + 1)).floor(), size - length)
    pixel = torch.arange(size, device=position.device)
    return (pixel >= start[:, None]) & (pixel < (start + length)[:, None])


def _severity(name: str, severity: float | Tensor, images: Tensor) -> Tensor:
    value = torch.as_tensor(severity, dtype=torch.float32, device=images.device)
    if value.shape not in {torch.Size([]), images.shape[:1]}:
        raise ValueError(
            f"{name} must be a number or a tensor of shape {tuple(images.shape[:1])}, got {tuple(value.shape)}"
        )
    if not (value.isfinite() & (value >= 0)).all():
        raise ValueError(f"{name} must be finite and at least 0, got {value.tolist()}")
    return value.expand(len(images))


def _check_images(images: Tensor) -> None:
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            "images must be floating-point numbers of shape (images, channels, height, width), got "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )
    if images.numel() and not ((images >= 0) & (images <= 1)).all():
        raise ValueError(f"images must have values in [0, 1], got {images.min().item()} … {images.max().item()}")
