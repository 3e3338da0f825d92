"""What happens between the steps of a pretraining: numbers are read and written, images evaluated, the state saved."""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import InitVar, dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from experiments.images.randomness import derived_seed
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import weights
from experiments.pretraining.images import TrainingImages, collapse_warning, spread
from experiments.pretraining.interruption import Interruption
from experiments.pretraining.metrics import MetricsTable, Row, readable_loss, step_row
from experiments.pretraining.run_folder import RunFolder
from inference.fitting.finiteness import NotFiniteError, StepValues
from inference.fitting.stepwise import StepwiseLearner

_NETWORKS = 3  # stream of random numbers, beside those of experiments.images.randomness
_READ_AT_LEAST_EVERY = 200  # steps: what is kept of a step until then is small, but not nothing


def seed_networks(seed: int, step: int, rank: int = 0) -> None:
    """Seed the global generators, which networks draw from, for a step of a run."""
    seed = derived_seed(seed, _NETWORKS, step, rank)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the generator that others' code draws from
    random.seed(seed)


@dataclass(eq=False, repr=False)
class PretrainingLoop(lightning.Callback):
    """Everything around the step. What the weights depend on is the step's number; what is here only watches and saves.

    Dropout and drop-path of a backbone draw from the global generators, which are seeded anew for each step: like order
    and views they are then functions of the step, and a resumed run needs no memory of them.

    Args:
        config: Of the run.
        folder: Of the run.
        learner: What is trained.
        images: What it is trained on.
        steps: Of the whole run.
        saved: Content of the checkpoint that the run goes on from.

    Attributes:
        interruption: Whether a signal asked the run to stop.
        saved_step: Step of the last good checkpoint of this run; `None` before the first.
    """

    config: PretrainConfig
    folder: RunFolder
    learner: StepwiseLearner
    images: TrainingImages
    steps: int
    saved: InitVar[dict[str, Any] | None]
    interruption: Interruption = field(default_factory=Interruption, init=False)
    saved_step: int | None = field(default=None, init=False)

    def __post_init__(self, saved: dict[str, Any] | None) -> None:
        self.steps_per_epoch = self.steps // self.config.training.epochs
        self._pending: list[StepValues] = []
        if saved is not None:
            self.saved_step = saved["step"]
            self._pending = [StepValues(*values) for values in saved["pending"]]
        self._opened = ExitStack()
        self._table: MetricsTable | None = None
        self._board: Any = None
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}
        self._timed_from = (0, 0.0)
        self._saved_at = 0.0
        self._warned = False

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Open the table and the bar, listen to signals."""
        step, opened = self.learner.step, self._opened.enter_context
        if trainer.is_global_zero:
            self._table = opened(closing(MetricsTable(self.folder.metrics, after_step=step)))
            if self.config.monitor.tensorboard:
                from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # who does without need not have it

                self._board = opened(closing(SummaryWriter(str(self.folder.tensorboard), purge_step=step + 1)))
            self._bar = tqdm(
                total=self.steps,
                initial=step,
                unit="step",
                desc=self.config.method.name,
                disable=not self.config.monitor.progress,
                mininterval=0.1 if sys.stderr.isatty() else 30.0,  # a bar in a file is a line each time
            )
            opened(self._bar)
        opened(self.interruption)
        self._timed_from = (step, time.monotonic())
        self._saved_at = time.monotonic()

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Give the networks' random numbers the step's own seed."""
        seed_networks(self.config.seed, self.learner.step, trainer.global_rank)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Do what is due after this step; on most steps nothing is, and nothing waits for the device."""
        step = self.learner.step
        epoch, rest = divmod(step, self.steps_per_epoch)
        epoch_ends, last = rest == 0, step == self.steps
        row_due = epoch_ends or step % self.config.monitor.every_steps == 0
        if row_due:
            self._read_together(trainer)
        stop = self.interruption.received is not None and (row_due or trainer.world_size == 1)
        if trainer.is_global_zero:
            save_due = last or stop or self._save_due(step, epoch if epoch_ends else None)
            if save_due or step % _READ_AT_LEAST_EVERY == 0:
                self._pending += self.learner.read_steps()
            if row_due:
                row = self._write_row(evaluated=epoch_ends and (epoch % self.config.monitor.every_epochs == 0 or last))
                if epoch_ends and not last:
                    self._look_for_collapse(row, epoch)
            if save_due:
                self._save(step)
            if self._bar is not None:
                self._bar.update()
        if stop:
            trainer.should_stop = True

    def on_exception(self, *_: Any) -> None:
        """Close everything, at the end and so that an error stands on a line of its own."""
        self._opened.close()

    def on_train_end(self, *_: Any) -> None:
        """Close everything: handlers of signals have to be put back before Lightning puts back those before its own."""
        self._opened.close()

    def _read_together(self, trainer: lightning.Trainer) -> None:
        """Read the steps in every process; all are asked to stop where one is, and raise where one failed."""
        failure: NotFiniteError | None = None
        read: list[StepValues] = []
        try:
            read = self.learner.read_steps()
        except NotFiniteError as error:
            failure = error
        if trainer.world_size > 1:
            state = torch.tensor(
                [failure is not None, self.interruption.received or 0], device=trainer.strategy.root_device
            )
            torch.distributed.all_reduce(state, torch.distributed.ReduceOp.MAX)
            failed, received = state.tolist()
            self.interruption.received = received or None
            if failed and failure is None:
                failure = NotFiniteError(self.learner.step - 1, "another process met NaN or infinity by this step")
        if failure is not None:
            raise failure
        if trainer.is_global_zero:
            self._pending += read

    def _save_due(self, step: int, ended_epoch: int | None) -> bool:
        settings = self.config.checkpoints
        due = settings.every_steps is not None and step % settings.every_steps == 0
        due |= ended_epoch is not None and ended_epoch % settings.every_epochs == 0
        return due and time.monotonic() - self._saved_at >= settings.seconds_apart

    def _look_for_collapse(self, row: dict[str, float], epoch: int) -> None:
        """Warn of a collapse after the first epoch that shows one; what the end shows is said at the end."""
        if self._warned or self.images.held_out is None:
            return
        seen = row if "standard_deviation" in row else spread(self.learner.pair, self.images.held_out)
        if warning := collapse_warning(seen, self.learner.pair.dim):
            self._warned = True
            tqdm.write(f"warning: after epoch {epoch} {warning}", file=sys.stderr)

    def _write_row(self, *, evaluated: bool) -> Row:
        step, (from_step, from_time) = self.learner.step, self._timed_from
        images = (step - from_step) * self.config.training.batch_size
        row = step_row(self.learner, self._pending, self.steps_per_epoch, images / (time.monotonic() - from_time))
        self._pending = []
        if evaluated:
            row |= self.images.evaluate(self.learner.pair)
        assert self._table is not None and self._bar is not None  # noqa: S101, PT018  # this process writes
        self._table.append(row)
        if self._board is not None:
            for name in row.keys() - {"step"}:
                self._board.add_scalar(name, row[name], step)
        name, loss = readable_loss(self.config, row["loss"])
        self._shown |= {name: f"{loss:.3f}"} | {name: f"{row[name]:.3f}" for name in ("knn",) if name in row}
        self._bar.set_postfix(self._shown, refresh=False)
        self._timed_from = (step, time.monotonic())
        return row

    def _save(self, step: int) -> None:
        """Save the state, unless it is already bad: the last good checkpoint is worth more."""
        started = time.monotonic()
        state = {name: tensor.cpu() for name, tensor in weights(self.learner.pair).items()}
        optimizer = self.learner.optimizer_state()
        _require_finite(state, optimizer, step)
        assert self._table is not None  # noqa: S101  # this process writes
        self._table.to_disk()
        self.folder.save(
            {
                "config": json.dumps(self.config.to_dict()),
                "step": step,
                "images": len(self.images.images),
                "content": self.images.images.content,
                "weights": state,
                "optimizer": optimizer,
                "pending": [[values.step, values.loss, values.gradient_norm] for values in self._pending],
            }
        )
        self.saved_step = step
        self._saved_at = time.monotonic()
        from_step, from_time = self._timed_from
        self._timed_from = (from_step, from_time + self._saved_at - started)


def _require_finite(state: dict[str, Tensor], optimizer: dict[int, dict[str, Any]], step: int) -> None:
    remembered = {f"{name} of parameter {n}": value for n, entry in optimizer.items() for name, value in entry.items()}
    for name, tensor in {**state, **remembered}.items():
        if isinstance(tensor, Tensor) and not bool(tensor.isfinite().all()):
            raise NotFiniteError(step - 1, f"the loss is finite, but {name} holds NaN or infinity after the step")
