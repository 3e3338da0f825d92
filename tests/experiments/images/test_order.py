from __future__ import annotations

import pytest
import torch

from experiments.images.batches import EpochOrder


@pytest.mark.parametrize(("images", "batch_size"), [(10, 4), (12, 4), (7, 7), (5, 1), (1, 1)])
def test_an_epoch_shows_no_image_twice_and_drops_less_than_a_batch(images: int, batch_size: int) -> None:
    order = EpochOrder(images, batch_size, seed=3)
    for epoch in range(3):
        steps = range(epoch * order.batches_per_epoch, (epoch + 1) * order.batches_per_epoch)
        seen = torch.cat([order.batch(step) for step in steps])
        assert seen.unique().numel() == seen.numel() > images - batch_size
        assert seen.min() >= 0
        assert seen.max() < images


def test_a_batch_depends_on_nothing_but_the_step() -> None:
    straight = [EpochOrder(23, 4, seed=0).batch(step) for step in range(20)]
    order = EpochOrder(23, 4, seed=0)
    torch.manual_seed(5)
    for step in (17, 0, 4, 5, 19, 17, 1):
        torch.randn(3)
        assert torch.equal(order.batch(step), straight[step])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    order, other = EpochOrder(50, 50, seed=0), EpochOrder(50, 50, seed=1)
    orders = [order.batch(0), order.batch(1), other.batch(0), torch.arange(50)]
    for first in range(4):
        for second in range(first):
            assert not torch.equal(orders[first], orders[second])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_processes_share_each_global_batch(world_size: int) -> None:
    whole = EpochOrder(30, 8, seed=1)
    ranks = [EpochOrder(30, 8, seed=1, world_size=world_size, rank=rank) for rank in range(world_size)]
    for step in range(7):
        parts = torch.stack([rank.batch(step) for rank in ranks], dim=1)
        assert parts.shape == (8 // world_size, world_size)
        assert torch.equal(parts.flatten(), whole.batch(step))


def test_every_image_is_as_likely_at_every_place() -> None:
    # Chi-squared with 5 · 6 − … cells; 4 standard deviations.
    epochs, images = 3000, 6
    counts = torch.zeros(images, images)
    order = EpochOrder(images, images, seed=2)
    for epoch in range(epochs):
        counts[torch.arange(images), order.batch(epoch)] += 1
    expected = epochs / images
    # Rows and columns both sum to `epochs`, which leaves (images − 1)² degrees of freedom and stretches the sum.
    statistic = float(((counts - expected) ** 2 / expected).sum()) * (images - 1) / images
    freedom = (images - 1) ** 2
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    EpochOrder(10, 2, seed=0).batch(7)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"images": 3}, "images must be at least batch_size 4, or no batch is ever complete, got 3"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"world_size": 3}, "world_size must be a divisor of 4 images, got 3"),
        ({"world_size": 0}, "world_size must be >= 1, got 0"),
        ({"world_size": 2, "rank": 2}, r"rank must be in \[0, 2\), got 2"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochOrder(**({"images": 10, "batch_size": 4, "seed": 0} | arguments))
