"""What a small training shows while it runs: a progress bar over epochs, and nothing of Lightning's own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning
import torch
from tqdm import tqdm


class EpochBar(lightning.Callback):
    """One bar for a whole training: epochs done, time left, latest loss and neighbours' accuracy.

    Args:
        description: What is being trained.
        readable: A metric's name and value to the name and value that are shown; as they are when not given.
    """

    def __init__(self, description: str, readable: Callable[[str, float], tuple[str, float]] | None = None) -> None:
        super().__init__()
        self.description = description
        self.readable = readable or (lambda name, value: (name, value))
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Open the bar."""
        self._bar = tqdm(
            total=trainer.max_epochs, desc=self.description, unit="epoch", disable=not trainer.is_global_zero
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Advance it."""
        if self._bar is not None:
            metrics = sorted(trainer.progress_bar_metrics.items())
            shown = dict(self.readable(name, float(value)) for name, value in metrics)
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)
            self._bar.update()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Close the bar and leave it on the screen."""
        self._close()

    def on_exception(self, *_: object, **__: object) -> None:
        """Close the bar, so that the error stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def quiet_lightning(threads: int | None = None) -> Iterator[None]:
    """Train without Lightning's notes on devices, services and what it takes for oversights.

    Args:
        threads: Of computations on the CPU meanwhile. The digits are so small that threads would wait for one another
            longer than they compute, and many times longer on a machine that does other work as well: 1 is best there.
    """
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels, before = [logger.level for logger in loggers], torch.get_num_threads()
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            # Lightning's own use of a helper that torch has since deprecated.
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", ".*GPU available but not used.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if threads is not None:
            torch.set_num_threads(before)
