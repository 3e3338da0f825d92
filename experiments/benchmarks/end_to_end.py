"""Images a second of whole pretraining jobs, data included: this project's two data paths and lightly's SimSiam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from experiments.benchmarks.peers import Skipped, Unsupported
from experiments.benchmarks.peers.lightly_simsiam import LightlySimSiam, lightly_batches
from experiments.benchmarks.timing import Stopwatch, Times
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.batches import ResidentBatches, StreamedBatches
from experiments.images.device_images import DeviceImages
from experiments.images.opening import open_images
from experiments.images.order import EpochOrder
from experiments.special_cases.recovery import pair_loss
from inference.fitting.cuda_graphs import GraphedStep, TrainingStep, compile_networks
from inference.fitting.targets import StopGradientCopy
from models.networks import resnet18_backbone
from models.simsiam import SimSiam

OURS_LOADED, OURS_RESIDENT, LIGHTLY = "this project, loader", "this project, on the device", "lightly"
BARE, EAGER = "forward and backward alone, compiled", "this project, on the device, eager"

Batches = Iterator[list[Tensor]]


@dataclass(frozen=True)
class Job:
    """What every contestant does.

    Attributes:
        folder: Images, in folders of classes.
        size: Pixels of a view, two of which each image gives.
        batch_size: Images a step.
        dim: Dimension of the sphere.
        workers: Processes that load images; 0 loads in the calling one.
        device: Where it computes.
        seed: Of order, views and weights.
    """

    folder: Path
    size: int
    batch_size: int
    dim: int
    workers: int
    device: torch.device
    seed: int

    @property
    def precision(self) -> torch.dtype | None:
        """Networks compute in bfloat16 on a GPU, everyone's."""
        return torch.bfloat16 if self.device.type == "cuda" else None


@dataclass(frozen=True)
class Row:
    """One contestant: its steps' times, data included."""

    name: str
    times: Times
    batch_size: int

    @property
    def rate(self) -> float:
        """Images a second, in the median."""
        return self.batch_size / self.times.median


@dataclass
class _Contestant:
    step: Callable[..., Tensor]
    make_batches: Callable[[], Batches]
    batches: Batches | None = None


def write_sample_images(folder: Path, count: int) -> Path:
    """Write JPEG files like ImageNette's smallest: pieces of two photographs, 160 pixels high, a folder for each."""
    generator = np.random.default_rng(0)
    for number in range(count):
        name, photograph = [("temple", load_sample_images().images[0]), ("flower", load_sample_images().images[1])][
            number % 2
        ]
        height = int(generator.integers(160, photograph.shape[0]))
        width = min(round(height * 4 / 3), photograph.shape[1])
        top, left = (
            int(generator.integers(0, most + 1)) for most in np.subtract(photograph.shape[:2], (height, width))
        )
        (folder / name).mkdir(parents=True, exist_ok=True)
        piece = Image.fromarray(photograph[top : top + height, left : left + width])
        piece.resize((213, 160), Image.Resampling.LANCZOS).save(folder / name / f"{number:05}.jpg", quality=90)
    return folder


