"""The degradations at rising severities that an uncertainty should follow.

They judge, and are kept apart from what a training may show: the defects among its views (`augmentations.defects`, off
by default) are drawn from the ranges of its recipe, the severities here are fixed. Where defects are on, noise,
occlusion and down-scaling are no longer foreign to the network, but the last levels here still go beyond the default
ranges there (0.3, half of the area, and a factor of 4): they tell whether κ goes on falling where the training showed
nothing. Covers here have the image's proportions, those there are rectangles; under either lies mid-grey.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.images.degradations import add_noise, blur, crop, downscale, occlude


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
