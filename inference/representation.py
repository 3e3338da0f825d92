"""What a fitted pair says of images: features, latent outputs, concentrations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_as_inference.graphical_model import MultiViewPair
from ssl_as_inference.sphere import normalize


@dataclass(frozen=True)
class Representation:
    """What `represent` returns, a row an image, on the CPU.

    Attributes:
        features: Output of the backbone, used downstream; `(images, features)`.
        outputs: Unit vectors f(x) on the latent sphere; `(images, dim)`.
        concentration: κ of the model's expert for the image; `(images,)`.
    """

    features: Tensor
    outputs: Tensor
    concentration: Tensor


@torch.no_grad()
def represent(pair: MultiViewPair, images: Tensor, *, batch_size: int = 512) -> Representation:
    """Apply the frozen encoder and predictor to images, in evaluation mode.

    Args:
        pair: A method whose encoder has submodules `backbone` and `projector` and whose experts have a `concentration`.
        images: Shape `(images, channels, height, width)`, on any device; moved to the pair's device by batches.
        batch_size: Images at a time.

    Raises:
        ValueError: If there are no images or `batch_size` is less than 1.
    """
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got none")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    device = next(pair.parameters()).device
    backbone = pair.model.encoder.get_submodule("backbone")
    projector = pair.model.encoder.get_submodule("projector")
    was_training = pair.training
    pair.eval()
    try:
        rows = []
        for batch in images.split(batch_size):
            features = backbone(batch.to(device))
            projection = projector(features)
            concentration = pair.model.predictor(projection).concentration
            rows.append((features.cpu(), normalize(projection).cpu(), concentration.cpu()))
    finally:
        pair.train(was_training)
    features, outputs, concentration = (torch.cat(column) for column in zip(*rows, strict=True))
    return Representation(features, outputs, concentration)
