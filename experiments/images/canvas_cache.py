"""The decoded pixels of a set in one file, so that a second start reads them instead of decoding.

The file is in the safetensors format: `sizes` (images, 2), `checksums` of the chunks, and the `canvas`. It is written
one chunk after the other, since a set may be as large as half the memory, under another name, and takes its own when it
is complete. Its name holds a hash of the set's files, their sizes and times, and of how the images are stored; so a
changed set has another file, and the old one can be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from experiments.images.image_sets import ImageSet

_FORMAT = 1


class CanvasCache:
    """Read or write the canvas of a set.

    Args:
        folder: Where the file lies; made when it is first written.
        images: The set.
        storage_size: As the canvas was asked for.
        sizes: Height and width of each image on the canvas, int64 of shape `(images, 2)`.
        shape: Of the canvas.
        chunk: Images of a chunk.
    """

    def __init__(
        self,
        folder: Path,
        images: ImageSet,
        storage_size: int | None,
        sizes: NDArray[np.int64],
        shape: tuple[int, int, int, int],
        chunk: int,
    ) -> None:
        key = hashlib.sha256(f"{_FORMAT} {storage_size} {shape} {chunk} {images.source.fingerprint()}".encode())
        self.file = folder / f"canvas-{key.hexdigest()[:24]}.safetensors"
        self._name = images.name
        self._sizes = sizes
        self._shape = shape
        self._starts = range(0, shape[0], chunk)
        self._chunk = chunk

    def read_into(self, canvas: Tensor) -> bool:
        """Fill the canvas from the file; return whether it could, with a word when the file is damaged."""
        if not self.file.exists():
            return False
        try:
            with safe_open(self.file, framework="pt") as stored:
                checksums = stored.get_tensor("checksums")
                same_sizes = torch.equal(stored.get_tensor("sizes"), torch.from_numpy(self._sizes))
                _require(same_sizes, "it holds images of other sizes")
                pixels = stored.get_slice("canvas")
                same_shape = tuple(pixels.get_shape()) == self._shape and len(checksums) == len(self._starts)
                _require(same_shape, "it holds a canvas of another shape")
                for start, checksum in zip(self._starts, checksums.tolist(), strict=True):
                    part = pixels[start : start + self._chunk]
                    _require(zlib.crc32(part.numpy()) == checksum, f"a checksum does not fit from image {start} on")
                    canvas[start : start + self._chunk].copy_(part)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, it can be made anew
            _say(f"{self._name}: the cache {self.file} is damaged ({error}); the images are decoded again")
            return False
        return True

    def writing(self, chunks: Iterator[tuple[int, NDArray[np.uint8]]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Pass the chunks on, writing each; without room or permission, say so and only pass them on."""
        unfinished = self.file.with_name(f"{self.file.name}.{os.getpid()}.unfinished")
        header = _safetensors_header(
            {
                "sizes": ("I64", self._sizes.shape, self._sizes.nbytes),
                "checksums": ("I64", (len(self._starts),), 8 * len(self._starts)),
                "canvas": ("U8", self._shape, int(np.prod(self._shape, dtype=np.int64))),
            }
        )
        checksums: list[int] = []

        def attempt(write: Callable[[], object]) -> bool:
            try:
                write()
            except OSError as error:
                _say(f"{self._name}: cannot write the cache {self.file} ({error.strerror}); going on without")
                return False
            return True

        def finish() -> None:
            with unfinished.open("r+b") as file:
                file.seek(len(header) + self._sizes.nbytes)
                file.write(np.array(checksums, dtype=np.int64).tobytes())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.file)

        try:
            beginning = header + self._sizes.tobytes() + bytes(8 * len(self._starts))
            writing = attempt(lambda: self.file.parent.mkdir(parents=True, exist_ok=True))
            writing = writing and attempt(lambda: unfinished.write_bytes(beginning))
            for start, pixels in chunks:
                if writing:
                    writing = attempt(partial(_append, unfinished, pixels))
                    checksums.append(zlib.crc32(pixels.data))
                yield start, pixels
            writing = writing and attempt(finish)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def _append(unfinished: Path, pixels: NDArray[np.uint8]) -> None:
    with unfinished.open("ab") as file:
        file.write(pixels.data)


def _safetensors_header(tensors: dict[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    """Length of the description, then the description as JSON, filled up with spaces to a multiple of 8 bytes."""
    described: dict[str, object] = {}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
