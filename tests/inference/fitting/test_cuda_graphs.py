"""A recorded step is the step: on a CPU it is called, on a GPU the replays give the eager weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from inference.fitting.cuda_graphs import (
    GraphedStep,
    RecordingError,
    TrainingStep,
    compile_networks,
    learning_rate_on_device,
)
from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy
from models.byol import BYOL
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

METHODS: dict[str, Callable[[], MultiViewPair]] = {
    "simsiam": lambda: SimSiam(small_convolutional_backbone(width=4), 16, dim=16),
    "byol": lambda: BYOL(small_convolutional_backbone(width=4), 16, dim=16, hidden=32),
    "vi_simsiam": lambda: VISimSiam(small_convolutional_backbone(width=4), 16, dim=16),
}


def _step(pair: MultiViewPair, precision: torch.dtype | None = None) -> tuple[TrainingStep, Callable[[float], None]]:
    rule = StopGradientCopy() if pair.guide.network is pair.model.encoder else ExponentialMovingAverage(0.9)
    objective = KLObjective()(pair.model, rule.guide(pair))

    def loss(views: Sequence[Tensor]) -> Tensor:
        with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
            nats: Tensor = objective(views) / len(views[0])
        return nats / (pair.dim - 1)

    held = [parameter for parameter in pair.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(held, lr=0.05, momentum=0.9, weight_decay=1e-4, fused=True)
    set_learning_rate = learning_rate_on_device(optimizer)
    step = TrainingStep(loss, optimizer, then=lambda: rule.update(pair), precision=precision)
    return step, set_learning_rate


def _train(pair: MultiViewPair, device: str, *, graphed: bool, steps: int = 12) -> tuple[list[float], GraphedStep]:
    step, set_learning_rate = _step(pair)
    taken = GraphedStep(step, warm_up=3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for number in range(steps):
        set_learning_rate(0.05 / (1 + number))
        views = [torch.rand(8, 1, 16, 16, generator=generator).to(device) for _ in range(2)]
        losses.append((taken if graphed else step)(*views))
    return [float(loss) for loss in losses], taken


@pytest.mark.parametrize("method", METHODS)
def test_on_a_cpu_it_is_the_step_itself(method: str) -> None:
    pair = METHODS[method]()
    twin = copy.deepcopy(pair)
    losses, taken = _train(pair, "cpu", graphed=True, steps=6)
    expected, _ = _train(twin, "cpu", graphed=False, steps=6)
    assert losses == expected
    assert not taken.recorded
    for name, value in pair.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # a compiler's advice on the GPU, such as to take TF32, is no failure
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_replays_give_the_weights_of_eager_steps(method: str, compiled: bool) -> None:
    torch.backends.cudnn.deterministic = True
    pair = METHODS[method]().cuda()
    twin = copy.deepcopy(pair)
    if compiled:
        compile_networks(pair)
    losses, taken = _train(pair, "cuda", graphed=True)
    expected, _ = _train(twin, "cuda", graphed=False)
    assert taken.recorded
    rtol, atol = (1e-3, 1e-4) if compiled else (1e-5, 1e-6)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=rtol, atol=atol)
    for name, value in pair.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=rtol, atol=atol)


class _FakeGraph:
    """As a CUDA graph: nothing happens while it is recorded, and a replay reads the recorded tensors."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of what is asked of CUDA, on a machine that has none."""
    asked: list[str] = []

    @contextmanager
    def noted(name: str) -> Any:
        asked.append(name)
        try:
            yield
        except RuntimeError:
            if name == "record":  # the end of what has failed fails, too
                raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
            raise

    class Stream:
        def __init__(self, *_: Any) -> None:
            asked.append("stream")

        def wait_stream(self, _: Any) -> None:
            asked.append("wait")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    default = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: default)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda *_: default)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: noted("on stream"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _FakeGraph)
    # A thread that pins memory for a data loader must not end the recording.
    modes = {"thread_local": "record"}
    monkeypatch.setattr(torch.cuda, "graph", lambda _graph, **given: noted(modes[given["capture_error_mode"]]))
    return asked


class _CudaTensor(Tensor):
    """A tensor that says it lies on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def test_warm_up_then_one_recording_then_replays_of_copied_inputs(fake_cuda: list[str]) -> None:
    seen: list[Tensor] = []

    def step(view: Tensor) -> Tensor:
        seen.append(view)
        return view.sum()

    taken = GraphedStep(step, warm_up=2)
    for number in range(5):
        taken(torch.full((2,), float(number)).as_subclass(_CudaTensor))
    assert len(seen) == 3  # two steps and the recording
    assert fake_cuda.count("on stream") == 2
    assert fake_cuda.count("record") == 1
    assert taken.recorded
    assert taken._graph.replays == 3
    assert seen[-1].as_subclass(Tensor).tolist() == [4.0, 4.0]  # the recorded input holds the last call's


def test_a_stream_of_the_callers_is_recorded_on(fake_cuda: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[Any] = []
    own = torch.cuda.Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: own)

    def note(_: object, stream: Any, **__: object) -> AbstractContextManager[None]:
        streams.append(stream)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "graph", note)
    taken = GraphedStep(torch.sum, warm_up=1)
    for _ in range(3):
        taken(torch.ones(2).as_subclass(_CudaTensor))
    assert streams == [own]
    assert fake_cuda.count("stream") == 2  # the default one and the caller's


def test_what_cannot_be_recorded_is_said(fake_cuda: list[str]) -> None:
    def step(view: Tensor) -> Tensor:
        if "record" in fake_cuda:
            raise RuntimeError("operation not permitted when stream is capturing\nMore of what CUDA says")
        return view.sum()

    taken = GraphedStep(step, warm_up=1)
    view = torch.ones(2).as_subclass(_CudaTensor)
    taken(view)
    with pytest.raises(RecordingError, match=r"as a CUDA graph, .*: operation not permitted when stream is capturing$"):
        taken(view)
    assert not taken.recorded


def test_other_inputs_are_refused() -> None:
    taken = GraphedStep(lambda view: view.sum())
    taken(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"like those of the first call, \(4, 3\).*got \(2, 3\).*drop a last"):
        taken(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least one tensor, got none"):
        taken()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="warm_up must be at least 1, got 0"):
        GraphedStep(torch.sum, warm_up=0)


def test_half_precision_reaches_the_loss_and_the_optimiser_not() -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    dtypes: list[torch.dtype] = []

    def loss(views: Sequence[Tensor]) -> Tensor:
        output: Tensor = layer(views[0])
        dtypes.append(output.dtype)
        return output.float().sum()

    TrainingStep(loss, optimizer, precision=torch.bfloat16)(torch.ones(4, 3))
    assert dtypes == [torch.bfloat16]
    assert layer.weight.dtype == torch.float32


def test_networks_are_compiled_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    pair = METHODS["simsiam"]()
    names = list(pair.state_dict())
    compile_networks(pair)
    assert compiled == [pair.model.encoder, pair.model.predictor.network]
    compile_networks(METHODS["byol"]())
    assert len(compiled) == 5
    assert list(pair.state_dict()) == names
