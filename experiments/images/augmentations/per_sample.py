"""Random views of one image at a time, for the workers of a data loader: torchvision's transforms on Pillow images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from experiments.images.augmentations.defects import Defects, add_defects, lose_detail
from experiments.images.augmentations.parameters import JITTER_OPERATIONS, draw_parameters_of_each
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.augmentations.taps import blur_taps, sum_taps

transforms: Any = v2.functional  # Any: its functions are typed as if they took tensors only

_ADJUST = [getattr(transforms, f"adjust_{operation}") for operation in JITTER_OPERATIONS]


class SampleViews:
    """Make a view of a Pillow image, with the same law as `BatchedViews` of what `draw_parameters` draws.

    Pillow keeps whole grey levels after every operation, cutting off fractions when it mixes, and 256 hues: given the
    same parameters, the two paths differ by one grey level on average. Blur and defects are done on floating-point
    numbers, by the same functions as in `BatchedViews`: Pillow's own blur is an approximation by boxes, which
    torchvision does not use either.

    Args:
        recipe: How the view is made.

    Example:
        >>> views = SampleViews(ViewRecipe(size=32))
        >>> image = Image.new("RGB", (60, 40), (200, 100, 50))
        >>> views(image, seed=0).shape
        torch.Size([3, 32, 32])
        >>> torch.equal(views(image, seed=0), views(image, seed=0))
        True
    """

    def __init__(self, recipe: ViewRecipe) -> None:
        self.recipe = recipe

    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Draw the parameters of a view, and make it.

        Args:
            image: In any mode; it is converted to RGB, or to grey where the recipe has one channel.
            seed: From which all that is random is drawn, as `derived_seed` makes it.

        Returns:
            Normalised, float32, shape `(channels, size, size)`.
        """
        (view,) = self.of_each([image], [seed])
        return view

    def of_each(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        """Views of several images, each the one of its image and seed alone; drawing for many at once is quicker."""
        sizes = [(image.height, image.width) for image in images]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        parameters = draw_parameters_of_each(self.recipe, sizes, generators)
        return [self.apply(image, parameters.of(number)) for number, image in enumerate(images)]

    def apply(self, image: Image.Image, parameters: Any) -> Tensor:
        """Make the view with given parameters, as `ViewParameters.of` gives them."""
        size = self.recipe.size
        view = transforms.resized_crop(converted(image, self.recipe), *parameters.box, [size, size])
        if parameters.jitter:
            for operation in parameters.order:
                view = _ADJUST[operation](view, parameters.factors[operation])
        if parameters.grey:
            view = transforms.rgb_to_grayscale(view, self.recipe.channels)
        if parameters.flip:
            view = transforms.horizontal_flip(view)
        tensor = to_tensor(view)
        if parameters.blur:
            tensor = self._blur(tensor, parameters.sigma)
        if parameters.downscale or parameters.noise or parameters.occlusion:
            tensor = _with_defects(tensor, parameters)
        return normalized(tensor, self.recipe)

    def _blur(self, tensor: Tensor, sigma: float) -> Tensor:
        """The filter of `BatchedViews`, on lines that run through all channels."""
        size, kernel_size = self.recipe.size, self.recipe.blur_kernel_size
        taps = blur_taps(torch.tensor([sigma]), torch.tensor([True]), kernel_size, size)
        rows = sum_taps(tensor.permute(1, 0, 2)[None], taps)
        return sum_taps(rows.transpose(1, 3), taps)[0].permute(1, 2, 0)


def _with_defects(tensor: Tensor, parameters: Any) -> Tensor:
    defects = Defects(*(torch.tensor([getattr(parameters, name)]) for name in Defects._fields))
    return torch.cat(list(add_defects(lose_detail(tensor[None].unbind(1), defects), defects)))


def converted(image: Image.Image, recipe: ViewRecipe) -> Image.Image:
    """The image in the mode of the recipe's channels."""
    mode = "RGB" if recipe.channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def to_tensor(image: Image.Image) -> Tensor:
    """The image as numbers in [0, 1], shape `(channels, height, width)`."""
    tensor: Tensor = transforms.to_dtype(transforms.pil_to_tensor(image), torch.float32, scale=True)
    return tensor


def normalized(tensor: Tensor, recipe: ViewRecipe) -> Tensor:
    """Subtract the recipe's mean from each channel, and divide by its standard deviation."""
    result: Tensor = transforms.normalize(tensor, list(recipe.mean), list(recipe.std))
    return result
