"""A whole set of images as one uint8 tensor on a device: nothing is read or decoded while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.images.canvas_cache import CanvasCache
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

    @classmethod
    def load(
        cls,
        images: ImageSet,
        device: torch.device | str = "cpu",
        *,
        storage_size: int | None = None,
        cache_folder: Path | None = None,
        threads: int | None = None,
    ) -> DeviceImages:
        """Decode a set in threads and put it on a device.

        The headers of all files are read first: the memory is known, and refused where it is not there, before any is
        taken. An image whose shorter side exceeds `storage_size` is reduced to it with its proportions kept,
        antialiased (Lanczos: each view is resized once more, so that detail counts); an image more than twice as long
        as wide is reduced until its longer side is 2 · `storage_size`, as one panorama would else widen every canvas.

        Args:
            images: The set.
            device: Where it shall lie.
            storage_size: Longest shorter side that is kept, in pixels; by default every image keeps its size.
            cache_folder: A folder for the decoded pixels, so that the next start reads one file. It is valid for the
                same files, unchanged, with the same `storage_size`; a damaged one is made anew. By default there is
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
        target = torch.device(device)

        def measure(index: int) -> tuple[int, int]:
            return stored_size(images.source.size(index), storage_size)

        sizes = np.array(list(in_threads(measure, len(images), f"{images.name}: sizes", threads=threads)))
        height, width = (int(side) for side in sizes.max(axis=0))
        shape = (len(images), images.channels, height, width)
        _require_memory(images.name, shape, target)
        canvas = torch.empty(shape, dtype=torch.uint8, device=target)

        chunk = max(1, _CHUNK_BYTES // (images.channels * height * width))
        parts = [slice(start, min(start + chunk, len(images))) for start in range(0, len(images), chunk)]
        cache = None if cache_folder is None else CanvasCache(cache_folder, images, storage_size, sizes, shape, chunk)
        missing = parts if cache is None else [part for part in parts if not cache.read_into(canvas, part)]
        for part, pixels in zip(missing, _decoded(images, sizes, storage_size, shape, missing, threads), strict=True):
            canvas[part].copy_(pixels)
            if cache is not None:
                cache.write(pixels, part)
        return cls(canvas, torch.from_numpy(sizes).to(target), images.labels.to(target), images.class_names)


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


def _decoded(
    images: ImageSet,
    sizes: NDArray[np.int64],
    storage_size: int | None,
    shape: tuple[int, int, int, int],
    parts: Sequence[slice],
    threads: int | None,
) -> Iterator[Tensor]:
    """Pixels of each part of the set, shape `(images of the part, *shape[1:])`."""
    wanted = [index for part in parts for index in range(part.start, part.stop)]

    def decode(number: int) -> NDArray[np.uint8]:
        index = wanted[number]
        image = images.read(index)
        height, width = (int(side) for side in sizes[index])
        if image.size != (width, height):
            if stored_size((image.height, image.width), storage_size) != (height, width):
                raise BrokenImageError(
                    f"{images.location(index)}: the image is {image.width} × {image.height}, its header said otherwise"
                )
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    decoded = in_threads(decode, len(wanted), f"{images.name}: decoding", threads=threads)
    for part in parts:
        filled = torch.zeros(part.stop - part.start, *shape[1:], dtype=torch.uint8)
        for row in filled.numpy():
            pixels = next(decoded)
            row[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        yield filled


def _require_memory(name: str, shape: tuple[int, int, int, int], device: torch.device) -> None:
    needed = int(np.prod(shape, dtype=np.int64))
    free = _free_memory(device)
    if free is not None and needed > free:
        count, channels, height, width = shape
        raise ImageSetError(
            f"{name}: {count:,} images of {channels} × {height} × {width} bytes need {needed / 1e9:.2f} GB on "
            f"{device}, which has {free / 1e9:.2f} GB free; keep them smaller (storage_size) or stream them from the "
            "files"
        )


def _free_memory(device: torch.device) -> int | None:
    """Bytes that can be taken on a device; None where no one can tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None
