"""A set of images that are read one at a time, in an order that is the same on every machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.images.decoding import MAX_PIXELS, read_image
from experiments.images.errors import ImageSetError
from inference.judging.linear_probe import hold_out

UNLABELLED = -1


def valid_text(name: str) -> str:
    r"""A file's name as text that can be written; bytes that are none are written out, as hexadecimal.

    Example:
        >>> valid_text(os.fsdecode(b"caf\xc3\xa9")), valid_text(os.fsdecode(b"caf\xe9"))
        ('café', 'caf\\xe9')
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class FileSource:
    """Image files of one folder.

    Args:
        folder: What the paths are relative to.
        paths: Paths of the files, relative to the folder.
        channels: 3, or 1 to read every image as grey.
        max_pixels: Height times width of the largest image that is decoded.

    Example:
        >>> import sklearn.datasets
        >>> source = FileSource(Path(sklearn.datasets.__file__).parent / "images", ["china.jpg", "flower.jpg"])
        >>> len(source), source.read(1).size, source.read(1).mode
        (2, (640, 427), 'RGB')
    """

    folder: Path
    paths: Sequence[str]
    channels: int = 3
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        """Path of a file, from the folder as it was given."""
        return self.folder / self.paths[index]

    def read(self, index: int) -> Image.Image:
        """Decode a file: mode RGB, or L where there is one channel."""
        return read_image(self.path(index), self.max_pixels).convert("RGB" if self.channels == 3 else "L")

    def location(self, index: int) -> str:
        """The path of a file."""
        return str(self.path(index))

    def select(self, indices: NDArray[np.int64]) -> FileSource:
        """Make a source of these files, in this order."""
        return replace(self, paths=[self.paths[index] for index in indices.tolist()])

    def fingerprint(self) -> str:
        """Hash of every file's path, size and time of change; a file that is missing counts as such."""
        folder = os.fsencode(self.folder.resolve())
        digest = hashlib.sha256(folder + f"\0{self.channels}".encode())
        for path in map(os.fsencode, self.paths):
            try:
                status = os.stat(folder + b"/" + path)  # noqa: PTH116 - a Path of each would take longer than the call
                state = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:
                state = f"unreadable: {error.strerror}"
            digest.update(path + b"\0" + state.encode() + b"\0")
        return digest.hexdigest()

    def content(self, index: int) -> bytes:
        """Hash of a file's bytes and of its path below the folder: the same wherever the folder lies."""
        with self.path(index).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() + os.fsencode(self.paths[index])


