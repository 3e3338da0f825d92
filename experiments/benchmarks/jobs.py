"""Images a second of whole pretraining jobs, data included: this project's two data paths and lightly's SimSiam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, repeat
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import RandomResizedCrop

from experiments.benchmarks.peers import import_peer
from experiments.benchmarks.timing import Stopwatch, Times
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.batches import EpochOrder, ViewBatches
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.opening import open_images
from experiments.records.record import Cell
from experiments.special_cases.recovery import Sgd
from inference.fitting.cuda_graphs import GraphedStep, TrainingStep, compile_networks
from inference.fitting.kl_objective import KLObjective
from inference.fitting.side_by_side import SideBySide
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import StopGradientCopy
from models.networks import resnet18_backbone
from models.simsiam import SimSiam

OURS_LOADED, OURS_RESIDENT, LIGHTLY = "this project, loader", "this project, on the device", "lightly"
BARE, EAGER = "the networks alone", "this project, on the device, eager"
_RATE = 1e-3

Batches = Iterator[list[Tensor]]


@dataclass(frozen=True)
class Job:
    """What every contestant does.

    Attributes:
        folder: Images, in folders of classes.
        size: Pixels of a view, two of which each image gives.
        batch_size: Images a step.
        dim: Dimension of the sphere.
        workers: Processes, or threads of this project's, that load images; 0 loads in the calling one.
        device: Where it computes.
        seed: Of order, views and weights.
        precision: Everyone's networks compute in it under autocast; `None` for float32.
    """

    folder: Path
    size: int
    batch_size: int
    dim: int
    workers: int
    device: torch.device
    seed: int
    precision: torch.dtype | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether networks are compiled and steps recorded."""
        return self.device.type == "cuda"


class _Contestant:
    """A step on the next batch.

    Loaders with workers go on while others are measured: they are ended after their turn, and begin the next with all
    that they had prepared used up.
    """

    def __init__(self, step: Callable[..., Tensor], make_batches: Callable[[], Batches], workers: int) -> None:
        self.step, self.make_batches, self.workers = step, make_batches, workers
        self.batches = make_batches()  # begins with its first batch

    def __call__(self) -> Tensor:
        return self.step(*next(self.batches))

    def __enter__(self) -> None:
        for _ in range(2 * self.workers + 2 if self.workers else 0):
            self()

    def __exit__(self, *_: object) -> None:
        if self.workers:
            self.batches = self.make_batches()


def write_sample_images(folder: Path, count: int) -> Path:
    """Write JPEG files like ImageNette's smallest: pieces of two photographs, 160 pixels high, a folder for each."""
    piece = RandomResizedCrop((160, 213), scale=(0.2, 1.0), ratio=(4 / 3, 4 / 3))
    photographs = zip(("temple", "flower"), map(Image.fromarray, load_sample_images().images), strict=True)
    for number, (name, photograph) in zip(range(count), cycle(photographs), strict=False):
        (folder / name).mkdir(parents=True, exist_ok=True)
        piece(photograph).save(folder / name / f"{number:05}.jpg", quality=90)
    return folder


def measure_jobs(job: Job, stopwatch: Stopwatch) -> dict[str, Times]:
    """Measure everyone in turns; who does not run is left out with the reason, in `stopwatch.left_out`."""
    torch.manual_seed(job.seed)
    images = open_images(job.folder, job.folder, "all")
    order = EpochOrder(len(images), job.batch_size, job.seed)
    recipe = [(ViewRecipe(size=job.size), 2)]
    storage_size = round(job.size * 5 / 4)
    resident = DeviceImages.load(images, job.device, storage_size=storage_size)
    loaded = StreamedImages(images, job.device, storage_size, job.workers)

    def streamed() -> Batches:
        return iter(ViewBatches(loaded, order, recipe, start=0, stop=10**9))

    def on_device() -> Batches:
        return iter(ViewBatches(resident, order, recipe, start=0, stop=10**9, compile_views=job.on_gpu))

    def for_ever() -> Batches:
        return repeat([view.contiguous(memory_format=torch.channels_last) for view in next(on_device())])

    def entrant(step: Callable[[], Callable[..., Tensor]], batches: Callable[[], Batches], workers: int = 0) -> Any:
        return lambda: _Contestant(step(), batches, workers)

    fast = partial(_our_step, job, fast=job.on_gpu)
    entrants = {
        OURS_RESIDENT: entrant(fast, on_device),
        OURS_LOADED: entrant(fast, streamed, job.workers),
        LIGHTLY: entrant(partial(_lightly_step, job), partial(_lightly_batches, job), job.workers),
        BARE: entrant(partial(_bare_step, job), for_ever),
    }
    if job.on_gpu:
        entrants[EAGER] = entrant(partial(_our_step, job, fast=False), on_device)
    return stopwatch.measure_in_turns(entrants)


