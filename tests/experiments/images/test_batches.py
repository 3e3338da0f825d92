from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.batches import EpochOrder, ViewBatches
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.errors import BrokenImageError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet
from experiments.images.randomness import Stream, derived_generator

Make = Callable[..., ImageSet]
GLOBAL, LOCAL = ViewRecipe(size=8), ViewRecipe(size=5, crop_scale=(0.05, 0.2))
GROUPS = ((GLOBAL, 1), (LOCAL, 2))
IMAGES, BATCH = 14, 4  # an epoch has 3 batches


@pytest.fixture
def images(make_set: Make) -> ImageSet:
    return make_set({"cat": 8, "dog": 6}, sizes=((12, 9), (7, 15), (1, 1), (10, 10)))


def make_batches(images: ImageSet, path: str, **options: Any) -> ViewBatches:
    world = {name: options.pop(name) for name in ("world_size", "rank") if name in options}
    order = EpochOrder(len(images), BATCH, options.pop("seed", 7), **world)
    options = {"start": 0, "stop": 7} | options
    groups = options.pop("groups", GROUPS)
    source: Any = DeviceImages.load(images)
    if path != "resident":
        source = StreamedImages(images, torch.device("cpu"), threads=2 if path == "two threads" else 0)
    return ViewBatches(source, order, groups, **options)


def step_of(batches: ViewBatches, step: int) -> list[Tensor]:
    groups = [(recipe, 1) for recipe in batches.recipes]
    (views,) = ViewBatches(batches.images, batches.order, groups, start=step, stop=step + 1)
    return views


