"""A training step that is recorded once and replayed as a CUDA graph, without running Python or Pyro again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ssl_as_inference.graphical_model import MultiViewPair

WARM_UP = 5
"""Steps before the recording: cuDNN chooses its algorithms, torch.compile compiles, the optimiser makes its buffers."""


class TrainingStep:
    """Forward, objective, backward, optimiser and what follows it: one step as a function of the views.

    It does not wait for the device and keeps no Python state, so `GraphedStep` can record it.

    Args:
        loss: Views to a scalar.
        optimizer: Over the trainable parameters.
        then: Called after the optimiser's step, such as a target rule's update.
        precision: Half precision of the networks under autocast; `None` for the parameters' own.
    """

    def __init__(
        self,
        loss: Callable[[Sequence[Tensor]], Tensor],
        optimizer: Optimizer,
        *,
        then: Callable[[], object] = lambda: None,
        precision: torch.dtype | None = None,
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.then = then
        self.precision = precision

    def __call__(self, *views: Tensor) -> Tensor:
        """Take the step; returns the loss before it, without its graph."""
        # To None, not to zero: a gradient made during a recording lies in the graph's own memory.
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(views[0].device.type, self.precision, enabled=self.precision is not None):
            loss = self.loss(views)
        loss.backward()
        self.optimizer.step()
        self.then()
        return loss.detach()


class RecordingError(RuntimeError):
    """A step cannot be recorded."""


class GraphedStep:
    r"""A step on the GPU that is recorded once and then replayed; on a CPU, the step itself.

    A step launches some thousand kernels, which at ImageNette's sizes take the GPU less time than Python needs to
    launch them: 5 to 10 ms with eager networks, of which Pyro's handlers and small distributions are about one. Pyro's
    handlers also split a program into a dozen pieces under `torch.compile`. With a CUDA graph, Python runs only while
    the step is recorded. A replay launches all of its kernels at once.

    The first calls are ordinary steps on a stream of their own. The next call records one and replays it, and so does
    every call after it. What is recorded stays: memory addresses, shapes, and numbers that Python handed to a kernel.
    Therefore

    - inputs are copied to where the recorded ones lay, and must have their shapes, dtypes and memory formats;
    - parameters, buffers and the optimiser's state must be changed in place, as `load_state_dict` does for a module;
      after an optimiser's `load_state_dict`, or a new κ of an expert, use a new `GraphedStep`;
    - a learning rate that changes has to be a tensor: `learning_rate_on_device`;
    - random numbers may only be drawn from the default generator of the device. Draw the views outside.

    It is for one process: a recorded step does not average gradients between processes.

    Args:
        step: Tensors on one device to a tensor. It must not wait for the device. `TrainingStep` is one.
        warm_up: Number of calls before the recording, at least 1.

    Raises:
        ValueError: If `warm_up` is less than 1; when called, if inputs are not like those of the first call.
        RecordingError: When called, if the step does what cannot be recorded.

    Example:
        >>> weights = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = torch.optim.SGD([weights], lr=0.5)
        >>> step = GraphedStep(TrainingStep(lambda views: (weights - views[0]).square().sum(), optimizer))
        >>> step(torch.ones(2)), step(torch.ones(2))
        (tensor(2.), tensor(0.))
    """

    def __init__(self, step: Callable[..., Tensor], *, warm_up: int = WARM_UP) -> None:
        if warm_up < 1:
            raise ValueError(f"warm_up must be at least 1, got {warm_up}")
        self.step = step
        self.warm_up = warm_up
        self._calls = 0
        self._expected: list[Any] = []
        self._inputs: list[Tensor] = []
        self._output: Tensor | None = None
        self._graph: Any = None
        self._stream: Any = None

    @property
    def recorded(self) -> bool:
        """Whether calls are replays by now."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Take a step; returns what it returns, in memory of its own."""
        self._check(inputs)
        if not self._can_record(inputs):
            return self.step(*inputs)
        if self._calls < self.warm_up:
            self._calls += 1
            return self._warm_up(inputs)
        if self._graph is None:
            self._record(inputs)
        else:
            for kept, given in zip(self._inputs, inputs, strict=True):
                kept.copy_(given, non_blocking=True)
        self._graph.replay()
        assert self._output is not None  # noqa: S101  # recorded
        return self._output.clone()

    @staticmethod
    def _can_record(inputs: Sequence[Tensor]) -> bool:
        return inputs[0].device.type == "cuda"

    def _check(self, inputs: Sequence[Tensor]) -> None:
        if not inputs:
            raise ValueError("inputs must be at least one tensor, got none")
        given = [(tuple(one.shape), one.dtype, one.device, one.stride()) for one in inputs]
        self._expected = self._expected or given
        if given != self._expected:
            raise ValueError(
                f"inputs must be like those of the first call, {_described(self._expected)}, got {_described(given)}; "
                "drop a last incomplete batch, or use another GraphedStep for it"
            )

    def _warm_up(self, inputs: Sequence[Tensor]) -> Tensor:
        # Not on the default stream, where nothing can be recorded: what the step keeps, such as an optimiser's buffers,
        # is made on a stream like the recording's. A caller's own stream serves: torch has 32, which it gives out again
        # and again, and what is recorded on one stream shares work memory of matrix products.
        current = torch.cuda.current_stream(inputs[0].device)
        if self._stream is None:
            default = current == torch.cuda.default_stream(inputs[0].device)
            self._stream = torch.cuda.Stream(inputs[0].device) if default else current
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            output = self.step(*inputs).clone()
        current.wait_stream(self._stream)
        return output

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [one.clone() for one in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as a data loader's that pins memory, may use CUDA while this one records.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._output = self.step(*self._inputs)
        except RuntimeError as error:
            cause = error.__context__ or error  # after an error of the step, the end of the recording raises another
            raise RecordingError(
                "the step cannot be recorded as a CUDA graph, as none can that waits for the device or copies from the "
                f"processor's memory: {str(cause).splitlines()[0]}"
            ) from error
        self._graph = graph


def _described(tensors: Sequence[Any]) -> str:
    return ", ".join(f"{shape} {dtype} on {device} with strides {strides}" for shape, dtype, device, strides in tensors)


def learning_rate_on_device(optimizer: Optimizer) -> Callable[[float], None]:
    """Keep an optimiser's learning rate in a tensor on the device, and return a function that sets it.

    A recorded step reads the tensor at each replay; a plain number would keep its recorded value. The optimiser must
    accept a tensor, as torch's fused ones do.

    Args:
        optimizer: Its first group gets the tensor.

    Returns:
        A function of the new learning rate; it does not wait for the device.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5, fused=True)
        >>> set_learning_rate = learning_rate_on_device(optimizer)
        >>> set_learning_rate(0.25)
        >>> optimizer.param_groups[0]["lr"]
        tensor(0.2500)
    """
    group = optimizer.param_groups[0]
    rate = group["lr"] = torch.full((), float(group["lr"]), device=group["params"][0].device)

    def set_learning_rate(value: float) -> None:
        rate.fill_(value)

    return set_learning_rate


def compile_networks(pair: MultiViewPair) -> None:
    """Let `torch.compile` compile the pair's networks in place; the objective around them stays as it is.

    Pyro's handlers break a compiled program into pieces at every site, and nearly all of the time is spent in the
    networks. `GraphedStep` removes the rest of Python's work from a step, so compiling more would gain nothing. Names
    in the state dict do not change.

    Args:
        pair: Its encoder, the network behind its predictor and the guide's network are compiled for each shape of their
            inputs, when they are first called with it.
    """
    head = pair.model.predictor
    networks = [pair.model.encoder, getattr(head, "network", head), pair.guide.network]
    for network in dict.fromkeys(networks):
        network.compile(dynamic=False)
