"""Scikit-learn's handwritten digits: 1,797 real images that need no download, and views of them."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from experiments.command_line import bounds
from experiments.images.degradations import add_noise, occlude
from inference.judging.linear_probe import hold_out

IMAGE_SIZE = 16


@dataclass(frozen=True)
class LabelledImages:
    """Images in [0, 1], shape `(images, channels, height, width)`, and their labels, shape `(images,)`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load() -> tuple[LabelledImages, LabelledImages]:
    """Training and held-out digits, enlarged from 8×8 to 16×16, every class in equal proportion; always the same split.

    The images are from the UCI set "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998), as
    scikit-learn ships them. A quarter of them is held out.
    """
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # the originals count from 0 to 16
    images = interpolate(images, size=IMAGE_SIZE, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(digits.target)
    first, second = (LabelledImages(images[part], labels[part]) for part in hold_out(labels, 0.25, seed=0))
    return first, second


@dataclass(frozen=True)
class DigitViews(bounds.Bounded):
    """Draw a random view of each image: another crop, slant and contrast, and half of the time a defect.

    Every image has parameters of its own. The ranges are SimSiam's in spirit, without what changes a digit's meaning
    (flips) or does not exist in grey images (hue). The two defects, noise and occlusion of random severity, make some
    views say less than others: without them all views are nearly as telling, and there is no uncertainty to learn.

    Args:
        generator: Source of randomness, on the device of the images.
        defects: Probability of each of the two defects.
        max_noise: Largest standard deviation of the noise.
        max_occlusion: Largest covered fraction.
    """

    max_rotation = math.radians(10)
    min_area = 0.7
    max_aspect = 4 / 3
    max_shift = 0.05
    max_contrast = 0.4
    max_brightness = 0.2

    generator: torch.Generator
    _: KW_ONLY
    defects: bounds.Fraction = 0.25
    max_noise: bounds.NotNegative = 0.5
    max_occlusion: bounds.Fraction = 0.4

    def __call__(self, images: Tensor) -> Tensor:
        """One view of each image, same shape, values in [0, 1]."""
        if images.dim() != 4:
            raise ValueError(f"images must have shape (images, channels, height, width), got {tuple(images.shape)}")
        count = len(images)
        grid = affine_grid(self._crops(count), list(images.shape), align_corners=False)
        views = grid_sample(images, grid, align_corners=False)
        contrast = 1 + self.max_contrast * self._symmetric(count)
        brightness = self.max_brightness * self._symmetric(count)
        views = (views - 0.5) * contrast[:, None, None, None] + 0.5 + brightness[:, None, None, None]
        views = add_noise(views.clamp(0, 1), self.max_noise * self._severity(count), self.generator)
        return occlude(views, self.max_occlusion * self._severity(count), self.generator)

    def _crops(self, count: int) -> Tensor:
        """Affine maps from view to image coordinates, shape `(count, 2, 3)`: crop, aspect, rotation and shift."""
        area = self.min_area + (1 - self.min_area) * self._uniform(count)
        aspect = self.max_aspect ** (self._symmetric(count) / 2)
        width, height = area.sqrt() * aspect, area.sqrt() / aspect
        angle = self.max_rotation * self._symmetric(count)
        room_x, room_y = (1 - width).clamp_min(0) + self.max_shift, (1 - height).clamp_min(0) + self.max_shift
        x = torch.stack([angle.cos() * width, -angle.sin() * height, room_x * self._symmetric(count)], dim=-1)
        y = torch.stack([angle.sin() * width, angle.cos() * height, room_y * self._symmetric(count)], dim=-1)
        return torch.stack([x, y], dim=-2)

    def _severity(self, count: int) -> Tensor:
        """Uniform on [0, 1] where the defect occurs, 0 elsewhere."""
        return torch.where(self._uniform(count) < self.defects, self._uniform(count), 0.0)

    def _symmetric(self, count: int) -> Tensor:
        return 2 * self._uniform(count) - 1

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.generator.device)
