"""Which images each step sees: a pure function of the step, so that a run resumes anywhere at no cost."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import torch
from torch import Tensor

from experiments.command_line import bounds
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

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to; steps and epochs count from 0 over the whole run."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        return step // self.batches_per_epoch

    def batch(self, step: int) -> Tensor:
        """Indices of this process's images of a step, int64 of shape `(batch_size / world_size,)`."""
        start = step % self.batches_per_epoch * self.batch_size
        permutation = _permutation(self.images, self.seed, self.epoch(step))
        return permutation[start + self.rank : start + self.batch_size : self.world_size]


@lru_cache(maxsize=4)  # of the orders that are in use: drawing one takes as long as many batches do
def _permutation(images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(images, generator=derived_generator(seed, Stream.ORDER, epoch))
