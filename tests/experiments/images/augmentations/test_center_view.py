"""That the view for evaluation is torchvision's Resize and CenterCrop, on both paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from experiments.images.augmentations.batched import center_view, sample_center_view, shorter_side
from experiments.images.augmentations.recipe import ViewRecipe

functional: Any = v2.functional


def unnormalised(size: int) -> ViewRecipe:
    return ViewRecipe(size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def resized(image: Tensor, side: int) -> Tensor:
    """torchvision's Resize; turned where the width becomes 1, because PyTorch then repeats the first row."""
    turned = side == 1 and image.size(1) > image.size(2)
    result: Tensor = functional.resize(image.transpose(1, 2) if turned else image, [side], antialias=True)
    return result.transpose(1, 2) if turned else result


def test_the_shorter_side_is_to_the_view_as_256_to_224() -> None:
    assert [shorter_side(size) for size in (224, 128, 64, 32, 7)] == [256, 146, 73, 37, 8]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("size", [1, 7, 32, 64, 128, 224])
def test_a_batch_of_center_views_is_torchvisions(size: int, make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(padding=255), ViewRecipe(size=size)
    views = center_view(canvas.images, canvas.sizes, recipe)
    for index, view in enumerate(views):
        middle = functional.center_crop(resized(canvas.alone(index), shorter_side(size)), [size])
        expected = functional.normalize(middle, list(recipe.mean), list(recipe.std))
        torch.testing.assert_close(view, expected, atol=1e-5 / min(recipe.std), rtol=0)


@pytest.mark.parametrize("size", [1, 7, 32, 64, 128])
def test_the_center_view_of_a_picture_is_torchvisions_up_to_one_grey_level(
    size: int, make_canvas: Callable[..., Any]
) -> None:
    recipe = unnormalised(size)
    for picture in make_canvas().pictures:
        view = sample_center_view(picture, recipe)
        middle = functional.center_crop(functional.resize(picture, [shorter_side(size)]), [size])
        expected = functional.to_dtype(functional.pil_to_tensor(middle), torch.float32, scale=True)
        torch.testing.assert_close(view, expected, atol=1.01 / 255, rtol=0)


def test_both_paths_agree_up_to_rounding_to_grey_levels(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), unnormalised(64)
    batch = center_view(canvas.images, canvas.sizes, recipe)
    singles = torch.stack([sample_center_view(picture, recipe) for picture in canvas.pictures])
    torch.testing.assert_close(batch, singles, atol=1.5 / 255, rtol=0)


def test_an_extremely_long_image_needs_no_more_memory_than_its_middle() -> None:
    recipe = unnormalised(32)
    picture = Image.new("RGB", (60_000, 1), (255, 0, 0))  # would be 2,220,000 pixels long when resized as a whole
    view = sample_center_view(picture, recipe)
    torch.testing.assert_close(view, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 32, 32))
    images = torch.zeros(1, 3, 1, 60_000, dtype=torch.uint8)
    images[:, 0] = 255
    torch.testing.assert_close(center_view(images, torch.tensor([[1, 60_000]]), recipe)[0], view)


def test_a_single_channel(make_canvas: Callable[..., Any]) -> None:
    canvas = make_canvas(channels=1)
    recipe = ViewRecipe(size=16, mean=(0.5,), std=(0.25,))
    views = center_view(canvas.images, canvas.sizes, recipe)
    assert views.shape == (8, 1, 16, 16)
    single = sample_center_view(canvas.pictures[0].convert("RGB"), recipe)
    torch.testing.assert_close(views[0], single, atol=1.5 / 255 / 0.25, rtol=0)


def test_images_with_other_channels_than_the_recipe_are_refused(make_canvas: Callable[..., Any]) -> None:
    canvas = make_canvas(channels=1)
    with pytest.raises(ValueError, match="the recipe's 3 channels"):
        center_view(canvas.images, canvas.sizes, ViewRecipe(size=16))
