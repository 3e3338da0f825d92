"""That the recipe is the published one, and refuses what makes no view."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from scipy import stats

from experiments.images.augmentations.recipe import ViewRecipe


def test_the_default_recipe_is_the_published_one() -> None:
    recipe = ViewRecipe(size=224)
    assert recipe.crop_scale == (0.2, 1.0)
    assert (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (recipe.jitter_probability, recipe.grey_probability) == (0.8, 0.2)
    assert (recipe.blur_probability, recipe.flip_probability) == (0.5, 0.5)
    assert recipe.blur_sigma == (0.1, 2.0)
    assert not recipe.has_defects


def test_the_blurs_kernel_ends_where_less_than_a_sixtieth_of_a_grey_level_lies_beyond() -> None:
    recipe = ViewRecipe(size=224)
    reach = recipe.blur_kernel_size // 2
    beyond = 2 * stats.norm.sf((reach + 0.5) / recipe.blur_sigma[1])
    assert 255 * beyond < 1 / 60


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (2, 3), (8, 15), (9, 17), (32, 17), (128, 17), (224, 17)])
def test_the_blurs_kernel_is_the_same_for_all_sizes_that_can_reflect_it(size: int, expected: int) -> None:
    assert ViewRecipe(size=size).blur_kernel_size == expected


ERRORS: dict[str, dict[str, Any]] = {
    "size must be >= 1": {"size": 0},
    "crop_scale must be": {"crop_scale": (0.5, 1.5)},
    "crop_ratio must be": {"crop_ratio": (2.0, 1.0)},
    "blur_sigma must be": {"blur_sigma": (0.0, 1.0)},
    "brightness must be": {"brightness": -0.1},
    "contrast must be": {"contrast": math.nan},
    "saturation must be": {"saturation": math.inf},
    "hue must be": {"hue": 0.6},
    "jitter_probability must be in [0, 1]": {"jitter_probability": 1.1},
    "flip_probability must be in [0, 1]": {"flip_probability": math.nan},
    "noise_probability must be in [0, 1]": {"noise_probability": -0.1},
    "occlusion_probability must be in [0, 1]": {"occlusion_probability": 1.1},
    "downscale_probability must be in [0, 1]": {"downscale_probability": 1.1},
    "downscale_factor must be (smallest, largest), at least 1 and finite": {"downscale_factor": (0.0, 2.0)},
    "downscale_factor must be (smallest, largest), at least 1": {"downscale_factor": (0.5, 2.0)},
    "noise_std must be (smallest, largest), at least 0 and finite": {"noise_std": (-0.1, 0.3)},
    "noise_std must be": {"noise_std": (0.3, 0.1)},
    "noise_std must": {"noise_std": (0.1, math.inf)},
    "occlusion_scale must be (smallest, largest), at least 0 and at most 1": {"occlusion_scale": (0.1, 1.5)},
    "occlusion_scale must be": {"occlusion_scale": (0.1, math.nan)},
    "occlusion_scale must": {"occlusion_scale": (0.5,)},
    "mean and std must have one entry": {"mean": (0.5, 0.5), "std": (0.5, 0.5)},
    "mean and std must have": {"mean": (0.5,)},
    "mean must be finite": {"mean": (0.5, math.nan, 0.5)},
    "std must be positive": {"std": (0.5, 0.0, 0.5)},
}


@pytest.mark.parametrize(("message", "change"), ERRORS.items(), ids=ERRORS)
def test_a_recipe_that_makes_no_view_is_refused(message: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ViewRecipe(**{"size": 32, **change})
