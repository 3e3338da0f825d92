"""Batches of random views, from a set on the device or from files read by worker processes, with one interface.

Both are iterables over the steps from `start` to `stop`, and yield for each step the list of its views, float32 tensors
of shape `(images, channels, size, size)`, normalised, on the device. Steps count over the whole run, across epochs.
Each random number is drawn from a generator seeded by the run's seed and the position in the run, so that an iterable
that starts at step s yields what one that started at 0 yields from there on. The views of a step follow `groups`, pairs
of a recipe and a number of views: `((global_recipe, 2), (local_recipe, 4))` yields two global views, then four local.

The two paths draw views of the same distribution, but not the same views.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_uniform, parameters_from_draws, to_device
from experiments.images.augmentations.per_sample import SampleViews
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import ImageSet
from experiments.images.order import EpochOrder
from experiments.images.randomness import Stream, derived_generator, derived_seed

ViewGroups = Sequence[tuple[ViewRecipe, int]]
"""Recipes and how many views to draw by each, in the order of the views."""

_AT_ONCE = 8
"""Images that a worker holds decoded while it makes their views."""


class _Batches:
    """What both paths share: the steps, the recipe of each view of a step, and that they fit the set."""

    def __init__(self, images: ImageSet | DeviceImages, order: EpochOrder, groups: ViewGroups, steps: range) -> None:
        if order.images != len(images):
            raise ValueError(f"order must be of the {len(images)} images of the set, got one of {order.images}")
        if not groups or any(count < 1 for _, count in groups):
            raise ValueError(f"groups must hold recipes with at least one view each, got {tuple(groups)}")
        if not 0 <= steps.start <= steps.stop:
            raise ValueError(f"start and stop must satisfy 0 <= start <= stop, got {steps.start} and {steps.stop}")
        for recipe, _ in groups:
            if recipe.channels != images.channels:
                raise ValueError(
                    f"groups must hold recipes for images of {images.channels} channels (one mean and std each), got "
                    f"one for {recipe.channels}"
                )
        self.order = order
        self.steps = steps
        self.recipes = [recipe for recipe, count in groups for _ in range(count)]

    def __len__(self) -> int:
        return len(self.steps)


class ResidentBatches(_Batches):
    """Views of images that lie on the device, made there for a whole batch at a time, without synchronisation.

    The parameters of view v of the batch of step s on process r are drawn on the CPU, by a generator seeded with
    `derived_seed(seed, Stream.BATCHED_VIEWS, s, r, v)`, so that every device sees the same views.

    Args:
        images: The set on the device.
        order: Which images each step sees; its seed and rank also seed the views.
        groups: Recipes and numbers of views.
        start: First step.
        stop: One more than the last step.
        compile_views: Compile the transformation with `torch.compile`.

    Raises:
        ValueError: If the order is of another number of images, a recipe of another number of channels, there is no
            view, or the steps are out of order.
    """

    def __init__(
        self,
        images: DeviceImages,
        order: EpochOrder,
        groups: ViewGroups,
        *,
        start: int,
        stop: int,
        compile_views: bool = False,
    ) -> None:
        super().__init__(images, order, groups, range(start, stop))
        self.images = images
        transforms: dict[ViewRecipe, Callable[..., Tensor]] = {recipe: BatchedViews(recipe) for recipe in self.recipes}
        if compile_views:  # each size of view is a program of its own
            transforms = {recipe: torch.compile(make, dynamic=False) for recipe, make in transforms.items()}
        self._transforms = transforms

    def __iter__(self) -> Iterator[list[Tensor]]:
        return map(self.views, self.steps)

    def views(self, step: int) -> list[Tensor]:
        """All views of a step; a pure function of the step."""
        return self.make(*self.inputs(step))

    def inputs(self, step: int) -> list[Tensor]:
        """What the views of a step are made of, on the device: numbers of the images, then each view's random ones."""
        device = self.images.device
        inputs = [to_device(self.order.batch(step), device)]
        for view, recipe in enumerate(self.recipes):
            key = (self.order.seed, Stream.BATCHED_VIEWS, step, self.order.rank, view)
            draws = draw_uniform(recipe, len(inputs[0]), derived_generator(*key))
            inputs += [to_device(draw, device) for draw in draws]
        return inputs

    def make(self, indices: Tensor, *draws: Tensor) -> list[Tensor]:
        """The views from `inputs`: what a CUDA graph can record, as every shape is that of every step."""
        images, sizes = self.images.canvas[indices], self.images.sizes[indices]
        rest = iter(draws)
        views = []
        for recipe in self.recipes:
            own = [next(rest) for _ in range(1 + recipe.has_defects)]
            views.append(self._transforms[recipe](images, sizes, parameters_from_draws(recipe, sizes, *own)))
        return views