def measure_jobs(job: Job, stopwatch: Stopwatch, *, steps: int) -> tuple[list[Row], list[Skipped]]:
    """Measure everyone in turns, `steps` steps a round; lightly is skipped with the reason where it does not run."""
    torch.manual_seed(job.seed)
    contestants: dict[str, _Contestant] = {}
    skipped: list[Skipped] = []
    images = open_images(job.folder, job.folder, "all")
    order = EpochOrder(len(images), job.batch_size, job.seed)
    recipe = [(ViewRecipe(size=job.size), 2)]
    resident = DeviceImages.load(images, job.device, storage_size=round(job.size * 5 / 4))
    on_gpu = job.device.type == "cuda"

    def streamed() -> Batches:
        return iter(StreamedBatches(images, order, recipe, start=0, stop=10**9, workers=job.workers, device=job.device))

    def on_device() -> Batches:
        return iter(ResidentBatches(resident, order, recipe, start=0, stop=10**9, compile_views=on_gpu))

    contestants[OURS_RESIDENT] = _Contestant(_our_step(job, fast=on_gpu), on_device)
    contestants[OURS_LOADED] = _Contestant(_our_step(job, fast=on_gpu), streamed)
    try:
        network = LightlySimSiam(job.dim, job.dim // 4).to(job.device)
        step = TrainingStep(network.loss_of_two, _optimizer(network, job.device), precision=job.precision)
        contestants[LIGHTLY] = _Contestant(
            step, lambda: lightly_batches(job.folder, job.size, job.batch_size, job.workers, job.device)
        )
        next(contestants[LIGHTLY].make_batches())  # shows whether data set and transform import
    except Unsupported as reason:
        contestants.pop(LIGHTLY, None)
        skipped.append(Skipped(LIGHTLY, str(reason)))
    if on_gpu:
        contestants[EAGER] = _Contestant(_our_step(job, fast=False), on_device)
        views = [view.contiguous(memory_format=torch.channels_last) for view in next(on_device())]
        contestants[BARE] = _Contestant(_bare_step(job), lambda: _for_ever(views))
    return _measure(contestants, job, stopwatch, steps), skipped


def _for_ever(views: list[Tensor]) -> Batches:
    while True:
        yield views


def _measure(contestants: dict[str, _Contestant], job: Job, stopwatch: Stopwatch, steps: int) -> list[Row]:
    times: dict[str, list[float | None]] = {name: [] for name in contestants}
    for turn in range(stopwatch.repeats):
        for name, contestant in contestants.items():
            # Loaders with workers go on while others are measured: they are ended after their turn, and begin the next
            # with all that they had prepared used up.
            if contestant.batches is None:
                contestant.batches = contestant.make_batches()
            for _ in range(2 * job.workers + 2 if job.workers else 1 if turn == 0 else 0):
                contestant.step(*next(contestant.batches))
            batches = contestant.batches
            times[name].append(stopwatch.measure_once(partial(_take_step, contestant.step, batches), steps))
            if job.workers:
                contestant.batches = None
                del batches
        stopwatch.on_round()
    return [Row(name, Times(tuple(seconds)), job.batch_size) for name, seconds in times.items()]


def _take_step(step: Callable[..., Tensor], batches: Batches) -> Tensor:
    return step(*next(batches))


def _optimizer(network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    held = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(held, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=device.type == "cuda" or None)


def _our_step(job: Job, *, fast: bool) -> Callable[..., Tensor]:
    """The step with the channels last, as this project's engine has it; a fast one is compiled and recorded too."""
    pair = SimSiam(resnet18_backbone(), 512, dim=job.dim).to(job.device).to(memory_format=torch.channels_last)
    if fast:
        compile_networks(pair)
    objective = pair_loss(pair, StopGradientCopy())

    def loss(views: Sequence[Tensor]) -> Tensor:
        return objective(list(views)) / 2

    step = TrainingStep(loss, _optimizer(pair, job.device), precision=job.precision)
    return GraphedStep(step, warm_up=11) if fast else step


def _bare_step(job: Job) -> Callable[..., Tensor]:
    """Forward and backward of encoder and predictor for two views, compiled and recorded, and nothing besides."""
    pair = SimSiam(resnet18_backbone(), 512, dim=job.dim).to(job.device).to(memory_format=torch.channels_last)
    compile_networks(pair)
    held: list[Any] = [parameter for parameter in pair.parameters() if parameter.requires_grad]

    predictor = pair.model.predictor.get_submodule("network")

    def step(*views: Tensor) -> Tensor:
        for parameter in held:
            parameter.grad = None
        with torch.autocast(job.device.type, job.precision, enabled=job.precision is not None):
            total = torch.stack([predictor(pair.model.encoder(view)).sum() for view in views]).sum()
        total.backward()
        return total.detach()

    return GraphedStep(step, warm_up=11)
