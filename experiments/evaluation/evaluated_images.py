"""What the commands that judge a pretrained encoder share: checkpoint, images, device."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.evaluate import device
from experiments.images.device_images import DeviceImages
from experiments.images.errors import ImageSetError
from experiments.images.layouts import Split
from experiments.images.opening import open_images
from experiments.pretraining.configuration import PretrainConfig


@dataclass(frozen=True)
class ImagesOptions:
    """Where the images of a command come from, by default those of the training.

    Attributes:
        data: Name of a set or a folder.
        root: Folder of the named sets.
        download: Whether a missing set is fetched.
        skip_broken: Whether images that cannot be read are left out.
    """

    data: str | None
    root: str | None
    download: bool
    skip_broken: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> ImagesOptions:
        """What `add_image_options` has parsed."""
        return cls(options.data, options.root, options.download, options.skip_broken)

    def load(
        self, config: PretrainConfig, split: Split, place: torch.device, *, name: str | None = None
    ) -> DeviceImages:
        """Open, check and decode the images for a pretrained encoder.

        Args:
            config: Of the encoder: its data set where no other is named, its channels and the size of its views.
            split: Part of the set.
            place: Where the images shall lie.
            name: Another set than `data`, in the same root.

        Raises:
            ImageSetError: If they are missing, broken, or of other channels than the encoder takes.
        """
        images = open_images(
            name or self.data or config.data.name,
            self.root or config.data.root,
            split,
            download=self.download,
            skip_broken=self.skip_broken,
        )
        if images.channels != config.data.channels:
            raise ImageSetError(
                f"{images.name} has {images.channels} channel(s), the encoder was trained on {config.data.channels}"
            )
        return DeviceImages.load(images, place, storage_size=round(config.views.size * 5 / 4))


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add `--data`, `--root`, `--download`, `--skip-broken` and `--device`."""
    parser.add_argument("--data", help="imagenette, imagewoof, cifar10, digits or a folder; default: the training's")
    parser.add_argument("--root", help="folder that holds the named sets; default: the training's")
    parser.add_argument("--download", action="store_true", help="fetch a named set that is missing")
    parser.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    parser.add_argument("--device", type=device, default="auto", help="cpu, cuda, or auto for a GPU where there is one")


def existing_path(text: str) -> Path:
    """Check that a file or folder is there; a type for `add_argument`."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"expected a run's folder or a checkpoint, but there is no {text}")
    return path
