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

from torch import Tensor

from inference.fitting.checkpointing import CheckpointError, load_checkpoint, save_checkpoint

_FORMAT = "ssl-as-inference/canvas/2"


class CanvasCache:
    """Read or write parts of the canvas of a set.

    Args:
        name: What to call the set in messages.
        folder: Where the set's own folder lies; made when it is first written.
        stored: All that the pixels depend on, for the name of the set's own folder.
    """

    def __init__(self, name: str, folder: Path, *stored: object) -> None:
        key = hashlib.sha256(repr((_FORMAT, *stored)).encode()).hexdigest()
        self.folder = folder.expanduser() / f"canvas-{key[:24]}"
        self._name = name
        self._writes = True

    def read(self, start: int, canvas: Tensor) -> bool:
        """Fill the part of a canvas that begins with an image; return whether it could be, with a word on damage."""
        file = self._file(start)
        if not file.exists():
            return False
        try:
            canvas.copy_(load_checkpoint(file, _FORMAT)["pixels"])
        except CheckpointError as error:
            print(f"{self._name}: {error}; its images are decoded again", file=sys.stderr)
            return False
        return True

    def write(self, start: int, pixels: Tensor) -> None:
        """Keep a part; without room or permission, say so once and write no more."""
        if not self._writes:
            return
        try:
            save_checkpoint({"pixels": pixels}, self._file(start), _FORMAT)
        except OSError as error:
            print(f"{self._name}: cannot write {self.folder} ({error.strerror}); going on without", file=sys.stderr)
            self._writes = False

    def _file(self, start: int) -> Path:
        return self.folder / f"{start:08d}.ckpt"
