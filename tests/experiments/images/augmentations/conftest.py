"""Two photographs in pieces of different sizes, and views of them by torchvision's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torchvision.transforms import v2

from experiments.images.augmentations import taps
from experiments.images.augmentations.parameters import ViewParameters
from experiments.images.augmentations.recipe import ViewRecipe

functional: Any = v2.functional


class Canvas(NamedTuple):
    """Images of different sizes in the upper left of a common canvas, as numbers and as Pillow images."""

    images: Tensor
    sizes: Tensor
    pictures: list[Image.Image]

    def alone(self, index: int) -> Tensor:
        """Image `index` without its padding, as numbers in [0, 1]."""
        height, width = self.sizes[index].tolist()
        image: Tensor = functional.to_dtype(self.images[index, :, :height, :width], torch.float32, scale=True)
        return image


SIZES = ((160, 213), (213, 160), (64, 64), (31, 200), (200, 9), (1, 1), (1, 40), (120, 160))


@pytest.fixture(scope="session")
def make_canvas() -> Callable[..., Canvas]:
    """`make_canvas(channels=3, padding=0)`: pieces of real photographs; whoever reads the padding will show it."""
    photographs = [np.asarray(image) for image in load_sample_images().images]

    def make(channels: int = 3, padding: int = 0) -> Canvas:
        pictures = []
        for index, (height, width) in enumerate(SIZES):
            piece = photographs[index % 2][30 * index :, 20 * index :][:height, :width]
            pictures.append(Image.fromarray(piece).convert("RGB" if channels == 3 else "L"))
        images = torch.full((len(SIZES), channels, 213, 213), padding, dtype=torch.uint8)
        for image, picture in zip(images, pictures, strict=True):
            image[:, : picture.height, : picture.width] = functional.pil_to_tensor(picture)
        return Canvas(images, torch.tensor(SIZES), pictures)

    return make


@pytest.fixture(params=[False, True], ids=["sums", "matrices"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters as a processor and as a GPU applies them."""
    monkeypatch.setattr(taps, "multiplies", lambda _: request.param)


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters as a GPU applies them."""
    monkeypatch.setattr(taps, "multiplies", lambda _: True)


@pytest.fixture(scope="session")
def torchvision_view() -> Callable[[Tensor, ViewRecipe, ViewParameters, int], Tensor]:
    """A view of one image in [0, 1], composed of torchvision's functions in the published order."""

    def view(image: Tensor, recipe: ViewRecipe, parameters: ViewParameters, index: int) -> Tensor:
        one: ViewParameters = tree_map_only(Tensor, lambda tensor: tensor[index], parameters)
        result = functional.resized_crop(image, *one.box.tolist(), [recipe.size, recipe.size], antialias=True)
        if one.jitter:
            factors = one.factors.tolist()
            for operation in one.order.tolist():
                name = ("brightness", "contrast", "saturation", "hue")[operation]
                result = getattr(functional, f"adjust_{name}")(result, factors[operation])
        if one.grey:
            result = functional.rgb_to_grayscale(result, recipe.channels)
        if one.blur:
            result = functional.gaussian_blur(result, [recipe.blur_kernel_size] * 2, [one.sigma.item()] * 2)
        if one.flip:
            result = functional.horizontal_flip(result)
        result = functional.normalize(result, list(recipe.mean), list(recipe.std))
        assert isinstance(result, Tensor)
        return result

    return view
