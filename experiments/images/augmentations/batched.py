"""Views of a batch of images at once, on the device where the images are.

They are random; or the one by which a trained network is judged: the middle of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from experiments.images.augmentations.colour import drop_colours, jitter
from experiments.images.augmentations.defects import add_defects
from experiments.images.augmentations.parameters import ViewParameters
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.augmentations.taps import blur_taps, convolve, resample, resampling_taps
from experiments.images.device_images import stored_pixels


class BatchedViews:
    """Make one view of each image of a batch, given the parameters of each.

    Each image is treated as by torchvision's functions for floating-point tensors: the crop is resized with
    antialiasing, and every colour operation is clamped to [0, 1]; defects come last, where the recipe has any. There
    is no loop over images, no size depends on a value, and nothing waits for the device: a call can be compiled with
    `fullgraph=True`, once for all parameters. It computes in float32 under autocast, too. Only where the user allows
    matrix products in a lower precision (`torch.set_float32_matmul_precision`), the GPU's products round to three
    digits, less than a grey level.

    Args:
        recipe: Size of the views and their normalisation; what is random comes with the parameters.

    Example:
        >>> from experiments.images.augmentations.parameters import draw_parameters
        >>> recipe = ViewRecipe(size=32)
        >>> images = torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8)
        >>> sizes = torch.tensor([[40, 60], [25, 30]])  # the second is smaller than the canvas
        >>> parameters = draw_parameters(recipe, sizes, torch.Generator().manual_seed(0))
        >>> BatchedViews(recipe)(images, sizes, parameters).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, recipe: ViewRecipe) -> None:
        self.recipe = recipe

    def __call__(self, images: Tensor, sizes: Tensor, parameters: ViewParameters) -> Tensor:
        """One view of each image.

        Args:
            images: uint8, shape `(images, channels, height, width)`: image b fills the first `sizes[b, 0]` rows and
                `sizes[b, 1]` columns of its canvas. What lies beyond is never read.
            sizes: Height and width of each image, shape `(images, 2)`, whole numbers on the same device.
            parameters: What `draw_parameters` drew for these sizes, on the same device.

        Returns:
            Normalised, float32, shape `(images, channels, size, size)`.

        Raises:
            ValueError: If a shape or dtype is another, or the images have other channels than the recipe.
        """
        check_canvas(images, sizes, self.recipe)
        if parameters.box.shape != (len(images), 4):
            raise ValueError(f"parameters must be those of {len(images)} images, got a box of {parameters.box.shape}")
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            crops = self._crop(images, sizes, parameters)
            channels = jitter(crops.unbind(1), parameters.factors, parameters.order, parameters.jitter)
            channels = drop_colours(channels, parameters.grey)
            size, kernel_size = self.recipe.size, self.recipe.blur_kernel_size
            taps = blur_taps(parameters.sigma, parameters.blur, kernel_size, size)
            channels = convolve(channels, taps)
            if parameters.defects is not None:
                channels = add_defects(channels, parameters.defects, loses_detail=self.recipe.loses_detail)
            return joined(channels, self.recipe)

    def _crop(self, images: Tensor, sizes: Tensor, parameters: ViewParameters) -> Tensor:
        """Crop, resize and flip; flipping first is flipping last, because nothing in between knows left from right."""
        size = self.recipe.size
        top, left, height, width = parameters.box.unbind(1)
        down = torch.arange(size, device=images.device)[None]
        across = torch.where(parameters.flip[:, None], size - 1 - down, down)
        vertical = resampling_taps(top, height, height / size, down, sizes[:, 0], images.size(2))
        horizontal = resampling_taps(left, width, width / size, across, sizes[:, 1], images.size(3))
        return resample(images, vertical, horizontal)


def joined(channels: Sequence[Tensor], recipe: ViewRecipe) -> Tensor:
    """Normalise the channels and join them."""
    channels = [(channel - mean) / std for channel, mean, std in zip(channels, recipe.mean, recipe.std, strict=True)]
    return torch.stack(channels, dim=1)


def check_canvas(images: Tensor, sizes: Tensor, recipe: ViewRecipe) -> None:
    """Check what can be known without looking at values.

    Raises:
        ValueError: If `images` or `sizes` has another shape or dtype than `BatchedViews` takes.
    """
    if images.dim() != 4 or images.dtype != torch.uint8:
        expected = "uint8 of shape (images, channels, height, width)"
        raise ValueError(f"images must be {expected}, got {images.dtype} of {images.shape}")
    if images.size(1) != recipe.channels:
        raise ValueError(f"images must have the recipe's {recipe.channels} channels, got {images.size(1)}")
    if sizes.shape != (len(images), 2) or sizes.is_floating_point():
        raise ValueError(f"sizes must be whole numbers of shape ({len(images)}, 2), got {sizes.dtype} of {sizes.shape}")


def shorter_side(size: int) -> int:
    """Length to which the shorter side is resized before the middle is cut out: 256 for views of 224 pixels.

    Example:
        >>> [shorter_side(size) for size in (224, 128, 32)]
        [256, 146, 37]
    """
    return round(size * 256 / 224)


def center_view(images: Tensor, sizes: Tensor, recipe: ViewRecipe) -> Tensor:
    """Resize the shorter side with antialiasing, cut out the middle, and normalise, a batch at once.

    Only the pixels of the view are computed: torchvision's Resize followed by CenterCrop, of which this is the result,
    would first make the whole resized image.

    Args:
        images: uint8, shape `(images, channels, height, width)`, as `BatchedViews` takes them.
        sizes: Height and width of each image, shape `(images, 2)`.
        recipe: Size of the view and normalisation.

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
                images.size(2 + axis),
            )
            for axis in (0, 1)
        )
        return joined(resample(images, vertical, horizontal).unbind(1), recipe)


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
    image = image.convert("L" if recipe.channels == 1 else "RGB")
    box: list[float] = [0.0, 0.0, 0.0, 0.0]
    for axis, length in enumerate(image.size):
        resized = length * shorter_side(recipe.size) // min(image.size)
        first = round((resized - recipe.size) / 2)
        box[axis] = first * length / resized
        box[axis + 2] = min((first + recipe.size) * length / resized, length)  # rounding may reach beyond
    view = image.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR, box=(box[0], box[1], box[2], box[3]))
    pixels = torch.from_numpy(stored_pixels(view, None).copy())
    return joined((pixels[:, None] / 255).unbind(), recipe)[0]
