"""Batches of random views, of images that are on the device or are decoded when they are needed.

The views of a step follow `groups`, pairs of a recipe and a number of views: `((global_recipe, 2), (local_recipe, 4))`
yields two global views, then four local. They are made for a whole batch at a time, on the device, whichever source the
images come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_uniform, parameters_from_draws
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages, to_device
from experiments.images.order import EpochOrder
from experiments.images.randomness import Stream, derived_generator
from experiments.images.streamed_images import StreamedImages

ViewGroups = Sequence[tuple[ViewRecipe, int]]
"""Recipes and how many views to draw by each, in the order of the views."""


class ViewBatches:
    """Iterate over steps: for each the list of its views, normalised float32 `(images, channels, size, size)`.

    Steps count over the whole run, across epochs. The parameters of view v of the batch of step s on process r are
    drawn on the CPU, by a generator seeded with `derived_seed(seed, Stream.VIEWS, s, r, v)`: so every device sees the
    same views, and an iterable that starts at step s yields what one that started at 0 yields from there on.

    Args:
        images: On the device, or decoded when wanted.
        order: Which images each step sees; its seed and rank also seed the views.
        groups: Recipes and numbers of views.
        start: First step.
        stop: One more than the last step.
        compile_views: Compile the transformation with `torch.compile`. Do not where the images are decoded when
            wanted: their canvas has another shape in every batch.

    Raises:
        ValueError: If the order is of another number of images, a recipe of another number of channels, there is no
            view, or the steps are out of order.
    """

    def __init__(
        self,
        images: DeviceImages | StreamedImages,
        order: EpochOrder,
        groups: ViewGroups,
        *,
        start: int,
        stop: int,
        compile_views: bool = False,
    ) -> None:
        if order.images != len(images):
            raise ValueError(f"order must be of the {len(images)} images of the set, got one of {order.images}")
        if not groups or any(count < 1 for _, count in groups):
            raise ValueError(f"groups must hold recipes with at least one view each, got {tuple(groups)}")
        if not 0 <= start <= stop:
            raise ValueError(f"start and stop must satisfy 0 <= start <= stop, got {start} and {stop}")
        for recipe, _ in groups:
            if recipe.channels != images.channels:
                raise ValueError(
                    f"groups must hold recipes for images of {images.channels} channels (one mean and std each), got "
                    f"one for {recipe.channels}"
                )
        self.images = images
        self.order = order
        self.steps = range(start, stop)
        self.recipes = [recipe for recipe, count in groups for _ in range(count)]
        transforms: dict[ViewRecipe, Callable[..., Tensor]] = {recipe: BatchedViews(recipe) for recipe in self.recipes}
        if compile_views:  # each size of view is a program of its own
            transforms = {recipe: torch.compile(make, dynamic=False) for recipe, make in transforms.items()}
        self._transforms = transforms

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Tensor]]:
        with closing(self.images.canvases(map(self.order.batch, self.steps))) as canvases:
            for step, (images, sizes) in zip(self.steps, canvases, strict=True):
                yield self.make(images, sizes, *self.draws(step))

    def draws(self, step: int) -> list[Tensor]:
        """The random numbers of each view of a step, on the device; a pure function of the step."""
        keys = [(self.order.seed, Stream.VIEWS, step, self.order.rank, view) for view in range(len(self.recipes))]
        generators = [derived_generator(*key) for key in keys]
        images = self.order.batch_size // self.order.world_size
        drawn = [draw_uniform(recipe, images, one) for recipe, one in zip(self.recipes, generators, strict=True)]
        return [to_device(draw, self.images.device) for view in drawn for draw in view]

    def make(self, images: Tensor, sizes: Tensor, *draws: Tensor) -> list[Tensor]:
        """The views of a batch from their `draws`; a CUDA graph can record it, as no shape depends on a value."""
        rest = iter(draws)
        views = []
        for recipe in self.recipes:
            own = [next(rest) for _ in range(1 + recipe.has_defects)]
            views.append(self._transforms[recipe](images, sizes, parameters_from_draws(recipe, sizes, *own)))
        return views
