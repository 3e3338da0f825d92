"""A folder for one command at a time; nothing here needs torch."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made; the system lifts the lock however the process ends.

    Args:
        folder: Removed at the end where it is new and nothing came of it.

    Raises:
        ValueError: If another process is at work there.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as file:
        try:
            # Of the process: workers that are forked from it do not keep it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno()))
        except (BlockingIOError, PermissionError, FileNotFoundError):
            ours = False
        except OSError as error:  # a file system without locks
            print(f"{folder}: no lock ({error.strerror}): let no two commands write here at once", file=sys.stderr)
            ours = True
        if not ours:
            raise ValueError(f"{folder} is in use by another command: wait, or give another --out")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            if new and not any(folder.iterdir()):
                folder.rmdir()
