"""Sets of images through a pretrained network: decoded in threads, a batch at a time, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from experiments.figures.concentration import format_concentration
from experiments.images.augmentations.batched import BatchedViews, sample_center_view
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.image_sets import ImageSet
from experiments.images.randomness import Stream, derived_generator
from experiments.images.threads import in_threads
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import Pretrained
from inference.fitting.checkpointing import CheckpointError
from inference.judging.representation import Embedding, embed

SMALLEST_CROP = 0.08
"""Of the crops on which SimSiam trains its linear classifier: torchvision's own default, unlike in pretraining."""


def training_recipe(config: PretrainConfig) -> ViewRecipe:
    """The views on which SimSiam trains its linear classifier: random crops from 0.08 of the area on, and flips.

    Size and normalisation are those of the pretraining.
    """
    mean, std = config.views.normalization(config.data.channels)
    return ViewRecipe(
        config.views.size,
        crop_scale=(SMALLEST_CROP, 1.0),
        jitter_probability=0.0,
        grey_probability=0.0,
        blur_probability=0.0,
        mean=mean,
        std=std,
    )


def center_view(images: ImageSet, index: int, config: PretrainConfig) -> Tensor:
    """The middle of an image, normalised, shape `(channels, size, size)`: what evaluation shows to the network."""
    return sample_center_view(images.read(index), training_recipe(config))


def displayed(view: Tensor, config: PretrainConfig) -> Tensor:
    """A normalised view as values in [0, 1]."""
    recipe = training_recipe(config)
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.mean, recipe.std))
    return (view.cpu() * std + mean).clamp(0, 1)


def no_ranking(concentration: Tensor, config: PretrainConfig) -> str:
    """Why κ does not rank the images, shape `(images,)`; nothing where it does."""
    if concentration.min() < concentration.max():
        return ""
    remedy = " VI-SimSiam predicts κ, unless its concentration_map is constant."
    reason = "κ is the same for all images"
    if len(concentration) == 1:
        reason, remedy = "there is one image", ""
    elif not config.method.predicts_concentration:
        reason = f"κ is a constant of {config.method.name}"
    shown = format_concentration(float(concentration[0]))
    return f"{reason} (κ = {shown}), so there is no ranking.{remedy}"


def embeddings(
    pretrained: Pretrained, images: ImageSet, *, batch_size: int = 256, threads: int | None = None
) -> Iterator[Embedding]:
    """Embed the middle of every image, in order, on the device of the pair; with a progress bar on a terminal.

    Args:
        pretrained: The network.
        images: The set; no more than a few batches of it are in memory.
        batch_size: Images at a time.
        threads: Number of threads that decode.

    Raises:
        BrokenImageError: If an image cannot be read.
        CheckpointError: If features or experts are not finite: the training has diverged.
    """
    views = in_threads(
        lambda index: center_view(images, index, pretrained.config),
        range(len(images)),
        f"embedding {images.name}",
        threads=threads,
    )
    done = 0
    while done < len(images):
        batch = torch.stack(list(islice(views, batch_size)))
        yield finite(embed(pretrained.pair, batch), f"first near {images.location(done)}")
        done += len(batch)


def finite(seen: Embedding, where: str) -> Embedding:
    """The same embedding, of which nothing is NaN or infinite.

    Raises:
        CheckpointError: If something is: the training has diverged.
    """
    if not all(bool(part.isfinite().all()) for part in seen):
        raise CheckpointError(f"the network gives NaN or infinity, {where}: its training has diverged")
    return seen


@dataclass(frozen=True)
class RandomViews:
    """Features of random views, made anew in every epoch; a source for `inference.judging.linear_probe.linear_probe`.

    Attributes:
        pretrained: The network.
        images: On the device of the network, or decoded when wanted and put there.
        seed: Of the views.
    """

    pretrained: Pretrained
    images: DeviceImages | StreamedImages
    seed: int = 0

    def __call__(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Features for each batch of image numbers."""
        recipe = training_recipe(self.pretrained.config)
        transform, backbone = BatchedViews(recipe), self.pretrained.pair.model.encoder.get_submodule("backbone").eval()
        with closing(self.images.canvases(batches)) as canvases:
            for number, (canvas, sizes) in enumerate(canvases):
                generator = derived_generator(self.seed, Stream.VIEWS, epoch, number, device=canvas.device)
                with torch.no_grad():  # not around the yield: it would hold for what takes the features
                    features = backbone(transform(canvas, sizes, draw_parameters(recipe, sizes, generator)))
                yield features
