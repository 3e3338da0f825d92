"""Images whose ambiguity is known because it was made: superpositions of two images of different classes.

With weight w of the second image, 0 ≤ w ≤ ½, the first is what the image shows, less clearly the larger w is; at ½ no
one could say which of the two. The ambiguity is 2w. Two things besides ambiguity change with w, and both are dealt
with. A mean of two images has less contrast than either: it is restored. And superpositions are unlike any image that
was trained on: as a control the same is done with two images of one class, whose superposition is as strange, but
shows one thing only. An uncertainty that grows as much for the control has noticed the strangeness, not the ambiguity.
"""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of the second image; twice that is the ambiguity."""


def superpose(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Mix pairs of images, with the contrast (standard deviation over pixels) that the two have on average.

    Args:
        first: Values in [0, 1], shape `(images, channels, height, width)`.
        second: The same shape.
        weight: Of the second, in [0, 1].

    Returns:
        Values in [0, 1]; where restoring the contrast would leave that range, it is clipped.

    Raises:
        ValueError: If the shapes differ or `weight` is outside its range.

    Example:
        >>> left, right = torch.tensor([[[[0.2, 0.8]]]]), torch.tensor([[[[0.3, 0.5]]]])
        >>> superpose(left, right, 0.5)
        tensor([[[[0.2500, 0.6500]]]])
    """
    if first.shape != second.shape or first.dim() != 4:
        raise ValueError(
            "first and second must have one shape (images, channels, height, width), got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], got {weight}")
    mixed = (1 - weight) * first + weight * second
    wanted = (1 - weight) * _contrast(first) + weight * _contrast(second)
    centre = mixed.mean((1, 2, 3), keepdim=True)
    # Two images may cancel, so that there is no contrast to restore.
    factor = wanted / _contrast(mixed).clamp_min(torch.finfo(mixed.dtype).eps)
    return (centre + (mixed - centre) * factor).clamp(0, 1)


def partners(labels: Tensor, generator: torch.Generator, *, same_class: bool) -> Tensor:
    """Draw another image for each: of another class, or of the same one, each being equally likely.

    Args:
        labels: Shape `(images,)`.
        generator: Source of randomness, on the CPU.
        same_class: Whether the partner shows the same.

    Returns:
        Indices, shape `(images,)`; −1 where there is no such image.

    Example:
        >>> partners(torch.tensor([0, 0, 1]), torch.Generator().manual_seed(0), same_class=True)
        tensor([ 1,  0, -1])
    """
    labels = labels.cpu()
    everyone = torch.arange(len(labels))
    chosen = torch.full_like(everyone, -1)
    draw = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    for label in labels.unique().tolist():
        members, others = everyone[labels == label], everyone[labels != label]
        if same_class and len(members) > 1:
            # A step of 1 … n − 1 around the circle of the class never ends where it began.
            step = 1 + (draw[members] * (len(members) - 1)).long()
            chosen[members] = members[(torch.arange(len(members)) + step) % len(members)]
        elif not same_class and len(others):
            chosen[members] = others[(draw[members] * len(others)).long()]
    return chosen


def _contrast(images: Tensor) -> Tensor:
    return images.std((1, 2, 3), correction=0, keepdim=True)
