"""SimSiam as lightly's users train it: lightly's data set, transform, heads and loss around torchvision's ResNet-18."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.benchmarks.peers.implementation import Unsupported


class LightlySimSiam(nn.Module):
    """Backbone, projection and prediction head with the widths of SimSiam's paper, and lightly's loss.

    Raises:
        Unsupported: If lightly is not installed or does not import.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        heads, losses = _import("lightly.models.modules"), _import("lightly.loss")
        network = torchvision.models.resnet18(weights=None)
        network.fc = nn.Identity()
        self.backbone = network
        self.projection_head = heads.SimSiamProjectionHead(512, 512, dim)
        self.prediction_head = heads.SimSiamPredictionHead(dim, hidden, dim)
        self.criterion = losses.NegativeCosineSimilarity()

    def loss_of_two(self, views: Sequence[Tensor]) -> Tensor:
        """Half the sum of both orders of two views, with no gradient through the projections."""
        projections = [self.projection_head(self.backbone(view).flatten(start_dim=1)) for view in views]
        predictions = [self.prediction_head(projection) for projection in projections]
        first: Tensor = self.criterion(predictions[0], projections[1].detach())
        second: Tensor = self.criterion(predictions[1], projections[0].detach())
        return (first + second) / 2


def lightly_batches(
    folder: Path, size: int, batch_size: int, workers: int, device: torch.device
) -> Iterator[list[Tensor]]:
    """Two views of each image of shuffled batches, for ever: lightly's transform in workers of torch's loader.

    Raises:
        Unsupported: If lightly is not installed or does not import.
    """
    transform = _import("lightly.transforms").SimSiamTransform(input_size=size)
    dataset = _import("lightly.data").LightlyDataset(str(folder), transform=transform)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    while True:
        for batch in loader:
            yield [view.to(device, non_blocking=True) for view in batch[0][:2]]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".", maxsplit=1)[0]
        raise Unsupported(f"{missing} is not installed: pip install -e '.[peers]'") from error
    except Exception as error:  # whatever an old package meets among newer ones
        first_line = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        raise Unsupported(f"does not import: {first_line}") from error
