"""The decoded pixels of a set in files, so that a second start reads them instead of decoding.

A set is kept in parts, each of them a checkpoint with a checksum that is written whole or not at all: a start that was
interrupted has cached what it had decoded, and of a damaged cache only the damaged parts are decoded again. The folder
of a set is called by a hash of the set's files, their sizes and times, and of how the images are stored; so a changed
set has another folder, and the old one can be deleted.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from experiments.images.image_sets import ImageSet
from inference.fitting.checkpointing import CheckpointError, load_checkpoint, save_checkpoint

_FORMAT = "ssl-as-inference/canvas/2"


class CanvasCache:
    """Read or write the canvas of a set.

    Args:
        folder: Where the set's own folder lies; made when it is first written.
        images: The set.
        storage_size: As the canvas was asked for.
        sizes: Height and width of each image on the canvas, int64 of shape `(images, 2)`.
        shape: Of the canvas.
        chunk: Images of a part.
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
        key.update(sizes.tobytes())
        self.folder = folder.expanduser() / f"canvas-{key.hexdigest()[:24]}"
        self._name = images.name
        self._writes = True

    def read_into(self, canvas: Tensor, part: slice) -> bool:
        """Fill a part of the canvas; return whether that could be, with a word when the file is damaged."""
        file = self._file(part)
        if not file.exists():
            return False
        try:
            canvas[part].copy_(load_checkpoint(file, _FORMAT)["pixels"])
        except CheckpointError as error:
            print(f"{self._name}: {error}; its images are decoded again", file=sys.stderr)
            return False
        return True

    def write(self, pixels: Tensor, part: slice) -> None:
        """Keep a part; without room or permission, say so once and write no more."""
        if not self._writes:
            return
        try:
            save_checkpoint({"pixels": pixels}, self._file(part), _FORMAT)
        except OSError as error:
            print(f"{self._name}: cannot write {self.folder} ({error.strerror}); going on without", file=sys.stderr)
            self._writes = False

    def _file(self, part: slice) -> Path:
        return self.folder / f"{part.start:08d}.ckpt"
