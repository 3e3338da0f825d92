"""The evaluation while a pair is trained, on images whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.images import TrainingImages, WatchedImages, evaluate_online
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.representation import represent
from models.networks import small_convolutional_backbone
from models.vi_simsiam import VISimSiam

SIZE = 16


def test_where_nothing_is_held_out_no_image_votes_for_itself(
    configuration: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    images = TrainingImages.open(configuration(tmp_path), torch.device("cpu"))
    assert images.held_out is not None and images.neighbours is not None  # noqa: PT018
    assert images.held_out.images is images.neighbours.images  # so that the numbers are of the same images
    evaluated, voting = set(images.held_out.indices.tolist()), set(images.neighbours.indices.tolist())
    assert (len(evaluated), len(voting)) == (6, 8)
    assert evaluated.isdisjoint(voting)


def test_the_watched_images_are_the_same_for_every_seed(
    configuration: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    opened = [TrainingImages.open(configuration(tmp_path, seed=seed), torch.device("cpu")) for seed in (0, 1)]
    first, second = (images.held_out.indices.tolist() for images in opened if images.held_out is not None)
    assert first == second


@pytest.mark.parametrize("count", [1, 256, 257, 258, 600])
def test_batches_of_watched_images_differ_in_size_by_one_image_at_most(count: int) -> None:
    canvas = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    images = DeviceImages(canvas, torch.full((count, 2), SIZE), torch.zeros(count, dtype=torch.long), ("a",))
    recipe = ViewRecipe(SIZE, (0.2, 1.0), (0.5,), (0.25,))
    sizes = [len(batch) for batch in WatchedImages(images, torch.arange(count), recipe)]
    assert sum(sizes) == count
    assert max(sizes) <= 256
    assert max(sizes) - min(sizes) <= 1


def test_training_images_vote_on_held_out_ones_and_all_else_is_of_the_held_out() -> None:
    generator = torch.Generator().manual_seed(0)
    canvas = torch.randint(256, (4, 1, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    recipe = ViewRecipe(SIZE, (0.2, 1.0), (0.5,), (0.25,))

    def watched(order: list[int], labels: list[int]) -> WatchedImages:
        sizes = torch.full((4, 2), SIZE)
        images = DeviceImages(canvas[order], sizes, torch.tensor(labels), ("a", "b", "c", "d"))
        return WatchedImages(images, torch.arange(4), recipe)

    pair = VISimSiam(small_convolutional_backbone(1, width=4), 16, dim=8)
    for _ in range(30):  # batch normalisation that knows images keeps their features apart
        pair.model.expert(torch.randn(16, 1, SIZE, SIZE, generator=generator))
    # The same images in another order: the nearest neighbour of each is itself, and one of four has another label.
    held_out = watched([3, 2, 1, 0], [3, 2, 1, 1])
    found = evaluate_online(pair, watched([0, 1, 2, 3], [0, 1, 2, 3]), held_out, k=1)
    assert found["knn"] == 0.75
    seen = represent(pair, held_out)
    quantiles = np.quantile(seen.concentration.double().numpy(), [0.1, 0.5, 0.9])
    assert [found[f"kappa_q{percent}"] for percent in (10, 50, 90)] == pytest.approx(quantiles.tolist(), rel=1e-6)
    assert quantiles[0] < quantiles[2]
    assert found["standard_deviation"] == standard_deviation(seen.outputs)
    assert found["effective_rank"] == effective_rank(seen.outputs)
    assert "knn" not in evaluate_online(pair, None, held_out, k=1)