class ArraySource:
    """Images in memory.

    Args:
        pixels: uint8 of shape `(images, height, width, channels)`, of 1 or 3 channels.

    Example:
        >>> source = ArraySource(np.zeros((2, 8, 6, 1), dtype=np.uint8))
        >>> len(source), source.read(0).mode
        (2, 'L')
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        if pixels.ndim != 4 or pixels.shape[-1] not in {1, 3} or pixels.dtype != np.uint8:
            expected = "uint8 of shape (images, height, width, channels) with 1 or 3 channels"
            raise ValueError(f"pixels must be {expected}, got {pixels.dtype} of shape {pixels.shape}")
        self.pixels = pixels
        self.channels: int = pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Image.Image:
        """Copy an image out of the array."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)

    def location(self, index: int) -> str:
        """The number of the image."""
        return f"image {index}"

    def select(self, indices: NDArray[np.int64]) -> ArraySource:
        """Make a source of these images, in this order."""
        return ArraySource(self.pixels[indices])

    def fingerprint(self) -> str:
        """Hash of the pixels."""
        return hashlib.sha256(f"{self.pixels.shape}".encode() + self.pixels.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels where there are any.

    Args:
        name: What to call the set in messages.
        source: Where the images come from.
        labels: Class of each image, int64 of shape `(images,)`; −1 where an image has none.
        class_names: Name of each class, in the order of the labels.
        skipped: How many images of the set were left out because they cannot be read.
        sizes: Height and width of each image, int64 of shape `(images, 2)`; `None` before a check.
        content: Hash of all that was found, whatever its place, which tells two sets apart; empty before a check.

    Example:
        >>> source = ArraySource(np.zeros((2, 8, 6, 3), dtype=np.uint8))
        >>> images = ImageSet("blank", source, torch.tensor([0, 1]), ("left", "right"))
        >>> len(images), images.read(0).size, images.labelled
        (2, (6, 8), True)
    """

    name: str
    source: FileSource | ArraySource
    labels: Tensor
    class_names: tuple[str, ...]
    skipped: int = 0
    sizes: Tensor | None = None
    content: str = ""

    def __post_init__(self) -> None:
        labels, classes = self.labels, len(self.class_names)
        if labels.dtype != torch.int64 or labels.shape != (len(self),):
            raise ValueError(f"labels must be int64 of shape ({len(self)},), got {labels.dtype} of {labels.shape}")
        if len(self) and not ((labels >= UNLABELLED) & (labels < classes)).all():
            raise ValueError(f"labels must lie in [-1, {classes}), got {labels.min()} … {labels.max()}")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def channels(self) -> int:
        """3, or 1 where every image is grey by nature."""
        return self.source.channels

    @property
    def labelled(self) -> bool:
        """Whether every image has a label, and there is an image."""
        return len(self) > 0 and bool((self.labels != UNLABELLED).all())

    def read(self, index: int) -> Image.Image:
        """Decode an image: mode RGB, or L where `channels` is 1.

        Raises:
            BrokenImageError: If it cannot be read.
        """
        return self.source.read(index)

    def location(self, index: int) -> str:
        """What to call an image in a message: its path, or its number."""
        return self.source.location(index)

    def select(self, indices: Tensor, *, skipped: int = 0) -> ImageSet:
        """Make a set of these images, in this order, with their labels and the same class names.

        Args:
            indices: int64 of shape `(selected,)`.
            skipped: How many of the others are left out because they cannot be read.
        """
        chosen = indices.cpu()
        return replace(
            self,
            source=self.source.select(chosen.numpy()),
            labels=self.labels[chosen],
            sizes=None if self.sizes is None else self.sizes[chosen],
            skipped=self.skipped + skipped,
        )

    def divided(self, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
        """Two parts, every class in equal proportion, of which the second holds that fraction of the images.

        Args:
            fraction: Strictly between 0 and 1.
            seed: Chooses the images.
        """
        first, second = hold_out(self.labels, fraction, seed)
        return self.select(first.sort().values), self.select(second.sort().values)

    def require(self, purpose: str, *, images: int = 1, classes: int = 0, of_each: int = 0) -> None:
        """Raise unless there are enough images, and labels of enough classes.

        Args:
            purpose: What needs them, for the message.
            images: Least number of images: batch normalisation, for one, needs 2.
            classes: Least number of classes that occur; 0 where labels do not matter.
            of_each: Least number of images of each class: to fit on one and judge by another, 2.

        Raises:
            ImageSetError: Saying what there is.

        Example:
            >>> source = ArraySource(np.zeros((1, 8, 6, 3), dtype=np.uint8))
            >>> ImageSet("blank", source, torch.tensor([0]), ("left",)).require("batch normalisation", images=2)
            Traceback (most recent call last):
                ...
            experiments.images.errors.ImageSetError: batch normalisation needs at least 2 images; blank has 1
        """
        if len(self) < images:
            raise ImageSetError(f"{purpose} needs at least {images} images; {self.name} has {len(self)}")
        present = self.labels.unique()
        if classes and (not self.labelled or len(present) < classes):
            unlabelled = int((self.labels == UNLABELLED).sum())
            raise ImageSetError(
                f"{purpose} needs labels of at least {classes} classes, the names of the images' folders; {self.name} "
                f"has {int((present != UNLABELLED).sum())}, and {unlabelled} of its {len(self)} images have no label"
            )
        counts = self.labels[self.labels != UNLABELLED].bincount().tolist()
        few = [f"{n} of {name}" for n, name in zip(counts, self.class_names, strict=False) if 0 < n < of_each]
        if few:
            raise ImageSetError(f"{purpose} needs at least {of_each} images of each class; {self.name} has {few[0]}")
