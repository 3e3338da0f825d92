"""Images that are decoded when they are wanted, a few batches ahead: for sets that outgrow the memory of a device."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.images.device_images import on_canvas, stored_pixels, to_device
from experiments.images.image_sets import ImageSet
from experiments.images.threads import in_threads


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """What `DeviceImages` holds, a batch of it at a time, decoded by threads; memory does not grow with the set.

    Attributes:
        images: The set.
        device: Where the batches are to be stored.
        storage_size: Longest shorter side that is kept, as in `DeviceImages.load`.
        threads: Number of threads, each of which decodes a batch, as in `in_threads`.
        as_channels: 3 or 1 to turn grey into colours or colours into grey; by default images stay as they are.
        description: What a progress bar over the batches says, where their number is known; none when empty.

    Example:
        >>> from experiments.images.opening import open_images
        >>> streamed = StreamedImages(open_images("digits", "data", "train"), torch.device("cpu"), storage_size=8)
        >>> [canvas.shape for canvas, sizes in streamed.canvases([torch.tensor([3, 1]), torch.tensor([2])])]
        [torch.Size([2, 1, 8, 8]), torch.Size([1, 1, 8, 8])]
    """

    images: ImageSet
    device: torch.device
    storage_size: int | None = None
    threads: int | None = None
    as_channels: int | None = None
    description: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.as_channels or self.images.channels

    def canvases(self, batches: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor]]:
        """Canvas and sizes of each batch, as in `DeviceImages`; a canvas is as large as its own batch needs.

        Args:
            batches: Numbers of images, without end if need be.

        Raises:
            BrokenImageError: If an image cannot be read.
        """

        def decode(batch: Tensor) -> tuple[Tensor, Tensor]:
            read = (self.images.read(index) for index in batch.tolist())
            return on_canvas([stored_pixels(image, self.storage_size, self.channels) for image in read])

        with closing(in_threads(decode, batches, self.description, threads=self.threads)) as decoded:
            for canvas, sizes in decoded:
                yield to_device(canvas, self.device), to_device(sizes, self.device)
