"""Learners side by side: each takes its own steps, on a GPU on a stream of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from inference.fitting.kl_objective import KLObjective
from inference.fitting.schedule import CosineSchedule
from inference.fitting.side_by_side import SideBySide
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy
from models.byol import BYOL
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam

INPUTS, DIM, BATCH, STEPS = 7, 6, 8, 9


def learner_of(method: Any, device: str = "cpu", *, record: bool = True) -> StepwiseLearner:
    torch.manual_seed(5)
    target = ExponentialMovingAverage(0.9) if method is BYOL else StopGradientCopy()
    pair = method(nn.Linear(INPUTS, 8), 8, dim=DIM, hidden=4)
    schedule = CosineSchedule(0.25, STEPS, 2)
    return StepwiseLearner(pair, KLObjective(), target, schedule=schedule, gradient_clip=1.0, record=record).to(device)


def train(learners: list[StepwiseLearner]) -> list[list[Any]]:
    together = SideBySide(learners)
    draw = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        views = [torch.randn(BATCH, INPUTS, generator=draw).to(together.device) for _ in range(2)]
        together.step([views] * len(learners))
    together.join()
    return [learner.read_steps() for learner in learners]


@pytest.mark.parametrize("method", [SimSiam, BYOL, VISimSiam])
def test_company_changes_no_bit(method: Any) -> None:
    alone, among = learner_of(method), learner_of(method)
    (expected,) = train([alone])
    read = train([learner_of(VISimSiam), among, learner_of(SimSiam)])
    assert read[1] == expected
    for name, tensor in among.pair.state_dict().items():
        assert torch.equal(tensor, alone.pair.state_dict()[name]), name
    assert expected[-1].loss != expected[0].loss


def test_who_is_left_out_takes_no_more_steps() -> None:
    learners = [learner_of(SimSiam), learner_of(VISimSiam)]
    together = SideBySide(learners)
    views = [torch.randn(BATCH, INPUTS) for _ in range(2)]
    together.step([views, views])
    together.leave_out(learners[0])
    together.step([views])
    assert [learner.step for learner in learners] == [1, 2]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="learners must be at least one"):
        SideBySide([])
    elsewhere = learner_of(SimSiam, "meta")
    with pytest.raises(ValueError, match="learners must be on one device, got cpu, meta"):
        SideBySide([learner_of(SimSiam), elsewhere])


def test_on_a_gpu_each_step_waits_for_its_views_and_reading_waits_for_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Streams are stood in for; the order of what is asked of them is what a GPU would need."""
    asked: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Any) -> None:
            asked.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream: Stream) -> Any:
        asked.append(f"on {stream.name}")
        yield
        asked.append(f"off {stream.name}")

    learner = learner_of(SimSiam)
    together = SideBySide([learner])
    together._streams[learner] = Stream("own")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: asked.append(f"kept for {stream.name}"))
    monkeypatch.setattr(learner, "training_step", lambda *_: asked.append("step"))
    together.step([[torch.randn(BATCH, INPUTS) for _ in range(2)]])
    together.join()
    assert asked == [
        "own waits for main", "kept for own", "kept for own", "on own", "step", "off own", "main waits for own",
    ]  # fmt: skip


@pytest.mark.gpu
def test_side_by_side_on_a_gpu_gives_the_weights_of_eager_steps() -> None:
    torch.backends.cudnn.deterministic = True
    methods = [SimSiam, BYOL, VISimSiam]
    recorded, eager = ([learner_of(method, "cuda", record=record) for method in methods] for record in (True, False))
    train(recorded)
    train(eager)
    for ours, theirs in zip(recorded, eager, strict=True):
        for name, tensor in ours.pair.state_dict().items():
            torch.testing.assert_close(tensor, theirs.pair.state_dict()[name], rtol=1e-5, atol=1e-6)
