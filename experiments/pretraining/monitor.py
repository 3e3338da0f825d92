"""The evaluation of held-out images while a pair is trained; its labels are looked at here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.pretraining.images import TrainingImages, WatchedImages
from inference.fitting.checkpointing import replace_file
from inference.judging.collapse import effective_rank, has_collapsed, standard_deviation
from inference.judging.evaluation import knn_accuracy
from inference.judging.representation import represent
from ssl_as_inference.graphical_model import MultiViewPair

_SPREAD_OVER = 1024  # images: the rank of more outputs costs seconds and says the same


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


def evaluate(pair: MultiViewPair, images: TrainingImages) -> dict[str, float]:
    """`evaluate_online` on the images that a run watches; nothing where it watches none."""
    if images.held_out is None:
        return {}
    return evaluate_online(pair, images.neighbours, images.held_out, k=images.config.monitor.k)


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