def equal(first: Iterable[list[Tensor]], second: Iterable[list[Tensor]]) -> bool:
    return all(
        all(torch.equal(one, two) for one, two in zip(views, others, strict=True))
        for views, others in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("path", ["resident", "no threads", "two threads"])
def test_each_step_yields_all_views_of_all_groups_in_order(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    steps = list(batches)
    assert len(steps) == len(batches) == 7
    for views in steps:
        assert [view.shape for view in views] == [(BATCH, 3, 8, 8)] + [(BATCH, 3, 5, 5)] * 2
        assert all(view.dtype == torch.float32 for view in views)
        assert all(bool(view.isfinite().all()) for view in views)


@pytest.mark.parametrize("path", ["resident", "no threads", "two threads"])
@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_later_start_yields_the_same_from_there_on(images: ImageSet, path: str, start: int) -> None:
    whole = list(make_batches(images, path))
    assert equal(make_batches(images, path, start=start), whole[start:])
    assert equal(make_batches(images, path, start=start, stop=start), [])


def test_the_number_of_threads_changes_no_bit(images: ImageSet) -> None:
    assert equal(make_batches(images, "two threads"), make_batches(images, "no threads"))


@pytest.mark.parametrize("path", ["resident", "no threads", "two threads"])
def test_no_global_generator_is_touched(images: ImageSet, path: str) -> None:
    ours, numpys = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002 - the global state
    first = list(make_batches(images, path))
    assert torch.equal(torch.get_rng_state(), ours)
    assert pickle.dumps(np.random.get_state()) == numpys  # noqa: NPY002
    torch.manual_seed(99)
    assert equal(make_batches(images, path), first)


def test_resident_views_are_those_of_the_documented_seeds(images: ImageSet) -> None:
    resident, order = DeviceImages.load(images), EpochOrder(IMAGES, BATCH, 7)
    batches = make_batches(images, "resident")
    for step in (0, 6):
        indices = order.batch(step)
        for view, recipe in enumerate([GLOBAL, LOCAL, LOCAL]):
            generator = derived_generator(7, Stream.VIEWS, step, 0, view)
            sizes = resident.sizes[indices]
            parameters = draw_parameters(recipe, sizes, generator)
            expected = BatchedViews(recipe)(resident.canvas[indices], sizes, parameters)
            assert torch.equal(step_of(batches, step)[view], expected)


@pytest.mark.parametrize("storage_size", [None, 6])
def test_streamed_views_are_the_resident_ones(images: ImageSet, storage_size: int | None) -> None:
    order = EpochOrder(IMAGES, BATCH, 7)
    resident = DeviceImages.load(images, storage_size=storage_size)
    streamed = StreamedImages(images, torch.device("cpu"), storage_size, threads=1)
    paths = [ViewBatches(source, order, GROUPS, start=0, stop=6) for source in (resident, streamed)]
    for views, others in zip(*paths, strict=True):
        for view, other in zip(views, others, strict=True):
            torch.testing.assert_close(view, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("path", ["resident", "no threads"])
def test_views_steps_and_seeds_differ(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    one, two = step_of(batches, 0)[1:]
    other_seed = step_of(make_batches(images, path, seed=8), 0)[1]
    assert not torch.equal(one, two)
    assert not torch.equal(one, step_of(batches, 3)[1])
    assert not torch.equal(one, other_seed)


def test_processes_share_the_images_and_draw_views_of_their_own() -> None:
    # A recipe that only resizes square images shows which images a process has; one that draws shows its draws.
    still = ViewRecipe(
        size=8, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_probability=0, grey_probability=0,
        blur_probability=0, flip_probability=0,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 10, 10, 3), dtype=np.uint8)
    square = ImageSet("square", ArraySource(pixels), torch.zeros(IMAGES).long(), ("a",))
    for recipe, shared in ((still, True), (GLOBAL, False)):
        groups = ((recipe, 1),)
        (whole,) = step_of(make_batches(square, "resident", groups=groups), 1)
        ranks = [make_batches(square, "resident", groups=groups, world_size=2, rank=rank) for rank in range(2)]
        parts = torch.stack([step_of(rank, 1)[0] for rank in ranks], dim=1).flatten(0, 1)
        assert torch.equal(parts, whole) == shared
    alike = ImageSet("alike", ArraySource(pixels[:1].repeat(IMAGES, axis=0)), square.labels, ("a",))
    one, two = (step_of(make_batches(alike, "resident", world_size=2, rank=rank), 1)[0] for rank in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("path", ["resident", "two threads"])
def test_grey_images_keep_one_channel(path: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    images = ImageSet("grey", ArraySource(pixels), torch.zeros(8).long(), ("a",))
    grey = ViewRecipe(size=4, mean=(0.5,), std=(0.25,))
    for views in make_batches(images, path, groups=((grey, 2),), stop=2):
        assert [view.shape for view in views] == [(BATCH, 1, 4, 4)] * 2


def test_no_more_than_a_few_batches_are_decoded_ahead_and_no_thread_outlives_its_loop(images: ImageSet) -> None:
    before = threading.active_count()
    asked: list[int] = []

    def without_end() -> Iterator[Tensor]:
        for step in count():
            asked.append(step)
            yield torch.tensor([step % IMAGES])

    streamed = StreamedImages(images, torch.device("cpu"), threads=2)
    with closing(streamed.canvases(without_end())) as canvases:
        for _ in islice(canvases, 20):
            assert threading.active_count() <= before + 2
        assert 20 <= len(asked) <= 20 + 5
    assert threading.active_count() == before, "leaving the loop early ends the threads"
    for _ in make_batches(images, "two threads"):
        pass
    assert threading.active_count() == before, "the last batch ends the threads"


@pytest.mark.parametrize("path", ["no threads", "two threads"])
def test_a_file_that_breaks_while_training_is_named(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    assert isinstance(images.source, FileSource)
    file: Path = images.source.path(3)
    file.write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"003\.png: the file is empty"):
        list(batches)


@pytest.mark.parametrize("path", ["resident", "no threads"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ()}, "groups must hold recipes with at least one view each"),
        ({"groups": ((GLOBAL, 0),)}, "groups must hold recipes with at least one view each"),
        ({"groups": ((ViewRecipe(size=4, mean=(0.5,), std=(1.0,)), 2),)}, "images of 3 channels .* got one for 1"),
        ({"start": 3, "stop": 2}, "start and stop must satisfy 0 <= start <= stop, got 3 and 2"),
        ({"start": -1}, "start and stop must satisfy 0 <= start <= stop, got -1 and 7"),
    ],
)
def test_bad_arguments_are_refused(images: ImageSet, path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_batches(images, path, **options)


def test_an_order_of_another_set_is_refused(images: ImageSet) -> None:
    with pytest.raises(ValueError, match="order must be of the 14 images of the set, got one of 13"):
        ViewBatches(DeviceImages.load(images), EpochOrder(13, BATCH, 0), GROUPS, start=0, stop=1)


@pytest.mark.gpu
@pytest.mark.parametrize("threads", [0, 2])
def test_views_on_a_gpu_are_those_on_the_cpu(
    images: ImageSet, threads: int, never_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    order = EpochOrder(IMAGES, BATCH, 7)
    on_cpu = ViewBatches(DeviceImages.load(images), order, GROUPS, start=2, stop=6)
    on_gpu = ViewBatches(DeviceImages.load(images, "cuda"), order, GROUPS, start=2, stop=6)
    streamed = StreamedImages(images, torch.device("cuda"), threads=threads)
    with never_waiting():
        steps = list(on_gpu)
    for made in (steps, ViewBatches(streamed, order, GROUPS, start=2, stop=6)):
        for views, others in zip(made, on_cpu, strict=True):
            for view, other in zip(views, others, strict=True):
                assert view.device.type == "cuda"
                assert torch.allclose(view.cpu(), other, atol=1e-4)
