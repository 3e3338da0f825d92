"""What a training does not show while it runs: Lightning's own notes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Train without Lightning's notes on devices, services and what it takes for oversights; it stays quiet after."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning's own use of a helper that torch has since deprecated.
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        yield
