"""One training step through the Pyro pair and the KL objective, beside the same step in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from experiments.benchmarks.peak_memory import peak_memory
from experiments.benchmarks.timing import Stopwatch, Times
from experiments.records.record import Cell
from experiments.special_cases import methods
from experiments.special_cases.recovery import Sgd, Training
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

COLUMNS = (
    "Pyro, ms (quartiles)", "plain, ms (quartiles)", "ratio", "more, ms", "fastest, ms more", "memory", "holds",
)  # fmt: skip


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


@dataclass(frozen=True)
class Row:
    """One method with one network.

    Attributes:
        method: Its name.
        network: What the backbone is.
        ours: Times of the step through Pyro.
        plain: Times of the plain step.
        our_memory: Peak of our step, with weights and optimiser, in bytes.
        plain_memory: The same of the plain step.
        alignment: Cosine of the two first gradients, which is 1: the steps are the same.
    """

    method: str
    network: str
    ours: Times
    plain: Times
    our_memory: int
    plain_memory: int
    alignment: float

    @property
    def holds(self) -> bool:
        """Whether the step keeps to what it may cost; ratios mean nothing without a backbone."""
        ratios_hold = (
            self.ours.ratio_to(self.plain) <= MOST_RATIO and self.our_memory <= MOST_MEMORY * self.plain_memory
        )
        difference_holds = self.ours.difference_to(self.plain) <= MOST_DIFFERENCE
        return ratios_hold if self.network == RESNET else difference_holds

    def cells(self) -> dict[str, Cell]:
        """By title of the column."""
        fastest = min(self.ours.seconds) - min(self.plain.seconds)
        shown = (
            self.ours.cell(quartiles=True),
            self.plain.cell(quartiles=True),
            Cell(self.ours.ratio_to(self.plain), form=".3f"),
            Cell(1e3 * self.ours.difference_to(self.plain), form="+.2f"),
            Cell(1e3 * fastest, form="+.2f"),
            Cell(self.our_memory / self.plain_memory, form=".3f"),
            Cell(text="yes" if self.holds else "**no**"),
        )
        return dict(zip(COLUMNS, shown, strict=True))


def measure_training_steps(
    networks: Mapping[str, methods.Size], seed: int, stopwatch: Stopwatch, repeats: Mapping[str, int]
) -> list[Row]:
    """Measure every method with every network, the two steps in turns; `repeats` by name of the network."""
    rows, device = [], stopwatch.device
    for network, size in networks.items():
        for method, make in METHODS.items():
            ours, plain = (_in_single_precision(training, device) for training in make(size, seed))
            views = [torch.randn(size.batch_size, 3, size.pixels, size.pixels, device=device) for _ in range(2)]
            alignment = _alignment(ours, plain, views)
            steps = [_step(training) for training in (ours, plain)]
            entrants = {
                name: partial(partial, step, *views) for name, step in zip(("ours", "plain"), steps, strict=True)
            }
            with settings_for_training():  # as around a whole training
                times, _ = replace(stopwatch, repeats=repeats[network]).measure_in_turns(entrants)
            mine, its = (_memory(one, step, views, device) for one, step in zip((ours, plain), steps, strict=True))
            rows.append(Row(method, network, times["ours"], times["plain"], mine, its, alignment))
    return rows


def _in_single_precision(training: Training, device: torch.device) -> Training:
    for part in training.parts:
        part.float().to(device)
    return training


def _step(training: Training) -> TrainingStep:
    held = training.trainable()
    optimizer = torch.optim.SGD(
        held,
        lr=training.sgd.learning_rate,
        momentum=training.sgd.momentum,
        weight_decay=training.sgd.weight_decay,
        fused=held[0].is_cuda or None,
    )

    def loss(views: Sequence[Tensor]) -> Tensor:
        return training.loss(list(views))

    return TrainingStep(loss, optimizer, then=training.update)


def _alignment(ours: Training, plain: Training, views: list[Tensor]) -> float:
    one, other = (
        torch.cat([part.flatten() for part in torch.autograd.grad(training.loss(views), training.trainable())])
        for training in (ours, plain)
    )
    return float(torch.cosine_similarity(one.double(), other.double(), dim=0))


def _memory(training: Training, step: TrainingStep, views: list[Tensor], device: torch.device) -> int:
    held = [*training.parameters(), *training.buffers()]
    remembered = [
        value for entry in step.optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)
    ]
    step.optimizer.zero_grad(set_to_none=True)
    return peak_memory(lambda: step(*views), device) + sum(one.nbytes for one in [*held, *remembered])
