"""Many short pretrainings in one process: for one GPU, which a single recorded step of a small network leaves idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.images.batches import ViewBatches
from experiments.images.device_images import DeviceImages, to_device
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import weights
from experiments.pretraining.images import TrainingImages, WatchedImages
from experiments.pretraining.loop import seed_networks
from experiments.pretraining.metrics import MetricsTable
from experiments.pretraining.monitor import evaluate_online
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import build_learner, export_run, prepare_device
from inference.fitting.checkpointing import CheckpointError, replace_file
from inference.fitting.cuda_graphs import WARM_UP, GraphedStep
from inference.fitting.finiteness import NotFiniteError
from inference.fitting.graphed_learner import GraphedLearner
from inference.fitting.schedule import CosineSchedule
from inference.fitting.side_by_side import SideBySide
from inference.judging.representation import represent
from ssl_as_inference.graphical_model import MultiViewPair

FEATURES = "features.npz"
"""In a run's folder: features of the held-out images in float16, κ, labels and the images' numbers."""

_TIMED_STEPS, _TIMED_SECONDS = 20, 10.0  # whichever ends first


@dataclass(eq=False)
class _Run:
    """One of the trainings; `failure` says why it takes no more steps."""

    config: PretrainConfig
    folder: RunFolder
    learner: GraphedLearner
    initial: dict[str, Tensor]
    failure: str | None = None


@dataclass
class _Views:
    """The views of a step for the runs that share them: drawn once, on a GPU by a recorded program."""

    batches: ViewBatches
    record: bool
    _replayed: GraphedStep = field(init=False)

    def __post_init__(self) -> None:
        self._replayed = GraphedStep(self._packed)

    def __call__(self, step: int) -> list[Tensor]:
        inputs = [to_device(self.batches.order.batch(step), self.batches.images.device), *self.batches.draws(step)]
        if not self.record:
            return self._made(*inputs)
        shapes = [(len(inputs[0]), recipe.channels, recipe.size, recipe.size) for recipe in self.batches.recipes]
        parts = self._replayed(*inputs).split([int(np.prod(shape)) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _made(self, indices: Tensor, *draws: Tensor) -> list[Tensor]:
        images = self.batches.images
        assert isinstance(images, DeviceImages)  # noqa: S101  # asked before
        return self.batches.make(images.canvas[indices], images.sizes[indices], *draws)

    def _packed(self, *inputs: Tensor) -> Tensor:
        return torch.cat([view.flatten() for view in self._made(*inputs)])


class PretrainingsSideBySide:
    """Pretrainings that take their steps in turns, with the weights that `pretrain` would give each of them alone.

    Runs of one seed, recipe of views and batch size see the same views, which are drawn once. On a GPU each run's step
    is recorded and replayed on a stream of its own, and so is the drawing of the views. There are no checkpoints and no
    resume: a row of metrics.csv is written after every epoch, the features of the held-out images with every
    evaluation, the encoder at the end.

    Args:
        configs: Of the runs: the same images, engine, number of epochs, batch size and monitor; one process each,
            images on the device, a target of constant momentum. `engine.compile` concerns the networks alone.
        record: Whether a GPU records the steps.

    Raises:
        ValueError: If the configurations do not go together, a folder holds a run already, or the images cannot be
            used.
    """

    def __init__(self, configs: Sequence[PretrainConfig], *, record: bool = True) -> None:
        _require_together(configs)
        first = self._first = configs[0]
        self._device = prepare_device(first.engine)
        self._images = TrainingImages.open(first, self._device)
        self._order = self._images.order()
        self._record = record
        self._views: dict[object, _Views] = {}
        self._runs = [self._run(config) for config in configs]
        self._tables: dict[_Run, MetricsTable] = {}
        self._together: SideBySide | None = None

    def fitting_epochs(self, seconds: float) -> int:
        """How many epochs, at most those configured, take no longer: a few steps and an evaluation are timed.

        Raises:
            ValueError: If not even one does.
        """
        self._begin(self._first.training.epochs)
        for step in range(WARM_UP + 2):
            self._step(step)
        began = self._now()
        for count in range(1, _TIMED_STEPS + 1):
            self._step(WARM_UP + 1 + count)
            if count < _TIMED_STEPS and time.monotonic() - began > _TIMED_SECONDS:
                break
        an_epoch = (self._now() - began) / count * self._order.batches_per_epoch
        began = self._now()
        for run in self._runs:
            self._evaluate(run)
        an_evaluation = self._now() - began
        apart = self._first.monitor.every_epochs

        def takes(epochs: int) -> float:
            return epochs * an_epoch + -(-epochs // apart) * an_evaluation

        found = max((n for n in range(1, self._first.training.epochs + 1) if takes(n) <= seconds), default=0)
        if not found:
            raise ValueError(
                f"{seconds:.0f} s must be enough for an epoch of {len(self._runs)} runs and an evaluation, which take "
                f"{takes(1):.1f} s"
            )
        return found

    def train(self, epochs: int | None = None) -> dict[str, str]:
        """Train all runs to their ends.

        Args:
            epochs: Of each run, instead of the configured number.

        Returns:
            Why runs failed, by their folders.

        Raises:
            RecordingError: If a step cannot be recorded.
        """
        epochs = epochs or self._first.training.epochs
        with ExitStack() as stack:
            for run in self._runs:
                run.config = replace(run.config, training=replace(run.config.training, epochs=epochs))
                self._tables[run] = self._open(run, stack)
            self._begin(epochs)
            for epoch in range(1, epochs + 1):
                self._epoch(epoch, evaluate=epoch % self._first.monitor.every_epochs == 0 or epoch == epochs)
            for run in self._active():
                export_run(run.learner.pair, run.config, run.folder)
        return {run.config.out: run.failure for run in self._runs if run.failure is not None}

    @staticmethod
    def _open(run: _Run, stack: ExitStack) -> MetricsTable:
        stack.enter_context(run.folder.held())
        if run.folder.exported.exists():
            raise CheckpointError(f"{run.folder.path} holds a run already: give another folder as out")
        run.folder.open(run.config, None)
        table = MetricsTable(run.folder.metrics, 0)
        stack.callback(table.close)
        return table

    def _epoch(self, epoch: int, *, evaluate: bool) -> None:
        began, steps = self._now(), self._order.batches_per_epoch
        for step in range((epoch - 1) * steps, epoch * steps):
            self._step(step)
        rate = steps * self._first.training.batch_size / (self._now() - began)
        for run in self._active():
            self._read(run, epoch, rate, evaluate=evaluate)
        if evaluate:
            print(f"epoch {epoch}: {rate:.0f} images/s for each of {len(self._active())} runs", flush=True)

    def _run(self, config: PretrainConfig) -> _Run:
        pair = build_pair(config)
        steps = self._order.batches_per_epoch
        learner = build_learner(GraphedLearner, config, pair, config.training.epochs * steps, steps)
        learner.to(self._device)
        initial = {name: tensor.clone() for name, tensor in weights(pair).items()}
        key = self._key(config)
        if key not in self._views:
            images = replace(self._images, config=config)
            batches = images.batches(images.order(), 0, config.training.epochs * steps, compile_views=False)
            self._views[key] = _Views(batches, record=self._record and self._device.type == "cuda")
        return _Run(config, RunFolder(config.out), learner, initial)

    @staticmethod
    def _key(config: PretrainConfig) -> object:
        return config.seed, config.views

    def _active(self) -> list[_Run]:
        return [run for run in self._runs if run.failure is None]

    def _begin(self, epochs: int) -> None:
        """Put everything where it was before the first step."""
        steps = self._order.batches_per_epoch
        for run in self._runs:
            warmup = round(run.config.training.warmup_epochs * steps)
            run.learner.schedule = CosineSchedule(run.config.training.learning_rate, epochs * steps, warmup)
            run.learner.resume(0, {})
            run.learner.pair.load_state_dict(run.initial, strict=False)  # the other names are aliases
        half = torch.bfloat16 if self._first.engine.precision == "bf16-mixed" else None
        learners = [run.learner for run in self._runs]
        self._together = SideBySide(learners, precision=half, record=self._record)

    def _step(self, step: int) -> None:
        assert self._together is not None  # noqa: S101  # begun
        active = self._active()
        seeds = {run.learner: run.config.seed for run in active}
        views = {key: self._views[key](step) for key in dict.fromkeys(self._key(run.config) for run in active)}
        self._together.step(
            [views[self._key(run.config)] for run in active],
            before=lambda learner: seed_networks(seeds[learner], step),
        )

    def _now(self) -> float:
        """The time when all steps so far are done."""
        if self._together is not None:
            self._together.join()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.monotonic()

    def _read(self, run: _Run, epoch: int, rate: float, *, evaluate: bool) -> None:
        assert self._together is not None  # noqa: S101  # begun
        try:
            values = run.learner.read_steps()
        except NotFiniteError as error:
            run.failure = str(error)
            self._together.leave_out(run.learner)
            return
        row = {
            "step": run.learner.step,
            "epoch": epoch,
            "loss": sum(value.loss for value in values) / len(values),
            "gradient_norm": sum(value.gradient_norm for value in values) / len(values),
            "learning_rate": run.learner.schedule(run.learner.step - 1),
            "images_per_second": rate,
        }
        if evaluate:
            row |= self._evaluate(run)
            assert self._images.held_out is not None  # noqa: S101  # this process watches
            save_features(run.folder.path / FEATURES, run.learner.pair, self._images.held_out)
        self._tables[run].append(row)

    def _evaluate(self, run: _Run) -> dict[str, float]:
        assert self._images.held_out is not None  # noqa: S101  # this process watches
        return evaluate_online(
            run.learner.pair, self._images.neighbours, self._images.held_out, k=self._first.monitor.k
        )


def save_features(path: Path, pair: MultiViewPair, watched: WatchedImages) -> None:
    """Write what a network says of held-out images; an existing file is replaced in one piece.

    Args:
        path: An .npz file: `features` in float16, `concentration`, `labels`, and `indices` into the held-out set.
        pair: The networks.
        watched: The images.
    """
    seen = represent(pair, watched)
    arrays: dict[str, Any] = {
        "features": seen.features.to(torch.float16).numpy(),
        "concentration": seen.concentration.numpy(),
        "labels": watched.labels.numpy(),
        "indices": watched.indices.cpu().numpy(),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    replace_file(path, write)


def _require_together(configs: Sequence[PretrainConfig]) -> None:
    if not configs:
        raise ValueError("configs must be at least one, got none")
    shared: dict[str, Callable[[PretrainConfig], object]] = {
        "data": lambda config: config.data,
        "engine": lambda config: config.engine,
        "monitor": lambda config: config.monitor,
        "training.epochs": lambda config: config.training.epochs,
        "training.batch_size": lambda config: config.training.batch_size,
    }
    for name, read in shared.items():
        if any(read(config) != read(configs[0]) for config in configs):
            raise ValueError(f"configs must have the same {name} to be trained side by side, got several")
    if len({config.out for config in configs}) < len(configs):
        raise ValueError("configs must have folders of their own as out, got the same for several")
    if configs[0].data.path != "resident" or configs[0].engine.processes > 1:
        raise ValueError("configs must have data.path resident and one process to be trained side by side")
