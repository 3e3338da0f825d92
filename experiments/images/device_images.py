"""Decoded images, as views are made of them: a whole set on a device, or a few batches ahead.

The first as one uint8 tensor, so that nothing is read or decoded while training; the second for sets that outgrow the
memory of a device.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.images.cache import Cache
from experiments.images.checking import check_images
from experiments.images.errors import BrokenImageError, ImageSetError
from experiments.images.image_sets import ImageSet
from experiments.images.threads import in_threads

_CHUNK_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """Images on a device, each in the upper left corner of a canvas that is as large as the largest needs.

    Args:
        canvas: Pixels, uint8 of shape `(images, channels, height, width)`; zero beside the images.
        sizes: Height and width of each image on its canvas, int64 of shape `(images, 2)`.
        labels: Class of each image, int64 of shape `(images,)`; −1 where an image has none.
        class_names: Name of each class.
    """

    canvas: Tensor
    sizes: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.canvas)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.canvas.size(1)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.canvas.device

    def canvases(self, batches: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor]]:
        """Canvas and sizes of each batch of numbers of images; nothing waits for the device."""
        for batch in batches:
            chosen = to_device(batch, self.device)
            yield self.canvas[chosen], self.sizes[chosen]

    @classmethod
    def load(
        cls,
        images: ImageSet,
        device: torch.device | str = "cpu",
        *,
        storage_size: int | None = None,
        cache_folder: str | Path | None = None,
        threads: int | None = None,
    ) -> DeviceImages:
        """Decode a set in threads and put it on a device.

        The sizes are known from the check of the set, which is made where it was not: the memory is refused where it is
        not there, before any is taken. An image whose shorter side exceeds `storage_size` is reduced to it with its
        proportions kept, antialiased (Lanczos: each view is resized once more, so that detail counts); an image more
        than twice as long as wide is reduced until its longer side is 2 · `storage_size`, as one panorama would else
        widen every canvas.

        Args:
            images: The set.
            device: Where it is to be stored.
            storage_size: Longest shorter side that is kept, in pixels; by default every image keeps its size.
            cache_folder: A folder for the decoded pixels, so that the next start reads them. It is valid for the
                same files, unchanged, with the same `storage_size`; damaged files are made again. By default there is
                none.
            threads: Number of threads that decode.

        Raises:
            ImageSetError: If the set is empty, or the device has too little free memory.
            BrokenImageError: If an image cannot be read.

        Example:
            >>> from experiments.images.image_sets import ArraySource
            >>> source = ArraySource(np.full((2, 8, 6, 3), 7, dtype=np.uint8))
            >>> resident = DeviceImages.load(ImageSet("grey", source, torch.tensor([0, 0]), ("grey",)), storage_size=3)
            >>> resident.canvas.shape, resident.sizes.tolist()
            (torch.Size([2, 3, 4, 3]), [[4, 3], [4, 3]])
        """
        if storage_size is not None and storage_size < 1:
            raise ValueError(f"storage_size must be at least 1, got {storage_size}")
        images.require("a training", images=1)
        if images.sizes is None:
            images = check_images(images, threads=threads)
        assert images.sizes is not None  # noqa: S101  # the check measures
        sizes = [stored_size((height, width), storage_size) for height, width in images.sizes.tolist()]
        shape = (len(images), images.channels, *(max(side) for side in zip(*sizes, strict=True)))
        _require_memory(images.name, shape, torch.device(device))
        canvas = torch.empty(shape, dtype=torch.uint8, device=device)

        chunk = max(1, _CHUNK_BYTES // math.prod(shape[1:]))
        key = (images.source.fingerprint(), storage_size, chunk, shape, sizes) if cache_folder is not None else ()
        cache = Cache(images.name, cache_folder, "canvas", *key)
        parts = dict(zip(range(0, len(images), chunk), canvas.split(chunk), strict=True))
        for start in [*parts]:
            if (known := cache.read(start)) is not None:
                parts.pop(start).copy_(known["pixels"])

        def decode(index: int) -> NDArray[np.uint8]:
            pixels = stored_pixels(images.read(index), storage_size)
            if pixels.shape[1:] != sizes[index]:
                height, width = pixels.shape[1:]
                raise BrokenImageError(f"{images.location(index)}: is {width} × {height}, not as when it was checked")
            return pixels

        wanted = [start + index for start, part in parts.items() for index in range(len(part))]
        decoded = in_threads(decode, wanted, f"{images.name}: decoding", threads=threads)
        for start, part in parts.items():
            pixels, _ = on_canvas(list(islice(decoded, len(part))), shape[2:])
            part.copy_(pixels)
            cache.write(start, {"pixels": pixels})
        return cls(canvas, torch.tensor(sizes, device=device), images.labels.to(device), images.class_names)


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """What `DeviceImages` holds, a batch of it at a time, decoded by threads; memory does not grow with the set.

    Attributes:
        images: The set.
        device: Where the batches are to be stored.
        storage_size: Longest shorter side that is kept, as in `DeviceImages.load`.
        threads: Number of threads, each of which decodes a batch, as in `in_threads`.
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
    description: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.images.channels

    def canvases(self, batches: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor]]:
        """Canvas and sizes of each batch, as in `DeviceImages`; a canvas is as large as its own batch needs.

        Args:
            batches: Numbers of images, without end if need be.

        Raises:
            BrokenImageError: If an image cannot be read.
        """

        def decode(batch: Tensor) -> tuple[Tensor, Tensor]:
            read = (self.images.read(index) for index in batch.tolist())
            return on_canvas([stored_pixels(image, self.storage_size) for image in read])

        with closing(in_threads(decode, batches, self.description, threads=self.threads)) as decoded:
            for canvas, sizes in decoded:
                yield to_device(canvas, self.device), to_device(sizes, self.device)


