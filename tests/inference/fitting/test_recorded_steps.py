"""A training by recorded steps takes the steps of one without, and keeps what a recording would overwrite."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from inference.fitting import stepwise
from inference.fitting.cuda_graphs import WARM_UP, GraphedStep
from inference.fitting.finiteness import NotFiniteError
from inference.fitting.kl_objective import KLObjective
from inference.fitting.row_rate import LastRowRate
from inference.fitting.schedule import CosineSchedule
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from models.byol import BYOL
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

ROOT = Path(__file__).parents[3]
INPUTS, DIM, BATCH, STEPS = 7, 6, 8, 12
METHODS = pytest.mark.parametrize("method", [SimSiam, BYOL, VISimSiam])


class _Recording:
    """Stands in for a CUDA graph: its inputs and its output stay where they are, and nothing else is handed to it."""

    def __init__(self, taken: _Recorded, learner: StepwiseLearner) -> None:
        self.taken = taken
        self.learner = learner
        self.rate = learner._optimizer().param_groups[0]["lr"]
        self.replays = 0

    def replay(self) -> None:
        assert self.learner._optimizer().param_groups[0]["lr"] is self.rate  # read where it was recorded
        output = self.taken.step(*self.taken._inputs)
        if self.taken._output is None:
            self.taken._output = output
        self.taken._output.copy_(output)
        self.replays += 1


class _Recorded(GraphedStep):
    """A `GraphedStep` on a CPU: a recording computes nothing, a replay takes the step on the recorded inputs."""

    learner: StepwiseLearner

    @staticmethod
    def _can_record(inputs: Sequence[Tensor]) -> bool:
        del inputs
        return True

    def _warm_up(self, inputs: Sequence[Tensor]) -> Tensor:
        return self.step(*inputs).clone()

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [one.clone() for one in inputs]
        self._graph = _Recording(self, self.learner)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[_Recorded]:
    """Steps are recorded as on a GPU; the list receives what records them."""
    made: list[_Recorded] = []

    def make_recorded(step: Any) -> _Recorded:
        made.append(_Recorded(step))
        made[-1].learner = step.__self__
        return made[-1]

    monkeypatch.setattr(stepwise, "GraphedStep", make_recorded)
    return made


class Views:
    """The views of the steps from `start` on."""

    def __init__(self, start: int = 0, stop: int = STEPS, broken: int | None = None) -> None:
        self.start, self.stop, self.broken = start, stop, broken

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Tensor]]:
        for step in range(self.start, self.stop):
            draw = torch.Generator().manual_seed(step)
            views = [torch.randn(BATCH, INPUTS, generator=draw) for _ in range(3)]
            if step == self.broken:
                views[1].fill_(math.nan)
            yield views


def make_pair(method: Any) -> MultiViewPair:
    torch.manual_seed(5)
    pair: MultiViewPair = method(nn.Linear(INPUTS, 8), 8, dim=DIM, hidden=4)
    return pair


def make(pair: MultiViewPair, *, record: bool, **options: Any) -> StepwiseLearner:
    target: TargetRule = ExponentialMovingAverage(0.9) if isinstance(pair, BYOL) else StopGradientCopy()
    options = {"schedule": CosineSchedule(0.25, STEPS, 2), "gradient_clip": 1.0, **options}
    if isinstance(pair, VISimSiam):
        options["row_rate"] = LastRowRate(pair.concentration_rows, 3.0)
    return StepwiseLearner(pair, KLObjective(normalized=isinstance(pair, SimSiam)), target, record=record, **options)


def fit(learner: StepwiseLearner, views: Any, accelerator: str = "cpu") -> StepwiseLearner:
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers
        trainer.fit(learner, views)
    return learner


def require_same(one: StepwiseLearner, other: StepwiseLearner) -> None:
    assert one.step == other.step
    for name, tensor in one.pair.state_dict().items():
        assert torch.equal(tensor, other.pair.state_dict()[name]), name
    mine, its = one.optimizer_state(), other.optimizer_state()
    for number, entry in mine.items():
        assert torch.equal(entry["momentum_buffer"], its[number]["momentum_buffer"])


@METHODS
def test_recorded_steps_are_those_of_the_learner_that_records_nothing(method: Any, recorded: list[_Recorded]) -> None:
    ours, theirs = make(make_pair(method), record=True), make(make_pair(method), record=False)
    fit(ours, Views())
    fit(theirs, Views())
    (taken,) = recorded
    assert taken._graph.replays == STEPS - WARM_UP
    require_same(ours, theirs)
    assert ours.read_steps() == theirs.read_steps()  # every replay overwrote the numbers of the one before


@METHODS
def test_on_a_cpu_nothing_is_recorded(method: Any) -> None:
    ours, theirs = make(make_pair(method), record=True), make(make_pair(method), record=False)
    require_same(fit(ours, Views()), fit(theirs, Views()))
    assert ours.read_steps() == theirs.read_steps()


@pytest.mark.parametrize("method", [BYOL, VISimSiam])
@pytest.mark.parametrize("stop", [2, WARM_UP + 3])
def test_a_resumed_training_records_anew_and_ends_with_the_same_bits(
    method: Any, stop: int, recorded: list[_Recorded]
) -> None:
    whole = fit(make(make_pair(method), record=False), Views())
    first = fit(make(make_pair(method), record=True), Views(0, stop))
    second = make(copy.deepcopy(first.pair), record=True)
    second.resume(stop, first.optimizer_state())
    fit(second, Views(stop, STEPS))
    require_same(second, whole)
    assert [taken.recorded for taken in recorded] == [stop > WARM_UP, STEPS - stop > WARM_UP]


def test_every_fit_makes_a_recording_of_its_own(recorded: list[_Recorded]) -> None:
    learner = make(make_pair(SimSiam), record=True)
    for _ in range(2):
        fit(learner, Views(0, WARM_UP + 1))
    assert [taken._graph.replays for taken in recorded] == [1, 1]


@METHODS
@pytest.mark.parametrize("step", [1, WARM_UP + 2])
def test_what_is_not_a_number_is_found_and_named(method: Any, step: int, recorded: list[_Recorded]) -> None:
    learner = fit(make(make_pair(method), record=True), Views(broken=step))
    assert recorded[0].recorded
    reasons = []
    for one in (learner, fit(make(make_pair(method), record=False), Views(broken=step))):
        with pytest.raises(NotFiniteError) as caught:
            one.read_steps()
        assert caught.value.step == step
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]


def test_views_of_another_size_are_refused(recorded: list[_Recorded]) -> None:
    del recorded

    class Ragged(Views):
        def __iter__(self) -> Iterator[list[Tensor]]:
            for step, views in enumerate(super().__iter__()):
                yield [view[: 5 if step == STEPS - 1 else BATCH] for view in views]

    with pytest.raises(ValueError, match=r"like those of the first call.*drop a last incomplete batch"):
        fit(make(make_pair(SimSiam), record=True), Ragged())


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make(make_pair(SimSiam), record=True)
    monkeypatch.setattr(StepwiseLearner, "trainer", property(lambda _: SimpleNamespace(world_size=2, max_steps=-1)))
    with pytest.raises(ValueError, match="must be of one process, got 2: a recorded step does not average gradients"):
        learner.on_train_start()


def test_a_momentum_that_rises_is_refused() -> None:
    with pytest.raises(ValueError, match="target must have a constant momentum in a recorded step, got one that rises"):
        StepwiseLearner(
            make_pair(BYOL), KLObjective(), ExponentialMovingAverage(0.9, 10), schedule=lambda _: 0.1, record=True
        )


@pytest.mark.gpu
@METHODS
def test_replays_on_a_gpu_give_the_weights_of_eager_steps(method: Any) -> None:
    torch.backends.cudnn.deterministic = True
    ours, theirs = make(make_pair(method), record=True), make(make_pair(method), record=False)
    fit(ours, Views(), "gpu")
    fit(theirs, Views(), "gpu")
    for name, value in ours.pair.state_dict().items():
        torch.testing.assert_close(value, theirs.pair.state_dict()[name], rtol=1e-5, atol=1e-6)
    for mine, its in zip(ours.read_steps(), theirs.read_steps(), strict=True):
        assert math.isclose(mine.loss, its.loss, rel_tol=1e-4)
        assert math.isclose(mine.gradient_norm, its.gradient_norm, rel_tol=1e-3)


WAITING = """
import torch
from inference.fitting.cuda_graphs import GraphedStep
step = GraphedStep(lambda view: view * float(view.sum()), warm_up=1)
for _ in range(2):
    step(torch.ones(2, device="cuda"))
"""


@pytest.mark.gpu
def test_a_step_that_waits_for_the_gpu_cannot_be_recorded() -> None:
    # In a process of its own: after a recording that fails, torch's allocator takes it to go on, and the tests that
    # follow would have no GPU that can be relied on.
    command = [sys.executable, "-c", WAITING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    assert "RecordingError: the step cannot be recorded as a CUDA graph" in done.stderr
