"""The sections of a configuration about the machine and what it saves and watches on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.pretraining.requirement import require


@dataclass(frozen=True)
class EngineConfig:
    """The machine.

    Attributes:
        accelerator: gpu, cpu, or auto for a GPU where there is one.
        devices: GPUs (or CPU processes) of each machine.
        nodes: Machines; the command is then started on each by torchrun or srun.
        precision: bf16-mixed runs the networks in bfloat16; the objective is in float32 either way.
        channels_last: Keep images and convolutions with the channels last, as tensor cores want them.
        compile: Compile encoder, predictor and the augmentation on the device with torch.compile.
        cuda_graphs: Record the training step once and replay it as one launch, which leaves out all of Python: on one
            GPU, with one process. The same operations in the same order; a network that waits for the GPU within a
            step cannot be recorded. (Tried on a CPU, where the recording is stood in for; not yet on a GPU.)
        threads: Threads of each process for computations on the CPU; torch's choice when not given.
    """

    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["32", "bf16-mixed"] = "32"
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            require(f"engine.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        if self.cuda_graphs:
            processes, accelerator = self.devices * self.nodes, self.accelerator
            require(
                "engine.cuda_graphs", True, accelerator != "cpu", "false with engine.accelerator cpu, which has none"
            )
            require(
                "engine.cuda_graphs",
                True,
                processes == 1,
                f"false with engine.devices × engine.nodes = {processes}: a recorded step averages no gradients",
            )
        require("engine.threads", self.threads, self.threads is None or self.threads >= 1, ">= 1")


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of the run is saved; the end always is.

    Attributes:
        every_steps: Save every so many steps, wherever in an epoch; not in between when not given.
        every_epochs: Save at the end of every so many epochs.
        seconds_apart: Pass over a save that is due sooner than this after the one before: where an epoch takes a
            second, saving would take longer than training.
    """

    every_steps: int | None = 1000
    every_epochs: int = 1
    seconds_apart: float = 20.0

    def __post_init__(self) -> None:
        require("checkpoints.every_steps", self.every_steps, self.every_steps is None or self.every_steps >= 1, ">= 1")
        require("checkpoints.every_epochs", self.every_epochs, self.every_epochs >= 1, ">= 1")
        require("checkpoints.seconds_apart", self.seconds_apart, self.seconds_apart >= 0, ">= 0")


@dataclass(frozen=True)
class MonitorConfig:
    """What is watched during the training; nothing here changes the weights.

    Attributes:
        every_steps: Steps between two rows of metrics.csv (loss, gradient, images a second); the loss is also checked
            for NaN and infinity then.
        every_epochs: Epochs between evaluations on held-out images (nearest neighbours, collapse, κ); the last is
            always evaluated.
        neighbours: Training images among which neighbours are sought, at most; the first ones of a fixed random order.
        images: Held-out images that are evaluated, at most; chosen likewise.
        k: Neighbours that vote.
        tensorboard: Whether to write TensorBoard's files too.
        curves: Whether to draw training_curves.png at the end.
        progress: Whether to show a progress bar.
    """

    every_steps: int = 50
    every_epochs: int = 10
    neighbours: int = 10_000
    images: int = 4_000
    k: int = 20
    tensorboard: bool = True
    curves: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("every_steps", "every_epochs", "neighbours", "k"):
            require(f"monitor.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        require("monitor.images", self.images, self.images >= 2, ">= 2")
