"""Files that keep what was read from a set, so that a second start reads them instead.

Each part is a checkpoint with a checksum that is written whole or not at all: a start that was interrupted has kept
what it had made, and of a damaged cache only the damaged parts are made again. The folder of a set is called by a hash
of all that its parts depend on; so a changed set has another folder, and the old one can be deleted.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from inference.fitting.checkpointing import CheckpointError, load_checkpoint, save_checkpoint

FORMAT = "ssl-as-inference/cache/3"


class Cache:
    """Read or write numbered parts of something that was made of a set.

    Args:
        name: What to call the set in messages.
        folder: Where the set's own folder lies, which is made when it is first written; `None` to keep nothing. A ~
            stands for the home folder.
        kind: What is kept, the beginning of the own folder's name.
        depends_on: All that the parts depend on.
    """

    def __init__(self, name: str, folder: str | Path | None, kind: str, *depends_on: object) -> None:
        key = hashlib.sha256(repr((FORMAT, *depends_on)).encode()).hexdigest()
        self.folder = None if folder is None else Path(folder).expanduser() / f"{kind}-{key[:24]}"
        self._name = name

    def read(self, part: int) -> dict[str, Any] | None:
        """What was written, with a word where it is damaged; `None` where there is nothing."""
        if self.folder is None or not _file(self.folder, part).exists():
            return None
        try:
            return load_checkpoint(_file(self.folder, part), FORMAT)
        except CheckpointError as error:
            print(f"{self._name}: {error}; its images are read again", file=sys.stderr)
            return None

    def write(self, part: int, content: dict[str, Any]) -> None:
        """Keep a part; without room or permission, say so once and write no more."""
        if self.folder is None:
            return
        try:
            # Several processes may fill a cache at once: each writes under a name of its own.
            file = _file(self.folder, part)
            own = file.with_name(f"{file.name}.{uuid4().hex}")
            save_checkpoint(content, own, FORMAT)
            own.replace(file)
        except OSError as error:
            print(f"{self._name}: cannot write {self.folder} ({error.strerror}); going on without", file=sys.stderr)
            self.folder = None


def _file(folder: Path, part: int) -> Path:
    return folder / f"{part:08d}.ckpt"
