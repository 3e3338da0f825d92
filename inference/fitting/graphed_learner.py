"""A training counted in steps, each of which a GPU replays as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from inference.fitting.cuda_graphs import GraphedStep, learning_rate_on_device
from inference.fitting.finiteness import StepRecord
from inference.fitting.kl_objective import full_precision
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage


class GraphedLearner(StepwiseLearner):
    """A `StepwiseLearner` whose steps, after the first few, are replays of a recorded one.

    What is recorded is the whole step: forward, objective, backward, clipping, optimiser, target rule. Around it
    nothing changes. The learning rate is a tensor that each step is given anew; the views are drawn outside and copied
    to where the recorded ones lay; of each step's numbers, which the next replay overwrites, a copy is kept until they
    are read. Weights, the optimiser's memory and the target's weights are changed in place, so that evaluations and
    checkpoints between the steps see them as ever. A recording is no part of a checkpoint: every fit begins with steps
    that are not recorded, and makes its own.

    On a CPU every step is an ordinary one. The steps of one training must have the same number of images and views, as
    those of `experiments.images` have, which drop a last incomplete batch.

    Args:
        *args: As for `StepwiseLearner`.
        **options: As for `StepwiseLearner`.

    Raises:
        ValueError: As for `StepwiseLearner`; when the fit starts, if there are several processes, whose gradients a
            recorded step does not average, or the target's momentum rises; in the fit, if views are not like those of
            the first step.
        RecordingError: In the fit, if a network does what cannot be recorded.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.automatic_optimization = False  # Lightning's own order of a step cannot be recorded as one
        self._replayed: Callable[..., Tensor] | None = None
        self._set_learning_rate: Callable[[float], None] | None = None
        self._example: StepRecord | None = None

    def on_train_start(self) -> None:
        """Forget what another fit has recorded; see to it that the learning rate can change after the recording."""
        if self.trainer.world_size > 1:
            raise ValueError(
                f"a training by CUDA graphs must be of one process, got {self.trainer.world_size}: a recorded step "
                "does not average gradients"
            )
        self.start()

    def start(self, *, record: bool = True) -> None:
        """Begin a fit with the optimiser that was made last; Lightning calls this, a loop of one's own has to.

        Args:
            record: Whether a GPU records the step.

        Raises:
            ValueError: If the target's momentum rises.
        """
        if isinstance(self.target, ExponentialMovingAverage) and self.target.steps is not None:
            raise ValueError(
                "target must have a constant momentum in a recorded step, got one that rises with the steps"
            )
        self._set_learning_rate = learning_rate_on_device(self._optimizer())
        self._replayed = GraphedStep(self._whole_step) if record else self._whole_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Give the optimiser the step's learning rate."""
        assert self._set_learning_rate is not None  # noqa: S101  # the fit has started
        self._set_learning_rate(self.schedule(self.step))

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Take the step, keep a record of it, and count."""
        assert self._replayed is not None  # noqa: S101  # the fit has started
        packed = self._replayed(*batch)
        assert self._example is not None  # noqa: S101  # the first call is no replay
        record = self._example.like(self.step, packed)
        self._records.append(record)
        self.step += 1
        return record.loss

    def _whole_step(self, *views: Tensor) -> Tensor:
        """The step as a function of the views and of what lies on the device, the learning rate among it."""
        optimizer = self._optimizer()
        optimizer.zero_grad(set_to_none=True)  # not to zero: a gradient of a recording lies in the graph's own memory
        loss, terms = self.loss_and_terms(views)
        record = StepRecord.of(self.step, loss, terms)
        with full_precision(loss):  # half precision is for the forward alone, as where Lightning orders the step
            loss.backward()
            record.gradient_norm = self._clip(optimizer)
            optimizer.step()
            self.target.update(self.pair)
        self._example = record
        return record.packed()