class StreamedBatches(_Batches):
    """Views of images that are read when they are needed, made one image at a time in worker processes.

    View v of image i in epoch e is seeded with `derived_seed(seed, Stream.SAMPLE_VIEWS, e, i, v)`, so the number of
    workers and of processes changes nothing. A worker makes a whole batch, and holds no more than a few of them,
    however large the set. Leaving a loop over the batches early ends the workers.

    Args:
        images: The set.
        order: Which images each step sees; its seed also seeds the views.
        groups: Recipes and numbers of views.
        start: First step.
        stop: One more than the last step.
        workers: Number of worker processes; with 0 the calling process does the work.
        device: Where the views shall lie; for a CUDA device they pass through pinned memory.

    Raises:
        ValueError: If the order is of another number of images, a recipe of another number of channels, there is no
            view, the steps are out of order, or a number is out of range.
    """

    def __init__(
        self,
        images: ImageSet,
        order: EpochOrder,
        groups: ViewGroups,
        *,
        start: int,
        stop: int,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(images, order, groups, range(start, stop))
        if workers < 0:
            raise ValueError(f"workers must be at least 0, got {workers}")
        self.workers = workers
        self.device = torch.device(device)
        self._dataset = _BatchesOfViews(images, self.recipes, order.seed)

    def __iter__(self) -> Iterator[list[Tensor]]:
        with warnings.catch_warnings():
            # Python 3.12 warns of every fork of a process with threads, which torch's are; see `_loader`.
            warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
            batches = iter(self._loader())
        try:
            for views in batches:
                yield [view.to(self.device, non_blocking=True) for view in views]
        finally:
            # The loader ends its workers when its iterator goes; but the traceback of an error would keep that alive.
            if self.workers:
                batches._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001

    def views(self, step: int) -> list[Tensor]:
        """All views of a step, made by the calling process; a pure function of the step."""
        return [view.to(self.device) for view in self._dataset[self._request(step)]]

    def _request(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """What a step asks of a worker: the epoch and the images.

        The order stays in the main process, so that the workers hold nothing that grows with the set.
        """
        return self.order.epoch(step), self.order.batch(step).numpy()

    def _loader(self) -> DataLoader[list[Tensor]]:
        options: dict[str, Any] = {}
        if self.workers:
            # Forked workers share the set with this process, and start at once. They use neither the device nor what
            # the threads of this process may hold. Where there is no fork, the platform's own way is taken.
            methods = multiprocessing.get_all_start_methods()
            options = {
                "multiprocessing_context": "fork" if "fork" in methods else None,
                "worker_init_fn": _leave_interrupts_to_the_parent,
            }
        return DataLoader(
            self._dataset,
            batch_size=None,
            sampler=map(self._request, self.steps),
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            # Without one of its own the loader would draw from the global generator.
            generator=torch.Generator().manual_seed(0),
            **options,
        )


class _BatchesOfViews(Dataset[list[Tensor]]):
    def __init__(self, images: ImageSet, recipes: Sequence[ViewRecipe], seed: int) -> None:
        self._images = images
        self._transforms = [SampleViews(recipe) for recipe in recipes]
        self._seed = seed

    def __getitem__(self, request: tuple[int, NDArray[np.int64]]) -> list[Tensor]:
        epoch, indices = request
        views: list[list[Tensor]] = [[] for _ in self._transforms]
        for start in range(0, len(indices), _AT_ONCE):
            chosen = indices[start : start + _AT_ONCE].tolist()
            images = [self._images.read(index) for index in chosen]
            for view, transform in enumerate(self._transforms):
                seeds = [derived_seed(self._seed, Stream.SAMPLE_VIEWS, epoch, index, view) for index in chosen]
                views[view] += transform.of_each(images, seeds)
        return [torch.stack(view) for view in views]


def _leave_interrupts_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches every process of a terminal; the workers end when the parent ends them, and print nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
