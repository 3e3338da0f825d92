"""The one view by which a trained network is judged: the middle of the image, nothing random."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from experiments.images.augmentations.batched import check_canvas, joined, multiply_on
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.augmentations.taps import most_taps, resample, resampling_taps
from experiments.images.device_images import converted, stored_pixels


def shorter_side(size: int) -> int:
    """Length to which the shorter side is resized before the middle is cut out: 256 for views of 224 pixels.

    Example:
        >>> [shorter_side(size) for size in (224, 128, 32)]
        [256, 146, 37]
    """
    return round(size * 256 / 224)


def center_view(images: Tensor, sizes: Tensor, recipe: ViewRecipe, *, as_matrices: bool | None = None) -> Tensor:
    """Resize the shorter side with antialiasing, cut out the middle, and normalise, a batch at once.

    Only the pixels of the view are computed: torchvision's Resize followed by CenterCrop, of which this is the result,
    would first make the whole resized image.

    Args:
        images: uint8, shape `(images, channels, height, width)`, as `BatchedViews` takes them.
        sizes: Height and width of each image, shape `(images, 2)`.
        recipe: Size of the view and normalisation.
        as_matrices: As in `BatchedViews`.

    Returns:
        Float32, shape `(images, channels, size, size)`.

    Raises:
        ValueError: If a shape or dtype is another, or the images have other channels than the recipe.

    Example:
        >>> images = torch.full((1, 3, 40, 60), 255, dtype=torch.uint8)
        >>> view = center_view(images, torch.tensor([[40, 60]]), ViewRecipe(size=32, mean=(0.5,) * 3, std=(0.5,) * 3))
        >>> view.shape, round(view.mean().item(), 6)
        (torch.Size([1, 3, 32, 32]), 1.0)
    """
    check_canvas(images, sizes, recipe)
    as_matrices = multiply_on(images.device) if as_matrices is None else as_matrices
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        resized = sizes * shorter_side(recipe.size) // sizes.amin(1, keepdim=True)
        first = ((resized - recipe.size) / 2).round()
        position = first[:, :, None] + torch.arange(recipe.size, device=images.device)
        start = torch.zeros_like(sizes[:, 0])
        vertical, horizontal = (
            resampling_taps(
                start,
                sizes[:, axis],
                sizes[:, axis] / resized[:, axis],
                position[:, axis],
                sizes[:, axis],
                most_taps(images.size(2 + axis), recipe.size),
            )
            for axis in (0, 1)
        )
        channels = resample(images, vertical, horizontal, as_matrices=as_matrices).unbind(1)
        return joined(channels, recipe)


def sample_center_view(image: Image.Image, recipe: ViewRecipe) -> Tensor:
    """The view of `center_view` of one Pillow image, up to Pillow's rounding to whole grey levels.

    Args:
        image: In any mode; it is converted to RGB, or to grey where the recipe has one channel.
        recipe: Size of the view and normalisation.

    Returns:
        Float32, shape `(channels, size, size)`.

    Example:
        >>> sample_center_view(Image.new("RGB", (60, 40)), ViewRecipe(size=32)).shape
        torch.Size([3, 32, 32])
    """
    image = converted(image, recipe.channels)
    box: list[float] = [0.0, 0.0, 0.0, 0.0]
    for axis, length in enumerate(image.size):
        resized = length * shorter_side(recipe.size) // min(image.size)
        first = round((resized - recipe.size) / 2)
        box[axis] = first * length / resized
        box[axis + 2] = min((first + recipe.size) * length / resized, length)  # rounding may reach beyond
    view = image.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR, box=(box[0], box[1], box[2], box[3]))
    pixels = torch.from_numpy(stored_pixels(view, None, recipe.channels).copy())
    return joined((pixels[:, None] / 255).unbind(), recipe)[0]
