"""That views made one by one are those of a batch: the same for the same parameters, and alike in distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.per_sample import SampleViews
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.randomness import Stream, derived_seed

functional: Any = v2.functional
GREY_LEVEL = 1 / 255


def in_grey_levels(views: Tensor, recipe: ViewRecipe) -> Tensor:
    """Undo the normalisation."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (recipe.mean, recipe.std))
    return (views * std + mean) / GREY_LEVEL


def both_paths(canvas: Any, recipe: ViewRecipe, seed: int) -> tuple[Tensor, Tensor]:
    parameters = draw_parameters(recipe, canvas.sizes, torch.Generator().manual_seed(seed))
    batched = BatchedViews(recipe)(canvas.images, canvas.sizes, parameters)
    make = SampleViews(recipe)
    single = [make.apply(picture, parameters.of(index)) for index, picture in enumerate(canvas.pictures)]
    return in_grey_levels(batched, recipe), in_grey_levels(torch.stack(single), recipe)


def test_without_colour_jitter_the_paths_differ_by_less_than_two_grey_levels(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), ViewRecipe(size=48, jitter_probability=0)
    for seed in range(10):
        batched, single = both_paths(canvas, recipe, seed)
        assert (batched - single).abs().max() < 2


@pytest.mark.parametrize("channels", [1, 3])
def test_with_colour_jitter_the_paths_differ_by_what_pillow_rounds(
    channels: int, make_canvas: Callable[..., Any]
) -> None:
    canvas = make_canvas(channels)
    recipe = ViewRecipe(size=48) if channels == 3 else ViewRecipe(size=48, mean=(0.5,), std=(0.25,))
    errors = torch.cat([(a - b).abs().flatten() for a, b in (both_paths(canvas, recipe, seed) for seed in range(20))])
    # Pillow cuts off the fraction of a grey level in each mixing, which makes the views darker by half a level each
    # time, and knows 256 hues, which moves the middle channel of a pure colour by up to 3 levels.
    assert errors.mean() < (1.3 if channels == 3 else 0.8)
    assert errors.quantile(0.999) < (8 if channels == 3 else 3)
    assert errors.max() < (16 if channels == 3 else 4)


def test_the_paths_agree_in_distribution_on_a_real_image(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe, number = make_canvas(), ViewRecipe(size=16), 800
    make = SampleViews(recipe)
    seeds = [derived_seed(0, Stream.SAMPLE_VIEWS, 0, 0, view) for view in range(number)]
    single = torch.stack([make(canvas.pictures[0], seed) for seed in seeds])
    images, sizes = canvas.images[:1].expand(number, -1, -1, -1), canvas.sizes[:1].expand(number, -1)
    batched = BatchedViews(recipe)(images, sizes, draw_parameters(recipe, sizes, torch.Generator().manual_seed(5)))
    statistics: dict[str, Callable[[Tensor], Tensor]] = {
        "red": lambda views: views[:, 0].mean((1, 2)),
        "blue": lambda views: views[:, 2].mean((1, 2)),
        "contrast": lambda views: views.std((1, 2, 3)),
        "colour": lambda views: views.std(1).mean((1, 2)),
        "left against right": lambda views: (views[..., :8] - views[..., 8:]).mean((1, 2, 3)),
        "upper against lower": lambda views: (views[..., :8, :] - views[..., 8:, :]).mean((1, 2, 3)),
        "sharpness": lambda views: views.diff(dim=3).abs().mean((1, 2, 3)),
    }
    for name, statistic in statistics.items():
        assert stats.ks_2samp(statistic(single).numpy(), statistic(batched).numpy()).pvalue > 1e-3, name


def test_a_view_depends_on_its_seed_alone(make_canvas: Callable[..., Any]) -> None:
    picture, make = make_canvas().pictures[0], SampleViews(ViewRecipe(size=16))
    state = torch.get_rng_state()
    first = make(picture, 7)
    torch.rand(3)
    assert torch.equal(make(picture, 7), first)
    assert not torch.equal(make(picture, 8), first)
    torch.set_rng_state(state)
    make(picture, 7)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1"])
def test_pictures_of_other_modes_are_converted_and_left_alone(mode: str) -> None:
    picture = Image.fromarray(np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)).convert(mode)
    before = picture.tobytes()
    assert SampleViews(ViewRecipe(size=8))(picture, 0).shape == (3, 8, 8)
    assert SampleViews(ViewRecipe(size=8, mean=(0.5,), std=(0.5,)))(picture, 0).shape == (1, 8, 8)
    assert picture.tobytes() == before


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)], ids=str)
def test_a_view_of_an_image_of_one_pixel_or_line_is_finite(size: tuple[int, int]) -> None:
    for seed in range(20):
        view = SampleViews(ViewRecipe(size=8))(Image.new("RGB", size, (10, 200, 30)), seed)
        assert view.isfinite().all()


def test_the_blur_of_one_image_is_torchvisions_on_numbers_with_fractions(make_canvas: Callable[..., Any]) -> None:
    recipe = ViewRecipe(size=48, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    picture = make_canvas().pictures[0]
    still = draw_parameters(recipe, torch.tensor([[200, 200]]), torch.Generator().manual_seed(0)).of(0)
    still = still._replace(box=(5, 9, 120, 90), jitter=False, grey=False, sigma=1.3, flip=False)
    sharp, blurred = (SampleViews(recipe).apply(picture, still._replace(blur=blur)) for blur in (False, True))
    expected = functional.gaussian_blur(sharp, [recipe.blur_kernel_size] * 2, [1.3, 1.3])
    torch.testing.assert_close(blurred, expected, atol=1e-5, rtol=0)
