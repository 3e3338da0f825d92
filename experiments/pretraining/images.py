"""The images of a configuration: opened, put where the configuration says, handed out as batches of views, watched.

While a pair is trained, held-out images are evaluated; their labels are looked at here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from experiments.images.augmentations.batched import center_view
from experiments.images.augmentations.recipe import Augmentation, ViewRecipe
from experiments.images.batches import EpochOrder, ViewBatches, ViewGroups
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.errors import ImageSetError, MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.images.opening import open_images
from experiments.images.randomness import derived_generator
from experiments.pretraining.configuration import DataConfig, PretrainConfig
from inference.fitting.checkpointing import replace_file
from inference.judging.collapse import effective_rank, has_collapsed, standard_deviation
from inference.judging.evaluation import knn_accuracy
from inference.judging.representation import represent
from ssl_as_inference.graphical_model import MultiViewPair

_WATCHED, _CHOSEN = 4, 6  # streams of random numbers, beside those of experiments.images.randomness
_FIXED = 0  # seed of what is the same for every seed of a run
_BATCH = 256
_SPREAD_OVER = 1024  # images: the rank of more outputs costs seconds and says the same


def view_groups(config: PretrainConfig) -> ViewGroups:
    """How the views of an image are drawn: global ones first, then the local ones of a multi-crop."""
    views = config.views
    shared: dict[str, Any] = {entry.name: getattr(views, entry.name) for entry in fields(Augmentation)}
    mean, std = views.normalization(config.data.channels)
    kinds = (
        (views.size, views.global_crop_scale, views.global_views),
        (views.local_size, views.local_crop_scale, views.local_views),
    )
    return tuple((ViewRecipe(size, scale, mean, std, **shared), count) for size, scale, count in kinds if count)


@dataclass(frozen=True, eq=False)
class WatchedImages:
    """Images that are evaluated as they are, in the middle and without any augmentation.

    Attributes:
        images: On a device.
        indices: Those that count.
        recipe: Size and normalisation.
    """

    images: DeviceImages
    indices: Tensor
    recipe: ViewRecipe

    def __iter__(self) -> Iterator[Tensor]:
        # Alike in size: batch normalisation counts each batch as one, and learns nothing of a single image.
        batches = max(1, math.ceil(len(self.indices) / _BATCH))
        for chosen in self.indices.to(self.images.device).tensor_split(batches):
            yield center_view(self.images.canvas[chosen], self.images.sizes[chosen], self.recipe)

    @property
    def labels(self) -> Tensor:
        """On the CPU."""
        return self.images.labels.cpu()[self.indices.cpu()]


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """A set that is open: batches to train on, images to watch.

    Attributes:
        config: Of the run.
        images: The training images.
        source: The same on the device, or decoded when they are wanted.
        neighbours: Images whose labels vote; `None` where there are no labels.
        held_out: Images that are evaluated; `None` in a process that does not watch.
    """

    config: PretrainConfig
    images: ImageSet
    source: DeviceImages | StreamedImages
    neighbours: WatchedImages | None
    held_out: WatchedImages | None

    @classmethod
    def open(cls, config: PretrainConfig, device: torch.device, *, watch: bool = True) -> TrainingImages:
        """Find and check the images, and decode them where the configuration says so.

        Args:
            config: Of the run.
            device: Where views are to be stored.
            watch: Whether this process evaluates images: one of the processes of a run does.

        Raises:
            ImageSetError: If they are missing, broken, too few, or of other channels than configured.
        """
        train = open_part(config.data, "train")
        least = config.training.batch_size
        train.require(f"a training with training.batch_size {least}", images=least)
        source: DeviceImages | StreamedImages
        if config.data.path == "resident":
            source = resident(train, config.data, storage_size(config), device)
        else:
            source = StreamedImages(train, device, storage_size(config), config.data.workers)
        return cls(config, train, source, *(_watched(config, train, source) if watch else (None, None)))

    def order(self, world_size: int = 1, rank: int = 0) -> EpochOrder:
        """Which images each step sees, in one of the processes."""
        size, seed = self.config.training.batch_size, self.config.seed
        return EpochOrder(len(self.images), size, seed, world_size=world_size, rank=rank)

    def batches(self, order: EpochOrder, start: int, stop: int, *, compile_views: bool = False) -> ViewBatches:
        """The views of each step from `start` to `stop`; those of images on the device may be made by a compiler."""
        compiled = compile_views and isinstance(self.source, DeviceImages)
        return ViewBatches(self.source, order, view_groups(self.config), start=start, stop=stop, compile_views=compiled)

    def evaluate(self, pair: MultiViewPair) -> dict[str, float]:
        """`evaluate_online` on the images that are watched; nothing in a process that watches none."""
        if self.held_out is None:
            return {}
        return evaluate_online(pair, self.neighbours, self.held_out, k=self.config.monitor.k)


def open_part(data: DataConfig, split: Literal["train", "val"]) -> ImageSet:
    """Open the images to train on, or those to judge by.

    Args:
        data: Which images. With `data.held_out` those to judge by are training images, and no others are opened.
        split: "train" or "val".

    Raises:
        ImageSetError: If they are missing, broken, too few to divide, or of other channels than configured.
    """
    images = open_images(
        data.name,
        data.root,
        "train" if data.held_out else split,
        channels=data.channels,
        max_pixels=data.max_pixels,
        download=data.download,
        skip_broken=data.skip_broken,
        cache_folder=data.cache,
    )
    if images.channels != data.channels:
        raise ImageSetError(
            f"{images.name} has {images.channels} channel(s): set data.channels to {images.channels} (and views.mean "
            f"and views.std to as many numbers, or one), got {data.channels}"
        )
    if data.images is not None and (split == "train" or data.held_out):
        images = images.select(_balanced_choice(images.labels, data.images))
    if not data.held_out:
        return images
    images.require("data.held_out", images=2, classes=1, of_each=2)
    try:
        return images.divided(data.held_out, _FIXED)[split == "val"]
    except ValueError as error:
        raise ImageSetError(f"data.held_out {data.held_out} cannot divide {len(images):,} images: {error}") from error


def _balanced_choice(labels: Tensor, count: int) -> Tensor:
    """Numbers of at most `count` images, in order, as many of each label as there can be."""
    order = torch.randperm(len(labels), generator=derived_generator(_FIXED, _CHOSEN))
    # How many of its label stand before an image: to take by this number is to take of each label in turn.
    before = torch.empty_like(labels)
    for label in labels.unique():
        own = order[labels[order] == label]
        before[own] = torch.arange(len(own))
    return order[before[order].argsort(stable=True)][:count].sort().values


def storage_size(config: PretrainConfig) -> int:
    """Longest shorter side of an image that is kept for the views of a configuration."""
    return config.data.storage_size or round(config.views.size * 5 / 4)


def resident(images: ImageSet, data: DataConfig, size: int, device: torch.device) -> DeviceImages:
    """Decode a set, no shorter side longer than `size`."""
    return DeviceImages.load(images, device, storage_size=size, cache_folder=data.cache)


def _watched(
    config: PretrainConfig, train: ImageSet, source: DeviceImages | StreamedImages
) -> tuple[WatchedImages | None, WatchedImages]:
    """Images that vote and images that are evaluated.

    Where the set has no held-out part, training images are evaluated: some vote for the others. Labels train nothing,
    but the number is then one of images that were seen.
    """
    recipe = view_groups(config)[0][0]
    # Where the training images are streamed because they outgrow the device, these stay in the machine's memory.
    place = source.device if isinstance(source, DeviceImages) else torch.device("cpu")

    def watch(images: ImageSet, indices: Tensor) -> WatchedImages:
        if images is train and isinstance(source, DeviceImages):
            return WatchedImages(source, indices, recipe)
        alone = resident(images.select(indices), config.data, storage_size(config), place)
        return WatchedImages(alone, torch.arange(len(indices)), recipe)

    order, chosen = (derived_generator(_FIXED, _WATCHED, stream) for stream in (0, 1))
    voters = torch.randperm(len(train), generator=order)
    try:
        held_out = open_part(config.data, "val")
    except MissingSplitError:
        count = min(config.monitor.images, max(2, len(train) // 4))
        held_out, seen, voters = train, voters[:count], voters[count:]
    else:
        held_out.require("the evaluation of held-out images", images=2)
        seen = torch.randperm(len(held_out), generator=chosen)[: config.monitor.images]
    voters = voters[: config.monitor.neighbours]
    vote = train.labelled and held_out.labelled and len(voters) > 0
    return watch(train, voters) if vote else None, watch(held_out, seen)


def spread(pair: MultiViewPair, watched: WatchedImages) -> dict[str, float]:
    """`standard_deviation` and `effective_rank` of the outputs of a batch of images: a quick look for a collapse."""
    return _spread(represent(pair, [next(iter(watched))]).outputs)


def _spread(outputs: Tensor) -> dict[str, float]:
    return {"standard_deviation": standard_deviation(outputs), "effective_rank": effective_rank(outputs)}


def collapse_warning(values: Mapping[str, float], dim: int) -> str | None:
    """What to say of outputs that have collapsed, if they have; a loss does not show it.

    Args:
        values: `standard_deviation` and `effective_rank`; without them nothing is said.
        dim: Dimension of the outputs.
    """
    deviation, rank = values.get("standard_deviation", 1.0), values.get("effective_rank", math.inf)
    if not has_collapsed(deviation, rank):
        return None
    return (
        f"the outputs have collapsed: standard deviation {deviation:.2g} (evenly spread directions have 1), effective "
        f"rank {rank:.1f} of {dim}; the encoder tells images hardly apart. See lesson 6 for causes; a smaller "
        "training.learning_rate or another seed may help"
    )


def evaluate_online(
    pair: MultiViewPair, neighbours: WatchedImages | None, held_out: WatchedImages, *, k: int
) -> dict[str, float]:
    """What a collapse or a useless κ would show in.

    Args:
        pair: As it is in training.
        neighbours: Training images that vote on the classes of held-out ones; `None` where there are no labels.
        held_out: Images that are evaluated.
        k: Votes.

    Returns:
        `knn` (where there are labels), `standard_deviation` and `effective_rank` of the outputs of up to 1,024 images,
        `kappa_q10`, `kappa_q50` and `kappa_q90`.
    """
    seen = represent(pair, held_out)
    values = _spread(seen.outputs[:_SPREAD_OVER])
    for percent in (10, 50, 90):
        values[f"kappa_q{percent}"] = float(torch.quantile(seen.concentration.double(), percent / 100))
    if neighbours is not None:
        bank = represent(pair, neighbours)
        votes = min(k, len(bank.features))
        values["knn"] = knn_accuracy(bank.features, neighbours.labels, seen.features, held_out.labels, k=votes)
    return values


def save_features(path: Path, pair: MultiViewPair, watched: WatchedImages) -> None:
    """Write what a network says of held-out images; an existing file is replaced in one piece.

    Args:
        path: An .npz file: `features` in float16, `concentration`, `labels`, and `indices` into the held-out set.
        pair: The networks.
        watched: The images.
    """
    seen = represent(pair, watched)
    arrays: dict[str, Any] = {
        "features": seen.features.to(torch.float16).numpy(),
        "concentration": seen.concentration.numpy(),
        "labels": watched.labels.numpy(),
        "indices": watched.indices.cpu().numpy(),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    replace_file(path, write)