def cells(times: Mapping[str, Times], batch_size: int) -> dict[str, dict[str, Cell]]:
    """Rows of a table: images a second, and in relation to lightly and to the bare networks in the same rounds."""
    rows = {}
    for name, taken in times.items():
        related = {
            f"× {short}": Cell(1 / taken.ratio_to(times[other]) if other in times else None, form=".2f")
            for short, other in (("lightly", LIGHTLY), ("bare networks", BARE))
        }
        rate = Cell(batch_size / taken.median, form=".4g")
        rows[name] = {"images/s": rate, "step, ms (quartiles)": taken.cell(quartiles=True), **related}
    return rows


def _pair(job: Job, *, fast: bool) -> SimSiam:
    pair = SimSiam(resnet18_backbone(), 512, dim=job.dim).to(job.device).to(memory_format=torch.channels_last)
    if fast:
        compile_networks(pair)
    return pair


def _our_step(job: Job, *, fast: bool) -> Callable[..., Tensor]:
    """A training's own step, which keeps loss and norm of the gradient; a fast one is compiled and recorded too."""
    pair, target = _pair(job, fast=fast), StopGradientCopy()
    learner = StepwiseLearner(pair, KLObjective(), target, schedule=lambda _: _RATE, over_views="mean", record=fast)
    training = SideBySide([learner], precision=job.precision)

    def step(*views: Tensor) -> Tensor:
        (loss,) = training.step([views])
        training.join()
        return loss

    return step


def _bare_step(job: Job) -> Callable[..., Tensor]:
    """Forward, backward and SGD of encoder and predictor for two views, nothing besides; on a GPU the fast ones."""
    pair = _pair(job, fast=job.on_gpu)
    predictor = pair.model.predictor.get_submodule("network")

    def total(views: Sequence[Tensor]) -> Tensor:
        return torch.stack([predictor(pair.model.encoder(view)).mean() for view in views]).mean()

    step = TrainingStep(total, Sgd(_RATE).optimizer([*pair.parameters()]), precision=job.precision)
    return GraphedStep(step) if job.on_gpu else step


def _lightly_step(job: Job) -> TrainingStep:
    """SimSiam as lightly's users train it: its heads and loss around torchvision's ResNet-18, widths of the paper."""
    heads, losses = import_peer("lightly.models.modules"), import_peer("lightly.loss")
    backbone, criterion = torchvision.models.resnet18(weights=None), losses.NegativeCosineSimilarity()
    backbone.fc = nn.Identity()
    project = nn.Sequential(backbone, heads.SimSiamProjectionHead(512, 512, job.dim))
    predict = heads.SimSiamPredictionHead(job.dim, job.dim // 4, job.dim)

    def loss(views: Sequence[Tensor]) -> Tensor:
        projections = [project(view) for view in views]
        first, second = (predict(projection) for projection in projections)
        total: Tensor = criterion(first, projections[1].detach()) + criterion(second, projections[0].detach())
        return total / 2

    network = nn.ModuleList([project, predict]).to(job.device)
    return TrainingStep(loss, Sgd(_RATE).optimizer([*network.parameters()]), precision=job.precision)


def _lightly_batches(job: Job) -> Batches:
    """Two views of each image of shuffled batches, for ever: lightly's transform in workers of torch's loader."""
    transform = import_peer("lightly.transforms").SimSiamTransform(input_size=job.size)
    loader: DataLoader[Any] = DataLoader(
        import_peer("lightly.data").LightlyDataset(str(job.folder), transform=transform),
        job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        pin_memory=job.on_gpu,
        persistent_workers=job.workers > 0,
    )
    while True:
        for batch in loader:
            yield [view.to(job.device, non_blocking=True) for view in batch[0][:2]]
