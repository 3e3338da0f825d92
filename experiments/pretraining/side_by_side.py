"""Many short pretrainings in one process: for one GPU, which a single recorded step of a small network leaves idle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

from experiments.command_line.lock import alone
from experiments.images.batches import ViewBatches
from experiments.images.device_images import DeviceImages, to_device
from experiments.pretraining.building import build_learner, build_pair, build_schedule, build_target_rule
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import weights
from experiments.pretraining.images import TrainingImages, save_features
from experiments.pretraining.loop import seed_networks
from experiments.pretraining.metrics import MetricsTable, step_row
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import export_run, prepare_device, start_from
from inference.fitting.cuda_graphs import WARM_UP, GraphedStep
from inference.fitting.finiteness import NotFiniteError
from inference.fitting.side_by_side import SideBySide
from inference.fitting.stepwise import StepwiseLearner

FEATURES = "features.npz"
"""In a run's folder: features of the held-out images in float16, κ, labels and the images' numbers."""

_TIMED_STEPS, _TIMED_SECONDS = 20, 10.0  # whichever ends first
_SHARED = (
    "data", "engine", "monitor", "training.epochs", "training.batch_size", "views.size", "views.mean", "views.std"
)  # fmt: skip


@dataclass(eq=False)
class _Run:
    """One of the trainings; `failure` says why it takes no more steps."""

    config: PretrainConfig
    learner: StepwiseLearner
    initial: dict[str, Tensor]
    failure: str | None = None
    table: MetricsTable = field(init=False)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.config.out)

    @property
    def key(self) -> object:
        """The same for runs that see the same views."""
        return self.config.seed, self.config.views


class _Views:
    """The views of a step for the runs that share them: drawn once, on a GPU by a recorded program."""

    def __init__(self, batches: ViewBatches, *, record: bool) -> None:
        self.batches = batches
        self.made: Callable[..., Tensor] = GraphedStep(self._make) if record else self._make

    def __call__(self, step: int) -> list[Tensor]:
        inputs = [to_device(self.batches.order.batch(step), self.batches.images.device), *self.batches.draws(step)]
        shapes = [(len(inputs[0]), recipe.channels, recipe.size, recipe.size) for recipe in self.batches.recipes]
        parts = self.made(*inputs).split([math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _make(self, indices: Tensor, *draws: Tensor) -> Tensor:
        """All views in one tensor, as a recorded program hands them out."""
        images = self.batches.images
        assert isinstance(images, DeviceImages)  # noqa: S101  # asked before
        views = self.batches.make(images.canvas[indices], images.sizes[indices], *draws)
        return torch.cat([view.flatten() for view in views])


class PretrainingsSideBySide:
    """Pretrainings that take their steps in turns, with the weights that `pretrain` would give each of them alone.

    Runs of one seed, recipe of views and batch size see the same views, which are drawn once. On a GPU each run's step
    is recorded and replayed on a stream of its own, and so is the drawing of the views. There are no checkpoints and no
    resume: a row of metrics.csv is written after every epoch, the features of the held-out images with every
    evaluation, the encoder at the end.

    Args:
        configs: Of the runs: the same images, engine, number of epochs, batch size and monitor; one process each,
            images on the device. `engine.compile` concerns the networks alone.
        record: Whether a GPU records the steps, for which a target has to have a constant momentum.

    Raises:
        ValueError: If the configurations do not go together, a folder holds a run already, or the images cannot be
            used.
    """

    _together: SideBySide

    def __init__(self, configs: Sequence[PretrainConfig], *, record: bool = True) -> None:
        _require_together(configs)
        for config in configs:
            if RunFolder(config.out).holds_a_run():
                raise ValueError(f"{config.out} holds a run already, and none of these goes on: give another --out")
        first = self._first = configs[0]
        self._device = prepare_device(first.engine)
        self._images = TrainingImages.open(first, self._device)
        self._steps = self._images.order().batches_per_epoch
        self._record = record
        self._views: dict[object, _Views] = {}
        self._runs = [self._run(config) for config in configs]

    def fitting_epochs(self, seconds: float) -> int:
        """How many epochs, at most those configured, take no longer.

        A few steps and an evaluation are timed, and what that takes is no longer there for the epochs.

        Raises:
            ValueError: If not even one does.
        """
        end = time.monotonic() + seconds
        self._begin(self._first.training.epochs)
        for step in range(WARM_UP + 2):
            self._step(step)
        began, timed = self._now(), 0
        while timed < 1 or (timed < _TIMED_STEPS and time.monotonic() - began <= _TIMED_SECONDS):
            self._step(WARM_UP + 2 + timed)
            timed += 1
        an_epoch = (self._now() - began) / timed * self._steps
        began = self._now()
        for run in self._runs:
            self._images.evaluate(run.learner.pair)
        ended = self._now()
        an_evaluation, seconds = ended - began, end - ended

        def takes(epochs: int) -> float:
            return epochs * an_epoch + math.ceil(epochs / self._first.monitor.every_epochs) * an_evaluation

        found = max((n for n in range(1, self._first.training.epochs + 1) if takes(n) <= seconds), default=0)
        if not found:
            raise ValueError(
                f"{seconds:.0f} s are left after preparations; an epoch of {len(self._runs)} runs and an evaluation "
                f"take {takes(1):.1f} s: give more time"
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
                stack.enter_context(alone(run.folder.path))
                run.folder.open(run.config, None)
                run.table = stack.enter_context(closing(MetricsTable(run.folder.metrics, 0)))
            self._begin(epochs)
            for epoch in range(epochs):
                began = self._now()
                for step in range(self._steps):
                    self._step(epoch * self._steps + step)
                rate = self._steps * self._first.training.batch_size / (self._now() - began)
                evaluated = (epoch + 1) % self._first.monitor.every_epochs == 0 or epoch + 1 == epochs
                for run in self._active():
                    self._write_row(run, rate, evaluated=evaluated)
                if evaluated:
                    print(f"epoch {epoch + 1}: {rate:.0f} images/s for each of {len(self._active())} runs", flush=True)
            for run in self._active():
                export_run(run.learner.pair, run.config, run.folder)
        return {run.config.out: run.failure for run in self._runs if run.failure is not None}

    def _run(self, config: PretrainConfig) -> _Run:
        pair = build_pair(config)
        if config.init_from is not None:
            start_from(pair, config, Path(config.init_from).expanduser())
        steps = config.training.epochs * self._steps
        learner = build_learner(config, pair, steps, self._steps, record=self._record)
        learner.to(self._device)
        run = _Run(config, learner, {name: tensor.clone() for name, tensor in weights(pair).items()})
        if run.key not in self._views:
            images = replace(self._images, config=config)
            batches = images.batches(images.order(), 0, steps)
            self._views[run.key] = _Views(batches, record=self._record)
        return run

    def _active(self) -> list[_Run]:
        return [run for run in self._runs if run.failure is None]

    def _begin(self, epochs: int) -> None:
        """Put everything where it was before the first step."""
        for run in self._runs:
            run.learner.schedule = build_schedule(run.config, epochs * self._steps, self._steps)
            run.learner.target = build_target_rule(run.config, epochs * self._steps)
            run.learner.resume(0, {})
            run.learner.pair.load_state_dict(run.initial, strict=False)  # the other names are aliases
        half = torch.bfloat16 if self._first.engine.precision == "bf16-mixed" else None
        self._together = SideBySide([run.learner for run in self._runs], precision=half)

    def _step(self, step: int) -> None:
        active = self._active()
        seeds = {run.learner: run.config.seed for run in active}
        views = {key: self._views[key](step) for key in dict.fromkeys(run.key for run in active)}
        self._together.step(
            [views[run.key] for run in active], before=lambda learner: seed_networks(seeds[learner], step)
        )

    def _now(self) -> float:
        """The time when all steps so far are done."""
        self._together.join()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.monotonic()

    def _write_row(self, run: _Run, rate: float, *, evaluated: bool) -> None:
        try:
            row = step_row(run.learner, run.learner.read_steps(), self._steps, rate)
        except NotFiniteError as error:
            run.failure = str(error)
            self._together.leave_out(run.learner)
            return
        if evaluated:
            assert self._images.held_out is not None  # noqa: S101  # this process watches
            row |= self._images.evaluate(run.learner.pair)
            save_features(run.folder.path / FEATURES, run.learner.pair, self._images.held_out)
        run.table.append(row)


def _require_together(configs: Sequence[PretrainConfig]) -> None:
    if not configs:
        raise ValueError("configs must be at least one, got none")
    for name in _SHARED:
        if any(attrgetter(name)(config) != attrgetter(name)(configs[0]) for config in configs):
            raise ValueError(f"configs must have the same {name} to be trained side by side, got several")
    if len({config.out for config in configs}) < len(configs):
        raise ValueError("configs must have folders of their own as out, got the same for several")
    if configs[0].data.path != "resident" or configs[0].engine.processes > 1:
        raise ValueError("configs must have data.path resident and one process to be trained side by side")
