"""The random numbers of views, drawn for a whole batch at once, distributed as in torchvision's transforms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.images.augmentations.defects import DEFECT_DRAWS, DETAIL_DRAWS, Defects, defects_from_draws, uniform
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import to_device

CROP_ATTEMPTS = 10
"""How often torchvision's RandomResizedCrop looks for a crop that fits before it takes the largest in the middle."""

_DRAWS = 2 * CROP_ATTEMPTS + 2 + 2 * 4 + 5


class ViewParameters(NamedTuple):
    """All that is random in one view of each image of a batch; every tensor has one row for each image.

    Args:
        box: Crop in whole pixels `(top, left, height, width)`, int64, shape `(images, 4)`.
        factors: Brightness, contrast and saturation factor and hue shift, shape `(images, 4)`.
        order: A permutation of 0 … 3 in each row: entry k is the column of `factors` that is applied as the k-th.
        jitter: Whether the four are applied at all, shape `(images,)`.
        grey: Whether the colours are dropped, shape `(images,)`.
        blur: Whether the view is blurred, shape `(images,)`.
        sigma: Standard deviation of the blur in pixels, shape `(images,)`.
        flip: Whether left and right are swapped, shape `(images,)`.
        defects: `None` where the recipe has none.
    """

    box: Tensor
    factors: Tensor
    order: Tensor
    jitter: Tensor
    grey: Tensor
    blur: Tensor
    sigma: Tensor
    flip: Tensor
    defects: Defects | None


def draw_parameters(recipe: ViewRecipe, sizes: Tensor, generator: torch.Generator) -> ViewParameters:
    """Draw the parameters of one view of each image.

    The distributions are those of torchvision 0.26's RandomResizedCrop (ten attempts at a crop whose area is uniform
    and whose aspect ratio is log-uniform; then the largest crop in the middle whose ratio is allowed), ColorJitter
    within RandomApply, RandomGrayscale, GaussianBlur within RandomApply, and RandomHorizontalFlip. One difference:
    where torchvision's last resort would be a crop without pixels, as on an image of one pixel when all allowed ratios
    are below 1/2, it has one.

    All numbers come from one uniform draw on the generator's device. Those of defects come from a second one, made only
    where the recipe has defects, and those of lost detail from a third: from the same state of the generator, all other
    parameters are the same with and without them. A generator on the CPU gives the same views on every device; the
    parameters are computed where `sizes` lives. Nothing here waits for the device.

    Args:
        recipe: Ranges and probabilities.
        sizes: Height and width of each image, at least 1, shape `(images, 2)`, whole numbers.
        generator: Source of randomness, on the CPU or on the device of `sizes`.

    Raises:
        ValueError: If `sizes` has another shape or holds no whole numbers.

    Example:
        >>> sizes = torch.tensor([[120, 160], [1, 1]])
        >>> parameters = draw_parameters(ViewRecipe(size=64), sizes, torch.Generator().manual_seed(0))
        >>> parameters.box.tolist()
        [[6, 53, 112, 103], [0, 0, 1, 1]]
        >>> parameters.order.tolist()
        [[1, 2, 3, 0], [1, 2, 0, 3]]
    """
    if sizes.dim() != 2 or sizes.size(-1) != 2 or sizes.is_floating_point() or sizes.is_complex():
        raise ValueError(f"sizes must be whole numbers of shape (images, 2), got {sizes.dtype} of {sizes.shape}")
    draws = draw_uniform(recipe, len(sizes), generator)
    return parameters_from_draws(recipe, sizes, to_device(draws, sizes.device))


def draw_uniform(recipe: ViewRecipe, images: int, generator: torch.Generator) -> Tensor:
    """The uniform numbers of one view of each image, on the generator's device, as `parameters_from_draws` takes them.

    Args:
        recipe: Decides how many numbers there are.
        images: How many.
        generator: Source of randomness.
    """
    counts = [_DRAWS] + [DEFECT_DRAWS] * recipe.has_defects + [DETAIL_DRAWS] * recipe.loses_detail
    draws = [torch.rand(images, count, generator=generator, device=generator.device) for count in counts]
    return torch.cat(draws, dim=1)


def parameters_from_draws(recipe: ViewRecipe, sizes: Tensor, draws: Tensor) -> ViewParameters:
    """Turn independent uniform numbers into the parameters of views: what `draw_parameters` does after drawing.

    Args:
        recipe: Ranges and probabilities.
        sizes: Height and width of each image, shape `(images, 2)`.
        draws: Uniform on [0, 1), float32, shape `(images, 35)`; with defects 9 columns more, which
            `defects_from_draws` takes, and where detail is lost 11.
    """
    draws, of_defects = draws.tensor_split([_DRAWS], dim=1)
    areas, ratios, place, factors, keys, chances = draws.split([CROP_ATTEMPTS, CROP_ATTEMPTS, 2, 4, 4, 5], dim=1)
    strengths = (recipe.brightness, recipe.contrast, recipe.saturation)
    ranges = [*((max(0.0, 1 - strength), 1 + strength) for strength in strengths), (-recipe.hue, recipe.hue)]
    jitter, grey, blur, sigma, flip = chances.unbind(1)
    return ViewParameters(
        box=_boxes(recipe, sizes, areas, ratios, place),
        factors=torch.stack([uniform(factors[:, i], bounds) for i, bounds in enumerate(ranges)], dim=1),
        order=keys.argsort(dim=1, stable=True),
        jitter=jitter < recipe.jitter_probability,
        grey=grey < recipe.grey_probability,
        blur=blur < recipe.blur_probability,
        sigma=uniform(sigma, recipe.blur_sigma),
        flip=flip < recipe.flip_probability,
        defects=defects_from_draws(recipe, of_defects) if recipe.has_defects else None,
    )


def _boxes(recipe: ViewRecipe, sizes: Tensor, areas: Tensor, ratios: Tensor, place: Tensor) -> Tensor:
    """Crops from uniform numbers for the attempts, shape `(images, attempts)`, and for the place, `(images, 2)`."""
    whole = sizes.to(areas.dtype)
    area = whole.prod(1, keepdim=True) * uniform(areas, recipe.crop_scale)
    low, high = recipe.crop_ratio
    ratio = uniform(ratios, (math.log(low), math.log(high))).exp()
    # (height, width) of all attempts, shape (images, attempts, 2)
    attempts = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=2).round()
    fits = ((attempts >= 1) & (attempts <= whole[:, None])).all(2)
    first = fits.to(torch.uint8).argmax(1)  # the first of equals; 0 where none fits, replaced below
    box = attempts.gather(1, first[:, None, None].expand(-1, 1, 2)).squeeze(1)
    start = (place * (whole - box + 1)).floor()  # a float32 below 1 times a number, rounded, stays below it

    height, width = whole.unbind(1)
    # The largest crop whose ratio is allowed: the image where its own is, else as wide or as high as the image.
    middle = torch.stack(
        [
            torch.where(width / height < low, (width / low).round(), height),
            torch.where(width / height > high, (height * high).round(), width),
        ],
        dim=1,
    ).clamp_min(1)
    middle = middle.minimum(whole)
    found = fits.any(1, keepdim=True)
    start = torch.where(found, start, ((whole - middle) / 2).floor())
    return torch.cat([start, torch.where(found, box, middle)], dim=1).long()
