"""Which images each step sees: a pure function of the step, so that a run resumes anywhere at no cost."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.images.randomness import Stream, derived_generator


class EpochOrder:
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

    def __init__(self, images: int, batch_size: int, seed: int, *, world_size: int = 1, rank: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if images < batch_size:
            raise ValueError(
                f"images must be at least batch_size, or no batch is ever complete; got {images} images and batches of "
                f"{batch_size}"
            )
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if world_size < 1 or batch_size % world_size:
            raise ValueError(f"world_size must divide batch_size {batch_size}, got {world_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in [0, {world_size}), got {rank}")
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self._latest: tuple[int, Tensor] | None = None

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
        epoch = self.epoch(step)
        start = (step - epoch * self.batches_per_epoch) * self.batch_size
        return self._permutation(epoch)[start + self.rank : start + self.batch_size : self.world_size]

    def _permutation(self, epoch: int) -> Tensor:
        # The latest one is kept, as drawing one takes as long as many batches do.
        if self._latest is None or self._latest[0] != epoch:
            generator = derived_generator(self.seed, Stream.ORDER, epoch)
            self._latest = epoch, torch.randperm(self.images, generator=generator)
        return self._latest[1]
