"""The settings of random views, with the values that SimSiam published; nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from experiments.command_line import bounds

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

HalfTurn = Annotated[float, bounds.Bound(0, 0.5, "in [0, 0.5]")]

BLUR_REACH = 4.0
"""Standard deviations at which the blur's kernel ends: beyond lie 6e-5 of a Gaussian, at most 1/60 of a grey level."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(bounds.Bounded):
    """What is random in a view, whatever its size and the area of its crop; the defaults are SimSiam's.

    Attributes:
        crop_ratio: Smallest and largest ratio of width to height of a crop.
        brightness: Largest relative change of brightness: the factor is uniform on [max(0, 1 − b), 1 + b].
        contrast: Largest relative change of contrast, likewise.
        saturation: Largest relative change of saturation, likewise.
        hue: Largest shift of hue, in turns, at most 0.5.
        jitter_probability: Probability of the four changes above, which come in random order.
        grey_probability: Probability of a view without colour.
        blur_probability: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels of the view.
        flip_probability: Probability of a horizontal flip.
        downscale_probability: Probability that a view is made smaller and enlarged again, both with antialiasing.
            SimSiam has neither this nor noise nor occlusion; with them some views say less than others, and there is
            more for κ to learn.
        downscale_factor: Smallest and largest factor by which it is made smaller, at least 1; uniform in between. Sides
            are rounded to whole pixels.
        noise_probability: Probability of Gaussian noise, independent in every pixel and channel.
        noise_std: Smallest and largest standard deviation of the noise, which is added to values in [0, 1] and clipped.
        occlusion_probability: Probability of a cover: a rectangle of mid-grey, no side more than twice the other.
        occlusion_scale: Smallest and largest fraction of a view's area that is covered; uniform in between.

    Raises:
        ValueError: If a value lies outside its range.
    """

    crop_ratio: bounds.PositiveRange = (3 / 4, 4 / 3)
    brightness: bounds.NotNegative = 0.4
    contrast: bounds.NotNegative = 0.4
    saturation: bounds.NotNegative = 0.4
    hue: HalfTurn = 0.1
    jitter_probability: bounds.Fraction = 0.8
    grey_probability: bounds.Fraction = 0.2
    blur_probability: bounds.Fraction = 0.5
    blur_sigma: bounds.PositiveRange = (0.1, 2.0)
    flip_probability: bounds.Fraction = 0.5
    downscale_probability: bounds.Fraction = 0.0
    downscale_factor: bounds.RangeFromOne = (1.5, 4.0)
    noise_probability: bounds.Fraction = 0.0
    noise_std: bounds.NotNegativeRange = (0.05, 0.3)
    occlusion_probability: bounds.Fraction = 0.0
    occlusion_scale: bounds.FractionRange = (0.1, 0.5)

    @property
    def loses_detail(self) -> bool:
        """Whether some views lose detail; otherwise that is neither drawn nor computed."""
        return self.downscale_probability > 0

    @property
    def has_defects(self) -> bool:
        """Whether some views lose detail, or get noise or a cover; otherwise none is drawn nor computed."""
        return self.loses_detail or self.noise_probability > 0 or self.occlusion_probability > 0


@dataclass(frozen=True)
class ViewRecipe(Augmentation):
    """How a random view of an image is made; the default values are those of X. Chen and K. He (arXiv:2011.10566v1, A).

    In this order: a random crop, resized with antialiasing; colour jitter, its four operations in random order; grey;
    Gaussian blur; horizontal flip; the defects, lost detail, noise and a grey cover, which SimSiam does not have and
    which are off by default; normalisation. All but the defects follow torchvision's transform of that name. On images
    of one channel, hue, saturation and grey change nothing, and `mean` and `std` have one entry.

    Args:
        size: Height and width of a view, in pixels.
        crop_scale: Smallest and largest area of the crop, as fractions of the image's.
        mean: Of each channel, subtracted from values in [0, 1].
        std: Of each channel, by which they are then divided.
        **augmentation: As in `Augmentation`.

    Raises:
        ValueError: If a value lies outside its range.

    Example:
        >>> recipe = ViewRecipe(size=128)
        >>> recipe.channels, recipe.blur_kernel_size
        (3, 17)
        >>> ViewRecipe(size=8, mean=(0.5,), std=(0.25,)).blur_kernel_size  # as far as a reflection at the border goes
        15
    """

    size: bounds.Count
    crop_scale: bounds.PositiveFractionRange = (0.2, 1.0)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def _check(self) -> None:
        if len(self.mean) not in {1, 3} or len(self.std) != len(self.mean):
            raise ValueError(f"mean and std must have one entry a channel, of 1 or 3, got {self.mean} and {self.std}")
        self.require("mean", lambda mean: all(map(math.isfinite, mean)), "finite")
        self.require("std", lambda std: all(0 < value < math.inf for value in std), "positive and finite")

    @property
    def channels(self) -> int:
        """Channels of the images that the recipe is for."""
        return len(self.mean)

    @property
    def blur_kernel_size(self) -> int:
        """Odd number of pixels along each axis of the blur's kernel: 17 for the published recipe.

        SimSiam blurs with Pillow, whose kernel has no end to speak of. torchvision's has a fixed odd size; here it
        reaches `BLUR_REACH` times the largest standard deviation to each side. Like the standard deviation itself, it
        does not depend on the size of the view, except that it ends where the reflected border does, after size − 1
        pixels.
        """
        return 2 * min(math.ceil(BLUR_REACH * self.blur_sigma[1]), self.size - 1) + 1
