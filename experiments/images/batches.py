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
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.per_sample import SampleViews
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import ImageSet
from experiments.images.order import EpochOrder
from experiments.images.randomness import Stream, derived_generator, derived_seed

ViewGroups = Sequence[tuple[ViewRecipe, int]]
"""Recipes and how many views to draw by each, in the order of the views."""


class ResidentBatches:
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
        _check(len(images), images.canvas.size(1), order, groups, start, stop)
        self.images = images
        self.order = order
        self.start = start
        self.stop = stop
        self._transforms: list[tuple[ViewRecipe, Callable[..., Tensor]]] = []
        for recipe, count in groups:
            transform: Callable[..., Tensor] = BatchedViews(recipe)
            if compile_views:
                transform = torch.compile(transform, dynamic=False)  # each size of view is a program of its own
            self._transforms += [(recipe, transform)] * count

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Tensor]]:
        for step in range(self.start, self.stop):
            yield self.views(step)

    def views(self, step: int) -> list[Tensor]:
        """All views of a step; a pure function of the step."""
        device = self.images.canvas.device
        indices = self.order.batch(step)
        if device.type == "cuda":  # only a copy from pinned memory does not make the host wait
            indices = indices.pin_memory().to(device, non_blocking=True)
        images, sizes = self.images.canvas[indices], self.images.sizes[indices]
        views = []
        for view, (recipe, transform) in enumerate(self._transforms):
            key = (self.order.seed, Stream.BATCHED_VIEWS, step, self.order.rank, view)
            parameters = draw_parameters(recipe, sizes, derived_generator(*key))
            views.append(transform(images, sizes, parameters))
        return views


class StreamedBatches:
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
        prefetch: How many batches each worker prepares ahead.

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
        prefetch: int = 2,
    ) -> None:
        _check(len(images), images.channels, order, groups, start, stop)
        if workers < 0:
            raise ValueError(f"workers must be at least 0, got {workers}")
        if prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, got {prefetch}")
        self.images = images
        self.order = order
        self.start = start
        self.stop = stop
        self.workers = workers
        self.device = torch.device(device)
        self.prefetch = prefetch
        self._dataset = _BatchesOfViews(images, [recipe for recipe, count in groups for _ in range(count)], order.seed)

    def __len__(self) -> int:
        return self.stop - self.start

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
        views = self._dataset[self.order.epoch(step), self.order.batch(step).numpy()]
        return [view.to(self.device) for view in views]

    def _loader(self) -> DataLoader[list[Tensor]]:
        options: dict[str, Any] = {}
        if self.workers:
            # Forked workers share the set with this process, and start at once. They use neither the device nor what
            # the threads of this process may hold. Where there is no fork, the platform's own way is taken.
            methods = multiprocessing.get_all_start_methods()
            options = {
                "multiprocessing_context": "fork" if "fork" in methods else None,
                "prefetch_factor": self.prefetch,
                "worker_init_fn": _leave_interrupts_to_the_parent,
            }
        return DataLoader(
            self._dataset,
            batch_size=None,
            sampler=_Requests(self.order, self.start, self.stop),
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            # Without one of its own the loader would draw from the global generator.
            generator=torch.Generator().manual_seed(0),
            **options,
        )


class _Requests:
    """What each step asks of the workers: the epoch, and the images.

    The order stays in the main process, so that the workers hold nothing that grows with the set.
    """

    def __init__(self, order: EpochOrder, start: int, stop: int) -> None:
        self._order = order
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for step in range(self._start, self._stop):
            yield self._order.epoch(step), self._order.batch(step).numpy()


class _BatchesOfViews(Dataset[list[Tensor]]):
    def __init__(self, images: ImageSet, recipes: Sequence[ViewRecipe], seed: int) -> None:
        self._images = images
        self._transforms = [SampleViews(recipe) for recipe in recipes]
        self._seed = seed

    def __getitem__(self, request: tuple[int, NDArray[np.int64]]) -> list[Tensor]:
        epoch, indices = request
        views: list[list[Tensor]] = [[] for _ in self._transforms]
        for index in indices.tolist():
            image = self._images.read(index)
            for view, transform in enumerate(self._transforms):
                seed = derived_seed(self._seed, Stream.SAMPLE_VIEWS, epoch, index, view)
                views[view].append(transform(image, seed))
        return [torch.stack(view) for view in views]


def _leave_interrupts_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches every process of a terminal; the workers end when the parent ends them, and print nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check(images: int, channels: int, order: EpochOrder, groups: ViewGroups, start: int, stop: int) -> None:
    if order.images != images:
        raise ValueError(f"order must be of the {images} images of the set, got one of {order.images}")
    if not groups or any(count < 1 for _, count in groups):
        raise ValueError(f"groups must hold recipes with at least one view each, got {tuple(groups)}")
    for recipe, _ in groups:
        if recipe.channels != channels:
            raise ValueError(
                f"groups must hold recipes for images of {channels} channels (one mean and std each), got one for "
                f"{recipe.channels}"
            )
    if not 0 <= start <= stop:
        raise ValueError(f"start and stop must satisfy 0 <= start <= stop, got {start} and {stop}")
