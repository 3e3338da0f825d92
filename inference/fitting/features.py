"""Fit the head of a pair over a frozen encoder to features that are computed already, in seconds and without labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective
from inference.fitting.pyro_settings import settings_for_training


class _Pair(Protocol):
    """A model and a guide over features."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def guide(self) -> nn.Module: ...

    @property
    def dim(self) -> int: ...

    @property
    def features(self) -> int:
        """Width of the features."""

    def train(self, mode: bool = True) -> object: ...


PairType = TypeVar("PairType", bound=_Pair)


def fit_to_features(
    pair: PairType,
    features: Tensor,
    *,
    epochs: int = 30,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    after_epoch: Callable[[], object] = lambda: None,
) -> PairType:
    r"""Fit the head of a pair over a frozen encoder, in place, by the paper's objective on pairs of views.

    In each epoch every item comes once, with two of its views, drawn anew: $-\log p_\psi(z_2\mid x_1) - \log
    p_\psi(z_1\mid x_2)$ with the fixed targets z, per dimension of the sphere, by AdamW with a cosine schedule.

    Args:
        pair: What `models.frozen_encoder.FrozenEncoderPair.of(features)` made; on the device of the features.
        features: Of two views or more of each item, shape `(views, items, features)`: images, texts, sounds.
        epochs: Passes over the items.
        batch_size: Items in a step, at most.
        learning_rate: Of AdamW, at the start.
        seed: Of order and pairs: the same seed gives the same pair on the same device.
        after_epoch: Called after each epoch, for a progress bar.

    Returns:
        The pair, in evaluation mode.

    Raises:
        ValueError: If the features have another shape or width, are not finite, or a setting is out of its range.

    Example:
        >>> from models.frozen_encoder import FrozenEncoderPair
        >>> views = torch.randn(50, 8) + 0.3 * torch.randn(2, 50, 8)  # features of two views of each of 50 items
        >>> pair = fit_to_features(FrozenEncoderPair.of(views, dim=3, hidden=16), views, epochs=2)
        >>> new = pair.expert(torch.randn(4, 8))
        >>> new.concentration.shape, bool((new.mean_resultant_length < 1).all())
        (torch.Size([4]), True)
    """
    if features.dim() != 3 or features.size(0) < 2 or features.size(1) < 1 or features.size(2) != pair.features:
        raise ValueError(
            f"features must have shape (views, items, {pair.features}) with at least 2 views, got "
            f"{tuple(features.shape)}"
        )
    if not features.isfinite().all():
        raise ValueError(f"features must be finite, got {int((~features.isfinite()).sum())} NaN or infinite")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    views, items, _ = features.shape
    loss = KLObjective()(pair.model, pair.guide)
    optimizer = torch.optim.AdamW([p for p in loss.parameters() if p.requires_grad], lr=learning_rate)
    steps = epochs * math.ceil(items / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    pair.train()
    with torch.enable_grad(), settings_for_training():
        for _ in range(epochs):
            order = torch.randperm(items, generator=generator)
            first = torch.randint(views, (items,), generator=generator)
            second = (first + torch.randint(1, views, (items,), generator=generator)) % views  # another one
            for rows in order.split(batch_size):
                pair_of_views = [features[of[rows], rows] for of in (first, second)]
                optimizer.zero_grad(set_to_none=True)
                mean: Tensor = loss(pair_of_views) / (len(rows) * (pair.dim - 1))  # nats per dimension of the sphere
                mean.backward()
                optimizer.step()
                schedule.step()
            after_epoch()
    pair.train(mode=False)
    return pair
