"""What a recipe makes of images: each with random views of it, as both paths of augmentation make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from PIL import Image
from torch import Tensor

from experiments.figures.style import styled
from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.evaluation import center_view
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.per_sample import SampleViews, converted, to_tensor
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.randomness import derived_generator


@styled
def views_figure(images: Sequence[Image.Image], recipe: ViewRecipe, *, views: int = 8, seed: int = 0) -> Figure:
    """Draw each image, its view for evaluation, and two rows of random views with the same parameters.

    The upper row is made by `BatchedViews`, the lower by `SampleViews`: to the eye they should not differ.

    Args:
        images: At least one.
        recipe: How the views are made.
        views: Number of views of each image, at least 1.
        seed: From which the parameters are drawn.

    Raises:
        ValueError: If there is no image, or `views` is less than 1.

    Example:
        >>> figure = views_figure([Image.new("RGB", (60, 40), "teal")], ViewRecipe(size=32), views=3)
        >>> len(figure.axes)  # image, evaluation, and two rows of three views
        8
    """
    if not images or views < 1:
        raise ValueError(f"images must hold at least one and views be at least 1, got {len(images)} and {views}")
    figure = Figure(figsize=(3.0 + 1.05 * views, 2.3 * len(images)), layout="constrained")
    # The image and its view for evaluation are one and a half as wide as a random view, and two rows high.
    grid = GridSpec(2 * len(images), views + 2, figure=figure, width_ratios=[1.5, 1.5] + [1.0] * views)
    for index, image in enumerate(images):
        pixels = (to_tensor(converted(image, recipe)) * 255).byte()[None]
        sizes = torch.tensor([[image.height, image.width]])
        generator = derived_generator(seed, index)
        parameters = draw_parameters(recipe, sizes.expand(views, 2), generator)
        batched = BatchedViews(recipe)(pixels.expand(views, -1, -1, -1), sizes.expand(views, 2), parameters)
        make = SampleViews(recipe)
        single = [make.apply(image, parameters.of(view)) for view in range(views)]
        centre = _shown(center_view(pixels, sizes, recipe)[0], recipe)
        both = slice(2 * index, 2 * index + 2)
        names = ("image", "evaluation") if index == 0 else ("", "")
        _draw(figure, grid[both, 0], pixels[0].permute(1, 2, 0), names[0])
        _draw(figure, grid[both, 1], centre, names[1])
        for column in range(views):
            first = index == column == 0
            _draw(figure, grid[2 * index, 2 + column], _shown(batched[column], recipe), "batched" if first else "")
            _draw(figure, grid[2 * index + 1, 2 + column], _shown(single[column], recipe), "one by one" * first)
    return figure


def _shown(view: Tensor, recipe: ViewRecipe) -> Tensor:
    """Undo the normalisation; rows, columns and channels as Matplotlib wants them."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (recipe.mean, recipe.std))
    return (view * std + mean).clamp(0, 1).permute(1, 2, 0)


def _draw(figure: Figure, place: object, pixels: Tensor, title: str) -> None:
    axes = figure.add_subplot(place)  # type: ignore[call-overload]
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=255 if pixels.dtype == torch.uint8 else 1)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
