"""Batches of random views, of images that are on the device or are decoded when they are needed.

Which images each step sees, and how its views are drawn, is a pure function of the step, so that a run resumes anywhere
at no cost.

The views of a step follow `groups`, pairs of a recipe and a number of views: `((global_recipe, 2), (local_recipe, 4))`
yields two global views, then four local. They are made for a whole batch at a time, on the device, whichever source the
images come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import torch
from torch import Tensor

from experiments.command_line import bounds
from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_uniform, parameters_from_draws
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages, StreamedImages, to_device
from experiments.images.randomness import Stream, derived_generator


@dataclass(frozen=True)
class EpochOrder(bounds.Bounded):
    """The order of the images: every epoch a new permutation, cut into batches; the last, incomplete one is dropped.

    The permutation of epoch e is drawn from a generator of its own, seeded with `derived_seed(seed, Stream.ORDER, e)`.
    Nothing else enters: a batch depends on the step alone, not on what was asked before, nor on how many processes ask.
    Process r of `world_size` takes the positions r, r + world_size, … of each global batch, so that the global batches
    are the same for any number of processes.

    Args:
        images: How many images there are.
        batch_size: Images of a step, over all processes together.
        seed: The seed of the run.
        world_size: How many processes share a step.
        rank: Which of them asks.

    Raises:
        ValueError: If a number is out of range, the set is smaller than a batch, or the processes cannot share a batch
            evenly.

    Example:
        >>> order = EpochOrder(10, 4, seed=0)
        >>> order.batches_per_epoch
        2
        >>> first_epoch = torch.cat([order.batch(0), order.batch(1)])
        >>> first_epoch.unique().numel()  # no image twice within an epoch
        8
        >>> torch.equal(EpochOrder(10, 4, seed=0, world_size=2, rank=1).batch(5), order.batch(5)[1::2])
        True
    """

    images: int
    batch_size: bounds.Count
    seed: bounds.Natural
    _: KW_ONLY
    world_size: bounds.Count = 1
    rank: bounds.Natural = 0

    def _check(self) -> None:
        batches = f"at least batch_size {self.batch_size}, or no batch is ever complete"
        self.require("images", lambda images: images >= self.batch_size, batches)
        self.require("world_size", lambda count: self.batch_size % count == 0, f"a divisor of {self.batch_size} images")
        self.require("rank", lambda rank: rank < self.world_size, f"in [0, {self.world_size})")

    @property
    def batches_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.images // self.batch_size

    def batch(self, step: int) -> Tensor:
        """Indices of this process's images of a step, int64 of shape `(batch_size / world_size,)`.

        Steps and epochs count from 0 over the whole run.
        """
        epoch, place = divmod(step, self.batches_per_epoch)
        start, permutation = place * self.batch_size, _permutation(self.images, self.seed, epoch)
        return permutation[start + self.rank : start + self.batch_size : self.world_size]


@lru_cache(maxsize=16)  # of the orders that are in use: drawing one takes as long as many batches do
def _permutation(images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(images, generator=derived_generator(seed, Stream.ORDER, epoch))


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
                expected = f"recipes for images of {images.channels} channels (one mean and std each)"
                raise ValueError(f"groups must hold {expected}, got one for {recipe.channels}")
        self.images = images
        self.order = order
        self.steps = range(start, stop)
        self.recipes = [recipe for recipe, count in groups for _ in range(count)]
        self._transforms: dict[ViewRecipe, Callable[..., Tensor]] = {}
        for recipe, _ in groups:  # each size of view is a program of its own
            make = BatchedViews(recipe)
            self._transforms[recipe] = torch.compile(make, dynamic=False) if compile_views else make

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Tensor]]:
        with closing(self.images.canvases(map(self.order.batch, self.steps))) as canvases:
            for step, (images, sizes) in zip(self.steps, canvases, strict=True):
                yield self.make(images, sizes, *self.draws(step))

    def draws(self, step: int) -> list[Tensor]:
        """The random numbers of each view of a step, on the device; a pure function of the step."""
        images = self.order.batch_size // self.order.world_size
        drawn = []
        for view, recipe in enumerate(self.recipes):
            generator = derived_generator(self.order.seed, Stream.VIEWS, step, self.order.rank, view)
            drawn.append(to_device(draw_uniform(recipe, images, generator), self.images.device))
        return drawn

    def make(self, images: Tensor, sizes: Tensor, *draws: Tensor) -> list[Tensor]:
        """The views of a batch from their `draws`; a CUDA graph can record it, as no shape depends on a value."""
        return [
            self._transforms[recipe](images, sizes, parameters_from_draws(recipe, sizes, own))
            for recipe, own in zip(self.recipes, draws, strict=True)
        ]
