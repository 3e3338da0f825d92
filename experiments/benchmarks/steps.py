"""One training step through the Pyro pair and the KL objective, beside the same step in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.benchmarks.timing import Stopwatch, Times
from experiments.records.record import Cell
from experiments.special_cases import methods
from experiments.special_cases.recovery import Sgd, Training
from experiments.special_cases.stop_gradient import gradient
from inference.fitting.cuda_graphs import TrainingStep
from inference.fitting.pyro_settings import settings_for_training
from models.networks import resnet18_backbone

METHODS: dict[str, Callable[[methods.Size, int], tuple[Training, Training]]] = {
    "SimSiam": methods.simsiam,
    "BYOL": methods.byol,
    "VI-SimSiam": methods.vi_simsiam,
}

MOST_RATIO, MOST_DIFFERENCE, MOST_MEMORY = 1.03, 1e-3, 1.05
"""What a step through Pyro may cost: times the plain one's, seconds more, times the plain one's peak memory."""


class _Averages(nn.Module):
    """Each channel's mean: a backbone that takes no time."""

    def forward(self, view: Tensor) -> Tensor:
        return view.mean((-2, -1))


_SGD = Sgd(1e-3)
RESNET, ALONE = "ResNet-18", "no backbone"
NETWORKS = {
    RESNET: methods.Size(resnet18_backbone, resnet18_backbone, 512, 2048, 512, 64, 64, _SGD),
    # The same sphere and batch behind a network of next to no time, before which what surrounds it can be seen.
    ALONE: methods.Size(_Averages, _Averages, 3, 2048, 8, 64, 8, _SGD),
}
QUICK_NETWORKS = {
    name: replace(size, dim=16, hidden=4, batch_size=4, pixels=32 if name == RESNET else 8)
    for name, size in NETWORKS.items()
}


def row(network: str, ours: Times, plain: Times, memory: float, alignment: float) -> dict[str, Cell]:
    """The cells of a method with a network, by title of the column.

    Args:
        network: What the backbone is; ratios mean nothing without one.
        ours: Times of the step through Pyro.
        plain: Times of the plain step.
        memory: Ratio of the peaks, with weights and optimiser.
        alignment: Cosine of the two first gradients, which is 1: the steps are the same.
    """
    ratio, more = ours.ratio_to(plain), ours.difference_to(plain)
    holds = ratio <= MOST_RATIO and memory <= MOST_MEMORY if network == RESNET else more <= MOST_DIFFERENCE
    return {
        "Pyro, ms (quartiles)": ours.cell(quartiles=True),
        "plain, ms (quartiles)": plain.cell(quartiles=True),
        "ratio": Cell(ratio, form=".3f"),
        "more, ms": Cell(1e3 * more, form="+.2f"),
        "fastest, ms more": Cell(1e3 * (min(ours.seconds) - min(plain.seconds)), form="+.2f"),
        "memory": Cell(memory, form=".3f"),
        "cosine of gradients": Cell(alignment, form=".6f"),
        "holds": Cell(text="yes" if holds else "**no**"),
    }


def measure_training_steps(
    networks: Mapping[str, methods.Size], seed: int, stopwatch: Stopwatch, repeats: Mapping[str, int]
) -> dict[str, dict[str, Cell]]:
    """Measure every method with every network, the two steps in turns; `repeats` by name of the network."""
    rows, device = {}, stopwatch.device
    for network, size in networks.items():
        for method, make in METHODS.items():
            with device:  # all of it: the constant κ is no part of the networks that are compared
                pair = make(size, seed)
            for training in pair:
                training.parts.float().to(device)
            views = [torch.randn(size.batch_size, 3, size.pixels, size.pixels, device=device) for _ in range(2)]
            one, other = (gradient(training.loss(views), training.trainable()).double() for training in pair)
            alignment = float(torch.cosine_similarity(one, other, dim=0))
            steps = [training.stepper() for training in pair]
            entrants = {
                name: partial(partial, step, *views) for name, step in zip(("ours", "plain"), steps, strict=True)
            }
            with settings_for_training():  # as around a whole training
                times = replace(stopwatch, repeats=repeats[network]).measure_in_turns(entrants)
            ours, plain = (_memory(step, training, views) for training, step in zip(pair, steps, strict=True))
            rows[f"{method} | {network}"] = row(network, times["ours"], times["plain"], ours / plain, alignment)
    return rows


def _memory(step: TrainingStep, training: Training, views: list[Tensor]) -> int:
    step.optimizer.zero_grad(set_to_none=True)
    networks, optimizer = training.parts.state_dict(keep_vars=True), step.optimizer.state_dict()
    return peak_memory(partial(step, *views), tree_leaves([networks, optimizer, views]))


class _LiveTensors(TorchDispatchMode):
    """The most bytes that tensors hold at once: those of before, and what operations make.

    What an operation needs only inside itself is not seen, and the same for everyone.
    """

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self.held: WeakValueDictionary[int, torch.UntypedStorage] = WeakValueDictionary()
        self.see(before)

    def see(self, values: Any) -> None:
        storages = [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
        self.held.update({storage._cdata: storage for storage in storages})  # noqa: SLF001  # its identity
        self.peak = max(self.peak, sum(storage.nbytes() for storage in self.held.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(result)
        return result


def peak_memory(step: Callable[[], object], before: Iterable[Tensor]) -> int:
    """Bytes of the tensors of before and of those that `step` makes, as many as are held at once at most.

    Example:
        >>> peak_memory(lambda: (torch.ones(1000) * 2).sum() + torch.ones(500).sum(), [])
        8000
    """
    live = _LiveTensors(before)
    with live:
        step()
    return live.peak
