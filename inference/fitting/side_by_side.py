"""Several trainings in one process, step by step side by side: on a GPU each on a stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from inference.fitting.stepwise import StepwiseLearner


class SideBySide:
    """Learners that take their steps in turns, without a Trainer: each takes the steps that it would take alone.

    A recorded step of a small network leaves most of a GPU idle. Steps of several networks, each on a stream, fill it;
    on a CPU, which has no streams, nothing is gained. Learners may share the views of a step.

    Args:
        learners: Their pairs on one device, in training mode. Each gets a new optimiser.
        precision: Half precision of the networks under autocast; `None` for the parameters' own.

    Raises:
        ValueError: If there is no learner, or the pairs lie on several devices.

    Example:
        >>> from torch import nn
        >>> from inference.fitting.kl_objective import KLObjective
        >>> from inference.fitting.targets import StopGradientCopy
        >>> from models.simsiam import SimSiam
        >>> pairs = [SimSiam(nn.Linear(4, 8), 8, dim=6, hidden=4) for _ in range(2)]
        >>> learners = [StepwiseLearner(p, KLObjective(), StopGradientCopy(), schedule=lambda step: 0.1) for p in pairs]
        >>> together = SideBySide(learners)
        >>> views = [torch.randn(8, 4), torch.randn(8, 4)]
        >>> for _ in range(3):
        ...     losses = together.step([views, views])  # both on the same
        >>> [learner.step for learner in learners]
        [3, 3]
    """

    def __init__(self, learners: Sequence[StepwiseLearner], *, precision: torch.dtype | None = None) -> None:
        if not learners:
            raise ValueError("learners must be at least one, got none")
        devices = {parameter.device for learner in learners for parameter in learner.pair.parameters()}
        if len(devices) > 1:
            raise ValueError(f"learners must be on one device, got {', '.join(sorted(map(str, devices)))}")
        (self.device,) = devices
        self.precision = precision
        for learner in learners:
            learner.configure_optimizers()
            learner.start()
        self._streams: dict[StepwiseLearner, Any] = {
            learner: torch.cuda.Stream(self.device) if self.device.type == "cuda" else None for learner in learners
        }

    @property
    def learners(self) -> list[StepwiseLearner]:
        """Those that still take steps."""
        return list(self._streams)

    def leave_out(self, learner: StepwiseLearner) -> None:
        """Take no more steps of a learner."""
        del self._streams[learner]

    def step(
        self, views: Sequence[Sequence[Tensor]], before: Callable[[StepwiseLearner], object] = lambda _: None
    ) -> list[Tensor]:
        """Take the next step of each learner.

        Args:
            views: Of each learner, in the order of `learners`.
            before: Called with a learner before its step, for instance to seed what its networks draw.

        Returns:
            The loss of each, before the step; what reads them calls `join` before.
        """
        losses = []
        for learner, its in zip(self.learners, views, strict=True):
            with self._on_its_stream(learner, its), self._half_precision():
                before(learner)
                learner.on_train_batch_start(its, learner.step)
                losses.append(learner.training_step(its, learner.step))
        return losses

    def join(self) -> None:
        """Let what comes next on this thread's stream see all steps; call it before weights or numbers are read."""
        for stream in self._streams.values():
            if stream is not None:
                torch.cuda.current_stream(self.device).wait_stream(stream)

    def _half_precision(self) -> AbstractContextManager[None]:
        # Without a cache, as in Lightning's mixed precision: a weight that two views share is rounded for each of them,
        # and so their gradients add up in its own precision.
        half = self.precision is not None
        return torch.autocast(self.device.type, self.precision, enabled=half, cache_enabled=False)

    @contextmanager
    def _on_its_stream(self, learner: StepwiseLearner, views: Sequence[Tensor]) -> Iterator[None]:
        stream = self._streams[learner]
        if stream is None:
            yield
            return
        stream.wait_stream(torch.cuda.current_stream(self.device))  # where the views are made
        for view in views:
            view.record_stream(stream)  # their memory is not given to others before the step has read them
        with torch.cuda.stream(stream):
            yield
