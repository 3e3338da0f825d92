"""That the figure of views shows what both paths make, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments.figures import views_figure
from experiments.images.augmentations.recipe import ViewRecipe

RECIPE = ViewRecipe(size=32)
GREY_RECIPE = ViewRecipe(size=32, mean=(0.5,), std=(0.25,))


def photographs() -> list[Image.Image]:
    return [Image.fromarray(image[:160, :200]) for image in load_sample_images().images]


@pytest.mark.parametrize("recipe", [RECIPE, GREY_RECIPE], ids=["colour", "grey"])
def test_the_rows_of_both_paths_show_the_same_views(recipe: ViewRecipe) -> None:
    figure = views_figure(photographs(), recipe, views=4)
    shown = [np.asarray(axes.images[0].get_array(), dtype=float) for axes in figure.axes]
    assert len(shown) == 2 * (2 + 2 * 4)
    for block in (shown[:10], shown[10:]):
        assert block[0].shape[:2] == (160, 200)
        for batched, single in zip(block[2::2], block[3::2], strict=True):
            assert batched.shape == single.shape == ((32, 32, 3) if recipe is RECIPE else (32, 32))
            assert np.abs(batched - single).mean() < 2 / 255
        assert np.abs(block[2] - block[4]).mean() > 0.02  # two views are not the same


def test_the_seed_chooses_the_views() -> None:
    first, same, other = (views_figure(photographs()[:1], RECIPE, views=1, seed=seed) for seed in (0, 0, 1))
    arrays = [np.asarray(figure.axes[2].images[0].get_array()) for figure in (first, same, other)]
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_there_has_to_be_an_image_and_a_view() -> None:
    with pytest.raises(ValueError, match="images must hold at least one"):
        views_figure([], RECIPE)
    with pytest.raises(ValueError, match="views be at least 1"):
        views_figure(photographs(), RECIPE, views=0)
