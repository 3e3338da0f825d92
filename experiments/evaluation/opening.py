"""What the commands that apply an encoder share: the checkpoint, the images and the device, from one set of options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from experiments.evaluation.encoders import load_encoder
from experiments.images.device_images import DeviceImages
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ImageSet
from experiments.images.layouts import Split
from experiments.images.opening import open_images
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import Pretrained
from experiments.pretraining.images import storage_size
from experiments.records.environment import device_named


@dataclass(frozen=True)
class Opener:
    """Opens what the options of `add_options` name; images that were decoded are kept for the next encoder.

    What is read and written is chosen by the options and by the name of the training's set alone: no folder that a
    model's file names is ever written to.

    Attributes:
        options: What was parsed.

    Raises:
        ValueError: If there is no such device.
    """

    options: argparse.Namespace
    _decoded: dict[tuple[object, ...], DeviceImages] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options.device = device_named(self.options.device)

    def encoder(self, path: Path) -> Pretrained:
        """The pair of a checkpoint, on the device, in evaluation mode.

        Raises:
            CheckpointError: If there is none.
        """
        pretrained = load_encoder(path)
        pretrained.pair.to(self.options.device)
        return pretrained

    def images(self, config: PretrainConfig, split: Split, name: str | Path | None = None) -> ImageSet:
        """A part of the set that `name` or else `--data` names, or that the encoder was trained on.

        Raises:
            ImageSetError: If it is missing, broken, or of other channels than the encoder takes.
        """
        options = self.options
        images = open_images(
            name or options.data or config.data.name,
            options.root or config.data.root,
            split,
            channels=config.data.channels,
            max_pixels=config.data.max_pixels,
            download=options.download,
            skip_broken=options.skip_broken,
            cache_folder=options.cache,
            threads=options.threads,
        )
        if images.channels != config.data.channels:
            raise ImageSetError(
                f"{images.name} has {images.channels} channel(s), the encoder was trained on {config.data.channels}"
            )
        return images

    def decoded(self, config: PretrainConfig, split: Split, name: str | None = None) -> DeviceImages:
        """The same on the device, for the tests of κ.

        Raises:
            ImageSetError: If it is missing, broken, a single image, or of other channels than the encoder takes.
        """
        # All of the configuration that the decoded images depend on.
        data = config.data
        key = (data.name, data.root, data.channels, data.max_pixels, storage_size(config), split, name)
        if key not in self._decoded:
            images = self.images(config, split, name)
            images.require("a test of κ", images=2)
            self._decoded[key] = self.resident(config, images)
        return self._decoded[key]

    def resident(self, config: PretrainConfig, images: ImageSet) -> DeviceImages:
        """Images on the device, no larger than the views of the encoder need."""
        return DeviceImages.load(
            images, self.options.device, storage_size=storage_size(config), threads=self.options.threads
        )
