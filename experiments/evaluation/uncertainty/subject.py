"""A frozen pair and how images reach it: what every number of the study is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.evaluation.encoding import finite
from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages
from experiments.images.randomness import derived_generator
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.images import WatchedImages, view_groups
from inference.judging.representation import Embedding, embed
from ssl_as_inference.graphical_model import MultiViewPair

_FRESH = 5  # stream of random numbers, beside those that a training draws from
BATCH = 256


@dataclass(frozen=True, eq=False)
class Subject:
    """A pair in evaluation mode, and what it was trained to look at.

    Attributes:
        pair: On the device where it computes.
        recipe: Of the views that the guide holds: size, normalisation and the distribution of the random ones.
    """

    pair: MultiViewPair
    recipe: ViewRecipe

    @classmethod
    def of(cls, pair: MultiViewPair, config: PretrainConfig, device: torch.device) -> Subject:
        """A pretrained pair with the global views of its configuration."""
        return cls(pair.to(device).eval(), view_groups(config)[0][0])

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.pair.parameters()).device

    @torch.no_grad()
    def look(self, pixels: Tensor) -> Embedding:
        """Embed a batch of images in [0, 1] of the size of a view.

        Raises:
            CheckpointError: If the network gives NaN or infinity.
        """
        shape = (1, -1, 1, 1)
        mean, std = (
            torch.tensor(values, device=self.device).view(shape) for values in (self.recipe.mean, self.recipe.std)
        )
        return finite(embed(self.pair, (pixels.to(self.device) - mean) / std), "for an image")


@torch.no_grad()
def middles(images: DeviceImages, recipe: ViewRecipe, chosen: Tensor) -> Tensor:
    """The middle of each chosen image in [0, 1], shape `(chosen, channels, size, size)`, on the CPU."""
    plain = replace(recipe, mean=(0.0,) * recipe.channels, std=(1.0,) * recipe.channels)
    return torch.cat([views.clamp(0, 1).cpu() for views in WatchedImages(images, chosen, plain)])


def features_of(subject: Subject, images: DeviceImages) -> Tensor:
    """Features of the middle of each image, a batch at a time: pixels of all of them may not fit."""
    everyone = torch.arange(len(images)).split(BATCH)
    return torch.cat([subject.look(middles(images, subject.recipe, rows)).features for rows in everyone])


@torch.no_grad()
def random_view(canvas: Tensor, sizes: Tensor, subject: Subject, generator: torch.Generator) -> Embedding:
    """Embed one random view of each image of a batch, drawn as the training draws its views.

    Args:
        canvas: uint8, as `BatchedViews` takes it.
        sizes: Height and width of each image.
        subject: Who looks.
        generator: Source of randomness, on the CPU.
    """
    canvas, sizes = canvas.to(subject.device), sizes.to(subject.device)
    parameters = draw_parameters(subject.recipe, sizes, generator)
    return embed(subject.pair, BatchedViews(subject.recipe)(canvas, sizes, parameters))


def fresh_generator(seed: int, purpose: int) -> torch.Generator:
    """Numbers that no training has drawn."""
    return derived_generator(seed, _FRESH, purpose)
