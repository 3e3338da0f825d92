"""That a batch of views is, image by image, what torchvision's functions give, and that nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from experiments.images.augmentations.batched import BatchedViews, center_view
from experiments.images.augmentations.parameters import ViewParameters, draw_parameters
from experiments.images.augmentations.recipe import ViewRecipe

TOLERANCE = 1e-5  # of values in [0, 1], before the division by the standard deviation


def recipe_of(size: int, channels: int = 3) -> ViewRecipe:
    return ViewRecipe(size=size) if channels == 3 else ViewRecipe(size=size, mean=(0.5,), std=(0.25,))


def drawn(recipe: ViewRecipe, sizes: Tensor, seed: int = 0) -> ViewParameters:
    return draw_parameters(recipe, sizes, torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 8, 32, 64, 128])
def test_every_view_is_torchvisions_chain_on_the_image_without_padding(
    size: int,
    channels: int,
    make_canvas: Callable[..., Any],
    torchvision_view: Callable[..., Tensor],
) -> None:
    canvas, recipe = make_canvas(channels, padding=255), recipe_of(size, channels)
    make = BatchedViews(recipe)
    for seed in range(8 if size <= 64 else 3):
        parameters = drawn(recipe, canvas.sizes, seed)
        views = make(canvas.images, canvas.sizes, parameters)
        assert views.shape == (len(canvas.sizes), channels, size, size)
        for index, view in enumerate(views):
            expected = torchvision_view(canvas.alone(index), recipe, parameters, index)
            error = (view - expected).abs() * torch.tensor(recipe.std)[:, None, None]
            assert error.max() <= TOLERANCE


@pytest.mark.usefixtures("both_ways")
def test_the_padding_is_never_read(make_canvas: Callable[..., Any]) -> None:
    recipe = recipe_of(32)
    black, white = make_canvas(padding=0), make_canvas(padding=255)
    make = BatchedViews(recipe)
    parameters = drawn(recipe, black.sizes)
    assert torch.equal(make(black.images, black.sizes, parameters), make(white.images, white.sizes, parameters))


def test_a_view_does_not_depend_on_the_others_in_its_batch(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), recipe_of(32)
    make, parameters = BatchedViews(recipe), drawn(recipe, canvas.sizes)
    together = make(canvas.images, canvas.sizes, parameters)
    for index in range(len(canvas.sizes)):
        one = slice(index, index + 1)
        own = tree_map_only(Tensor, itemgetter(one), parameters)
        alone = make(canvas.images[one], canvas.sizes[one], own)
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("matrices")
def test_autocast_changes_nothing(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), recipe_of(32)
    make, parameters = BatchedViews(recipe), drawn(recipe, canvas.sizes)
    plain = make(canvas.images, canvas.sizes, parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = make(canvas.images, canvas.sizes, parameters)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


def test_the_images_stay_as_they_are(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), recipe_of(32)
    before = canvas.images.clone()
    BatchedViews(recipe)(canvas.images, canvas.sizes, drawn(recipe, canvas.sizes))
    assert torch.equal(canvas.images, before)


DEFECTS: dict[str, Any] = dict.fromkeys(("noise_probability", "occlusion_probability", "downscale_probability"), 0.5)


@pytest.mark.usefixtures("matrices")
def test_drawing_parameters_and_making_views_need_nothing_from_the_device(
    make_canvas: Callable[..., Any], waiting: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    canvas, recipe = make_canvas(), ViewRecipe(size=32, **DEFECTS)
    make, generator = BatchedViews(recipe), torch.Generator().manual_seed(0)
    with waiting() as seen:
        make(canvas.images, canvas.sizes, draw_parameters(recipe, canvas.sizes, generator))
        center_view(canvas.images, canvas.sizes, recipe)
    assert seen == []


@pytest.mark.gpu
def test_on_a_gpu_nothing_synchronises_and_the_views_are_those_of_the_cpu(
    make_canvas: Callable[..., Any], never_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    canvas, recipe = make_canvas(), ViewRecipe(size=64, **DEFECTS)
    make = BatchedViews(recipe)
    images, sizes = canvas.images.cuda(), canvas.sizes.cuda()
    generators = [torch.Generator("cuda"), torch.Generator()]

    def run() -> list[Tensor]:
        drawings = [draw_parameters(recipe, sizes, generator.manual_seed(0)) for generator in generators]
        return [*(make(images, sizes, drawing) for drawing in drawings), center_view(images, sizes, recipe)]

    run()  # libraries set themselves up on first use, and may wait
    with never_waiting(), torch.autocast("cuda", dtype=torch.bfloat16):
        views = run()
    expected = make(canvas.images, canvas.sizes, drawn(recipe, canvas.sizes))
    torch.testing.assert_close(views[1].cpu(), expected, atol=TOLERANCE / 0.2, rtol=0)
    centre = center_view(canvas.images, canvas.sizes, recipe)
    torch.testing.assert_close(views[2].cpu(), centre, atol=TOLERANCE / 0.2, rtol=0)


ERRORS: dict[str, tuple[Callable[[Tensor, Tensor, ViewParameters], tuple[Any, ...]], str]] = {
    "images of numbers in [0, 1]": (lambda i, s, p: (i.float(), s, p), "images must be uint8"),
    "one image": (lambda i, s, p: (i[0], s, p), "images must be uint8"),
    "grey images": (lambda i, s, p: (i[:, :1], s, p), "the recipe's 3 channels"),
    "sizes of fewer": (lambda i, s, p: (i, s[1:], p), r"sizes must be whole numbers of shape \(8, 2\)"),
    "sizes with fractions": (lambda i, s, p: (i, s.float(), p), r"sizes must be whole numbers of shape \(8, 2\)"),
    "parameters of fewer": (
        lambda i, s, p: (i, s, tree_map_only(Tensor, lambda tensor: tensor[1:], p)),
        "parameters must be those of 8 images",
    ),
}


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_refused(
    change: Callable[..., tuple[Any, ...]], message: str, make_canvas: Callable[..., Any]
) -> None:
    canvas, recipe = make_canvas(), recipe_of(16)
    arguments = change(canvas.images, canvas.sizes, drawn(recipe, canvas.sizes))
    with pytest.raises(ValueError, match=message):
        BatchedViews(recipe)(*arguments)
