"""How good frozen features are on a labelled set: linear evaluation, neighbours, collapse, and what κ says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from experiments.evaluation.encoding import finite
from experiments.images.randomness import derived_generator
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy, nearest_neighbour_is_right
from inference.judging.linear_probe import FeatureSource, ProbeSettings, linear_probe
from inference.judging.representation import Embedding
from inference.judging.uncertainty import correctness_auroc

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Measures = dict[str, Any]
"""What `measure` finds, as plain values for programs."""

_OUTPUTS_KEPT = 4000
_KEY_OF_OUTPUTS = 5  # apart from the streams of the training's random numbers


@dataclass(frozen=True)
class Encoded:
    """A set through the network, on the CPU.

    Attributes:
        features: Output of the backbone, `(images, features)`.
        outputs: Unit vectors f(x) of at most 4,000 images, which a seed chose, `(chosen, dim)`: the effective rank
            needs a singular value decomposition.
        concentration: κ, `(images,)`.
        labels: Class of each image, `(images,)`.
    """

    features: Tensor
    outputs: Tensor
    concentration: Tensor
    labels: Tensor


def collect(parts: Iterable[Embedding], labels: Tensor, name: str, *, seed: int) -> Encoded:
    """Keep what evaluation needs of the batches of a set.

    Args:
        parts: The batches, in order.
        labels: Class of each image of the set.
        name: Of the set, for a message.
        seed: Chooses the outputs that are kept.

    Raises:
        CheckpointError: If what the network gives is not finite: the training has diverged.
    """
    order = torch.randperm(len(labels), generator=derived_generator(seed, _KEY_OF_OUTPUTS))
    chosen = torch.zeros(len(labels), dtype=torch.bool).index_fill_(0, order[:_OUTPUTS_KEPT], value=True)
    features, outputs, concentration = [], [], []
    done = 0
    for part in parts:
        rows = slice(done, done + len(part.features))
        finite(part, f"on {name}")
        features.append(part.features.float().cpu())
        outputs.append(part.outputs.cpu()[chosen[rows]])
        concentration.append(part.concentration.float().cpu())
        done = rows.stop
    return Encoded(torch.cat(features), torch.cat(outputs), torch.cat(concentration), labels)


def measure(
    train: Encoded,
    held_out: Encoded,
    settings: ProbeSettings,
    *,
    k: int = 20,
    device: torch.device | str = "cpu",
    views: FeatureSource | None = None,
) -> Measures:
    """Judge the features of the training images on the held-out ones, with a progress bar on a terminal.

    Linear evaluation, by a classifier trained on the training images; the vote of the nearest training images; how well
    κ ranks the nearest neighbour being right, `None` where κ is constant, or all neighbours are right, or none is; and
    of either part what needs no labels: how far the normalised outputs spread, and κ at `QUANTILES`.

    Args:
        train: Training images.
        held_out: Held-out images.
        settings: Of the linear evaluation.
        k: Neighbours that vote; all training images where there are fewer.
        device: Where to compute.
        views: Features to train the linear classifier on instead of those of `train`.
    """
    halves = (train.features, train.labels, held_out.features, held_out.labels)
    x, y, new_x, new_y = (tensor.to(device) for tensor in halves)
    with tqdm(total=settings.passes, desc="linear evaluation", unit="epoch", disable=None) as bar:
        linear = linear_probe(x, y, new_x, new_y, settings, views=views, after_epoch=bar.update)
    neighbours = min(k, len(train.labels))
    auroc = math.nan
    if held_out.concentration.min() < held_out.concentration.max():
        auroc = correctness_auroc(held_out.concentration, nearest_neighbour_is_right(x, y, new_x, new_y).cpu())
    return {
        "linear": {
            "top1": linear.top1,
            "top5": linear.top5,
            "learning_rate": linear.learning_rate,
            "held_out_accuracy": {str(rate): accuracy for rate, accuracy in linear.held_out_accuracy.items()},
        },
        "knn": {"k": neighbours, "temperature": 0.07, "accuracy": knn_accuracy(x, y, new_x, new_y, k=neighbours)},
        "correctness_auroc": None if math.isnan(auroc) else auroc,
        "train": _of_part(train),
        "held_out": _of_part(held_out),
    }


def quantiles(concentration: Tensor) -> dict[str, float]:
    """κ at `QUANTILES`, by the percentage that lies below."""
    values = np.quantile(concentration.double().numpy(), QUANTILES)  # torch's takes 16 million numbers at most
    return {f"{100 * quantile:g}%": float(value) for quantile, value in zip(QUANTILES, values, strict=True)}


def _of_part(encoded: Encoded) -> Measures:
    return {
        "images": len(encoded.labels),
        "standard_deviation": standard_deviation(encoded.outputs),
        "effective_rank": effective_rank(encoded.outputs),
        "outputs": len(encoded.outputs),
        "concentration": quantiles(encoded.concentration),
    }
