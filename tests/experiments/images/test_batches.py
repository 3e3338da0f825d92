from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.per_sample import SampleViews
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.batches import ResidentBatches, StreamedBatches
from experiments.images.device_images import DeviceImages
from experiments.images.errors import BrokenImageError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet
from experiments.images.order import EpochOrder
from experiments.images.randomness import Stream, derived_generator, derived_seed

Make = Callable[..., ImageSet]
GLOBAL, LOCAL = ViewRecipe(size=8), ViewRecipe(size=5, crop_scale=(0.05, 0.2))
GROUPS = ((GLOBAL, 1), (LOCAL, 2))
IMAGES, BATCH = 14, 4  # an epoch has 3 batches


@pytest.fixture
def images(make_set: Make) -> ImageSet:
    return make_set({"cat": 8, "dog": 6}, sizes=((12, 9), (7, 15), (1, 1), (10, 10)))


def make_batches(images: ImageSet, path: str, **options: Any) -> ResidentBatches | StreamedBatches:
    world = {name: options.pop(name) for name in ("world_size", "rank") if name in options}
    order = EpochOrder(len(images), BATCH, options.pop("seed", 7), **world)
    options = {"start": 0, "stop": 7} | options
    groups = options.pop("groups", GROUPS)
    if path == "resident":
        return ResidentBatches(DeviceImages.load(images), order, groups, **options)
    return StreamedBatches(images, order, groups, workers=2 if path == "two workers" else 0, **options)