def stored_size(size: tuple[int, int], storage_size: int | None) -> tuple[int, int]:
    """Height and width that an image is kept with: shorter side at most `storage_size`, longer side at most twice that.

    Example:
        >>> stored_size((500, 375), 160), stored_size((100, 120), 160), stored_size((100, 1000), 100)
        ((213, 160), (100, 120), (20, 200))
    """
    if storage_size is None:
        return size
    scale = min(1.0, storage_size / min(size), 2 * storage_size / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def stored_pixels(image: Image.Image, storage_size: int | None) -> NDArray[np.uint8]:
    """An image as it is kept, shape `(channels, height, width)`; `storage_size` is that of `DeviceImages.load`."""
    height, width = stored_size((image.height, image.width), storage_size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def on_canvas(pixels: Sequence[NDArray[np.uint8]], size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Put images of several sizes in the upper left corners of a canvas; returns it and their heights and widths.

    Args:
        pixels: Of each image, shape `(channels, height, width)`.
        size: Height and width of the canvas; by default those of the largest.
    """
    sizes = torch.tensor([image.shape[1:] for image in pixels])
    height, width = size or sizes.amax(0).tolist()
    canvas = torch.zeros(len(pixels), len(pixels[0]), height, width, dtype=torch.uint8)
    for place, image in zip(canvas.numpy(), pixels, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return canvas, sizes


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to another device without waiting for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # a copy from pageable memory would wait
    return tensor.to(device, non_blocking=True)


def _require_memory(name: str, shape: tuple[int, ...], device: torch.device) -> None:
    needed, free = math.prod(shape), _free_memory(device)
    if free is not None and needed > free:
        count, channels, height, width = shape
        raise ImageSetError(
            f"{name}: {count:,} images of {channels} × {height} × {width} bytes need {needed / 1e9:.2f} GB on "
            f"{device}, which has {free / 1e9:.2f} GB free; keep them smaller (storage_size) or stream them"
        )


def _free_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device; None where no one can tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None
