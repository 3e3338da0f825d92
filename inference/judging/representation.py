"""What a fitted pair computes for images: features, latent outputs, concentrations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyro
import torch
from torch import Tensor

from ssl_as_inference.graphical_model import MultiViewPair
from ssl_as_inference.sphere import normalize


class Embedding(NamedTuple):
    """What a pair says of images, one row for each.

    Attributes:
        features: Output of the backbone, used downstream; `(images, features)`.
        outputs: Unit vectors f(x) on the latent sphere; `(images, dim)`.
        mean_direction: μ of the model's expert for the image, on the same sphere; `(images, dim)`.
        concentration: κ of that expert; `(images,)`.
    """

    features: Tensor
    outputs: Tensor
    mean_direction: Tensor
    concentration: Tensor


@torch.no_grad()
def embed(pair: MultiViewPair, views: Tensor) -> Embedding:
    """Apply the frozen encoder and predictor to one batch, in evaluation mode, on the pair's device.

    Nothing is checked: where a network has diverged, its rows are NaN or infinite.

    Args:
        pair: A method whose encoder has submodules `backbone` and `projector` and whose experts have a
            `mean_direction` and a `concentration`.
        views: Shape `(images, channels, height, width)`, on any device.
    """
    backbone = pair.model.encoder.get_submodule("backbone")
    was_training = pair.training
    pair.eval()
    try:
        return embed_features(pair, backbone(views.to(next(pair.parameters()).device)))
    finally:
        pair.train(was_training)


@torch.no_grad()
def embed_features(pair: MultiViewPair, features: Tensor) -> Embedding:
    """What a pair in evaluation mode says of views whose features, the outputs of its backbone, are known already.

    Args:
        pair: As for `embed`.
        features: Shape `(images, features)`, on the device of the pair.
    """
    encoder, target = pair.model.encoder, pair.guide.network
    projection = encoder.get_submodule("projector")(features)
    # Pyro's checks would wait for the device, and hide from the caller which images a diverged network fails on.
    with pyro.validation_enabled(False):
        expert = pair.model.predictor(projection)
    outputs = projection
    if target is not encoder and getattr(target, "backbone", None) is encoder.get_submodule("backbone"):
        # One frozen backbone, whose features the guide takes to the sphere in its own way.
        outputs = target.get_submodule("projector")(features)
    return Embedding(features, normalize(outputs), expert.mean_direction, expert.concentration)


def represent(pair: MultiViewPair, images: Tensor | Iterable[Tensor], *, batch_size: int = 512) -> Embedding:
    """`embed` images by batches; what is found is kept on the CPU.

    Args:
        pair: As for `embed`.
        images: Shape `(images, channels, height, width)`, on any device; moved to the pair's device by batches. Or an
            iterable of such batches.
        batch_size: Images at a time, where they come as one tensor.

    Raises:
        ValueError: If there are no images or `batch_size` is less than 1.
    """
    if isinstance(images, Tensor) and len(images) == 0:
        raise ValueError("images must hold at least one image, got none")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batches = images.split(batch_size) if isinstance(images, Tensor) else images
    parts = [[tensor.cpu() for tensor in embed(pair, batch)] for batch in batches]
    if not parts:
        raise ValueError("images must hold at least one image, got none")
    return Embedding(*(torch.cat(column) for column in zip(*parts, strict=True)))
