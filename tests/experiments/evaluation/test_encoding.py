"""Sets of images through a network: the order, the views that change with the epoch, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.evaluation.encoding import (
    RandomViews,
    center_view,
    displayed,
    embeddings,
    training_recipe,
)
from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.batched import center_view as batched_center_view
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.images.randomness import Stream, derived_generator
from experiments.pretraining.export import Pretrained
from inference.judging.representation import embed

BATCHES = [torch.tensor([5, 0, 39]), torch.tensor([7]), torch.tensor([1, 2])]


@pytest.fixture(scope="module")
def pretrained(make_pretrained: Callable[..., Pretrained]) -> Pretrained:
    return make_pretrained(channels=3)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 24, 3), dtype=np.uint8)
    return ImageSet("noise", ArraySource(pixels), torch.zeros(40, dtype=torch.int64), ("noise",))


def backbone(pretrained: Pretrained, views: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = pretrained.pair.eval().model.encoder.get_submodule("backbone")(views)
    return features


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_embeddings_are_in_the_order_of_the_set(
    batch_size: int, threads: int, pretrained: Pretrained, images: ImageSet
) -> None:
    parts = list(embeddings(pretrained, images, batch_size=batch_size, threads=threads))
    assert all(len(part.features) == batch_size for part in parts[:-1])
    views = torch.stack([center_view(images, index, pretrained.config) for index in range(40)])
    expected = embed(pretrained.pair, views)
    for name in ("features", "outputs", "mean_direction", "concentration"):
        found = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(found, getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_the_centre_view_is_that_of_the_monitoring_up_to_rounding(pretrained: Pretrained, images: ImageSet) -> None:
    resident = DeviceImages.load(images)
    batched = batched_center_view(resident.canvas, resident.sizes, training_recipe(pretrained.config))
    views = torch.stack([center_view(images, index, pretrained.config) for index in range(40)])
    assert (batched - views).abs().max() < 2 / 255 / 0.25  # two grey levels, normalised
    shown = torch.stack([displayed(view, pretrained.config) for view in views])
    torch.testing.assert_close(shown, 0.25 * views + 0.5)


def test_the_classifier_is_trained_on_crops_and_flips_alone(pretrained: Pretrained) -> None:
    recipe = training_recipe(pretrained.config)
    assert (recipe.crop_scale, recipe.flip_probability) == ((0.08, 1.0), 0.5)
    assert (recipe.jitter_probability, recipe.grey_probability, recipe.blur_probability) == (0, 0, 0)
    assert (recipe.size, recipe.mean, recipe.std) == (16, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("threads", [0, 2])
def test_streamed_views_are_the_resident_ones(threads: int, pretrained: Pretrained, images: ImageSet) -> None:
    streamed = StreamedImages(images, torch.device("cpu"), threads=threads)
    found = list(RandomViews(pretrained, streamed, seed=4)(3, BATCHES))
    expected = list(RandomViews(pretrained, DeviceImages.load(images), seed=4)(3, BATCHES))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_random_views_are_those_of_the_batch(pretrained: Pretrained, images: ImageSet) -> None:
    resident, recipe = DeviceImages.load(images), training_recipe(pretrained.config)
    found = list(RandomViews(pretrained, resident, seed=4)(3, BATCHES))
    for number, (features, batch) in enumerate(zip(found, BATCHES, strict=True)):
        sizes = resident.sizes[batch]
        parameters = draw_parameters(recipe, sizes, derived_generator(4, Stream.VIEWS, 3, number))
        views = BatchedViews(recipe)(resident.canvas[batch], sizes, parameters)
        torch.testing.assert_close(features, backbone(pretrained, views), rtol=1e-4, atol=1e-5)


def test_views_change_with_seed_and_epoch_and_come_again(pretrained: Pretrained, images: ImageSet) -> None:
    def features(seed: int, epoch: int) -> Tensor:
        return torch.cat(list(RandomViews(pretrained, DeviceImages.load(images), seed)(epoch, BATCHES)))

    assert torch.equal(features(0, 0), features(0, 0))
    assert not torch.allclose(features(0, 0), features(0, 1))
    assert not torch.allclose(features(0, 0), features(1, 0))