def equal(first: Iterable[list[Tensor]], second: Iterable[list[Tensor]]) -> bool:
    return all(
        all(torch.equal(one, two) for one, two in zip(views, others, strict=True))
        for views, others in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("path", ["resident", "no workers", "two workers"])
def test_each_step_yields_all_views_of_all_groups_in_order(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    steps = list(batches)
    assert len(steps) == len(batches) == 7
    for views in steps:
        assert [view.shape for view in views] == [(BATCH, 3, 8, 8)] + [(BATCH, 3, 5, 5)] * 2
        assert all(view.dtype == torch.float32 for view in views)
        assert all(bool(view.isfinite().all()) for view in views)


@pytest.mark.parametrize("path", ["resident", "no workers", "two workers"])
@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_later_start_yields_the_same_from_there_on(images: ImageSet, path: str, start: int) -> None:
    whole = list(make_batches(images, path))
    assert equal(make_batches(images, path, start=start), whole[start:])
    assert equal(make_batches(images, path, start=start, stop=start), [])


@pytest.mark.parametrize("path", ["resident", "no workers", "two workers"])
def test_one_step_can_be_had_alone(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    whole = list(batches)
    assert equal([batches.views(6), batches.views(2)], [whole[6], whole[2]])


def test_the_number_of_workers_changes_no_bit(images: ImageSet) -> None:
    assert equal(make_batches(images, "two workers"), make_batches(images, "no workers"))


@pytest.mark.parametrize("path", ["resident", "no workers", "two workers"])
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
            generator = derived_generator(7, Stream.BATCHED_VIEWS, step, 0, view)
            sizes = resident.sizes[indices]
            parameters = draw_parameters(recipe, sizes, generator)
            expected = BatchedViews(recipe)(resident.canvas[indices], sizes, parameters)
            assert torch.equal(batches.views(step)[view], expected)


def test_streamed_views_are_those_of_the_documented_seeds(images: ImageSet) -> None:
    order = EpochOrder(IMAGES, BATCH, 7)
    batches = make_batches(images, "no workers")
    for step in (0, 6):
        for row, index in enumerate(order.batch(step).tolist()):
            for view, recipe in enumerate([GLOBAL, LOCAL, LOCAL]):
                seed = derived_seed(7, Stream.SAMPLE_VIEWS, step // 3, index, view)
                expected = SampleViews(recipe)(images.read(index), seed)
                assert torch.equal(batches.views(step)[view][row], expected)


@pytest.mark.parametrize("path", ["resident", "no workers"])
def test_views_steps_and_seeds_differ(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    one, two = batches.views(0)[1:]
    other_seed = make_batches(images, path, seed=8).views(0)[1]
    assert not torch.equal(one, two)
    assert not torch.equal(one, batches.views(3)[1])
    assert not torch.equal(one, other_seed)


def test_streamed_processes_share_the_views_of_one(images: ImageSet) -> None:
    whole = make_batches(images, "no workers")
    ranks = [make_batches(images, "no workers", world_size=2, rank=rank) for rank in range(2)]
    for step in (0, 6):
        parts = [rank.views(step) for rank in ranks]
        for view, expected in enumerate(whole.views(step)):
            shared = torch.stack([part[view] for part in parts], dim=1).flatten(0, 1)
            assert torch.equal(shared, expected)


def test_resident_processes_share_the_images_and_draw_views_of_their_own() -> None:
    # A recipe that only resizes square images shows which images a process has; one that draws shows its draws.
    still = ViewRecipe(
        size=8, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_probability=0, grey_probability=0,
        blur_probability=0, flip_probability=0,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 10, 10, 3), dtype=np.uint8)
    square = ImageSet("square", ArraySource(pixels), torch.zeros(IMAGES).long(), ("a",))
    for recipe, shared in ((still, True), (GLOBAL, False)):
        groups = ((recipe, 1),)
        (whole,) = make_batches(square, "resident", groups=groups).views(1)
        ranks = [make_batches(square, "resident", groups=groups, world_size=2, rank=rank) for rank in range(2)]
        parts = torch.stack([rank.views(1)[0] for rank in ranks], dim=1).flatten(0, 1)
        assert torch.equal(parts, whole) == shared
    alike = ImageSet("alike", ArraySource(pixels[:1].repeat(IMAGES, axis=0)), square.labels, ("a",))
    one, two = (make_batches(alike, "resident", world_size=2, rank=rank).views(1)[0] for rank in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("path", ["resident", "two workers"])
def test_grey_images_keep_one_channel(path: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    images = ImageSet("grey", ArraySource(pixels), torch.zeros(8).long(), ("a",))
    grey = ViewRecipe(size=4, mean=(0.5,), std=(0.25,))
    for views in make_batches(images, path, groups=((grey, 2),), stop=2):
        assert [view.shape for view in views] == [(BATCH, 1, 4, 4)] * 2


def test_no_worker_outlives_its_loop(images: ImageSet) -> None:
    batches = make_batches(images, "two workers", stop=200)
    for _ in islice(batches, 3):
        assert len(multiprocessing.active_children()) == 2
    gc.collect()  # where the loop's iterator is not counted by references
    assert multiprocessing.active_children() == [], "leaving the loop early ends the workers"
    list(make_batches(images, "two workers"))
    assert multiprocessing.active_children() == [], "the last batch ends the workers"


@pytest.mark.parametrize("path", ["no workers", "two workers"])
def test_a_file_that_breaks_while_training_is_named(images: ImageSet, path: str) -> None:
    batches = make_batches(images, path)
    assert isinstance(images.source, FileSource)
    file: Path = images.source.path(3)
    file.write_bytes(b"")
    with pytest.raises(BrokenImageError, match=r"003\.png: the file is empty"):
        list(batches)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("path", ["resident", "no workers"])
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


def test_bad_arguments_of_streams_are_refused(images: ImageSet) -> None:
    order = EpochOrder(IMAGES, BATCH, 0)
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        StreamedBatches(images, order, GROUPS, start=0, stop=1, workers=-1)
    with pytest.raises(ValueError, match="order must be of the 14 images of the set, got one of 13"):
        StreamedBatches(images, EpochOrder(13, BATCH, 0), GROUPS, start=0, stop=1)


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_views_on_a_gpu_are_those_on_the_cpu(
    images: ImageSet, workers: int, never_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    order = EpochOrder(IMAGES, BATCH, 7)
    streamed = StreamedBatches(images, order, GROUPS, start=2, stop=6, workers=workers, device="cuda")
    expected = StreamedBatches(images, order, GROUPS, start=2, stop=6)
    for views, others in zip(streamed, expected, strict=True):
        for view, other in zip(views, others, strict=True):
            assert view.device.type == "cuda"
            assert torch.equal(view.cpu(), other)
    on_gpu = ResidentBatches(DeviceImages.load(images, "cuda"), order, GROUPS, start=2, stop=6)
    on_cpu = ResidentBatches(DeviceImages.load(images), order, GROUPS, start=2, stop=6)
    with never_waiting():
        steps = list(on_gpu)
    for views, others in zip(steps, on_cpu, strict=True):
        for view, other in zip(views, others, strict=True):
            assert torch.allclose(view.cpu(), other, atol=1e-4)
