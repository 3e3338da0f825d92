"""The settings of random views, with the values that SimSiam published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BLUR_REACH = 4.0
"""Standard deviations at which the blur's kernel ends: beyond lie 6e-5 of a Gaussian, at most 1/60 of a grey level."""


@dataclass(frozen=True)
class ViewRecipe:
    """How a random view of an image is made; the default values are those of X. Chen and K. He (arXiv:2011.10566v1, A).

    In this order: a random crop, resized with antialiasing; colour jitter, its four operations in random order; grey;
    Gaussian blur; horizontal flip; the defects, lost detail, noise and a grey cover, which SimSiam does not have and
    which are off by default; normalisation. All but the defects follow torchvision's transform of that name. On images
    of one channel, hue, saturation and grey change nothing, and `mean` and `std` have one entry.

    Args:
        size: Height and width of a view, in pixels.
        crop_scale: Smallest and largest area of the crop, as fractions of the image's.
        crop_ratio: Smallest and largest ratio of the crop's width to its height.
        brightness: The factor is uniform on [max(0, 1 − brightness), 1 + brightness].
        contrast: As brightness.
        saturation: As brightness.
        hue: The shift is uniform on [−hue, hue], as a fraction of the colour circle; at most 0.5.
        jitter_probability: Of brightness, contrast, saturation and hue together.
        grey_probability: Of losing the colours.
        blur_probability: Of the blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels of the view.
        flip_probability: Of the flip.
        downscale_probability: Of lost detail: the view is made smaller by a factor and enlarged again, both with
            antialiasing.
        downscale_factor: Smallest and largest factor, at least 1; uniform in between. Sides are rounded to whole
            pixels.
        noise_probability: Of noise.
        noise_std: Smallest and largest standard deviation of the noise, which is Gaussian, independent in every pixel
            and channel and added to values in [0, 1], then clipped to these; uniform in between.
        occlusion_probability: Of a cover: a rectangle of mid-grey, no side more than twice the other.
        occlusion_scale: Smallest and largest fraction of the view's area that is covered; uniform in between.
        mean: Of each channel, subtracted from values in [0, 1].
        std: Of each channel, by which they are then divided.

    Raises:
        ValueError: If a value lies outside its range.

    Example:
        >>> recipe = ViewRecipe(size=128)
        >>> recipe.channels, recipe.blur_kernel_size
        (3, 17)
        >>> ViewRecipe(size=8, mean=(0.5,), std=(0.25,)).blur_kernel_size  # as far as a reflection at the border goes
        15
    """

    size: int
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    flip_probability: float = 0.5
    downscale_probability: float = 0.0
    downscale_factor: tuple[float, float] = (1.5, 4.0)
    noise_probability: float = 0.0
    noise_std: tuple[float, float] = (0.05, 0.3)
    occlusion_probability: float = 0.0
    occlusion_scale: tuple[float, float] = (0.1, 0.5)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        _check_range("crop_scale", self.crop_scale, at_most=1.0)
        _check_range("crop_ratio", self.crop_ratio)
        _check_range("blur_sigma", self.blur_sigma)
        _check_range("downscale_factor", self.downscale_factor)
        if self.downscale_factor[0] < 1:
            raise ValueError(f"downscale_factor must be at least 1, got {tuple(self.downscale_factor)}")
        _check_range("noise_std", self.noise_std, from_zero=True)
        _check_range("occlusion_scale", self.occlusion_scale, at_most=1.0, from_zero=True)
        for name, largest in (("brightness", math.inf), ("contrast", math.inf), ("saturation", math.inf), ("hue", 0.5)):
            value = getattr(self, name)
            if not (0 <= value <= largest and math.isfinite(value)):
                bound = "finite and at least 0" if largest == math.inf else f"in [0, {largest}]"
                raise ValueError(f"{name} must be {bound}, got {value}")
        for change in ("jitter", "grey", "blur", "flip", "downscale", "noise", "occlusion"):
            name = f"{change}_probability"
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if len(self.mean) not in {1, 3} or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean and std must have one entry for each of 1 or 3 channels, got {self.mean} and {self.std}"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std must be positive and finite, got {self.std}")

    @property
    def channels(self) -> int:
        """Channels of the images that the recipe is for."""
        return len(self.mean)

    @property
    def has_defects(self) -> bool:
        """Whether some views lose detail, or get noise or a cover; otherwise none is drawn nor computed."""
        return self.loses_detail or self.noise_probability > 0 or self.occlusion_probability > 0

    @property
    def loses_detail(self) -> bool:
        """Whether some views lose detail; otherwise that is neither drawn nor computed."""
        return self.downscale_probability > 0

    @property
    def blur_kernel_size(self) -> int:
        """Odd number of pixels along each axis of the blur's kernel: 17 for the published recipe.

        SimSiam blurs with Pillow, whose kernel has no end to speak of. torchvision's has a fixed odd size; here it
        reaches `BLUR_REACH` times the largest standard deviation to each side. Like the standard deviation itself, it
        does not depend on the size of the view, except that it ends where the reflected border does, after size − 1
        pixels.
        """
        return 2 * min(math.ceil(BLUR_REACH * self.blur_sigma[1]), self.size - 1) + 1


def _check_range(name: str, value: Sequence[float], at_most: float = math.inf, *, from_zero: bool = False) -> None:
    smallest_allowed = len(value) == 2 and (value[0] > 0 or (from_zero and value[0] == 0))
    if not (smallest_allowed and value[0] <= value[1] <= at_most and math.isfinite(value[1])):
        bound = "finite" if at_most == math.inf else f"at most {at_most}"
        sign = "at least 0" if from_zero else "positive"
        raise ValueError(f"{name} must be (smallest, largest), {sign} and {bound}, got {tuple(value)}")
