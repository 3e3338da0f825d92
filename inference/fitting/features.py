"""Fit the head of a pair over a frozen encoder to features that are computed already, in seconds and without labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective
from inference.fitting.pyro_settings import settings_for_training

_FEWEST = 20  # items that can tell two numbers
_BATCH, _PASSES, _STEPS = 256, 10, 300


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


def enough_epochs(items: int) -> int:
    """Ten passes over the items; of few items more, so that there are some hundred steps.

    Example:
        >>> enough_epochs(10_000), enough_epochs(500)
        (10, 150)
    """
    return max(_PASSES, math.ceil(_STEPS / math.ceil(items / _BATCH)))


def fit_to_features(
    pair: PairType,
    features: Tensor,
    *,
    epochs: int | None = None,
    batch_size: int = _BATCH,
    learning_rate: float = 1e-3,
    seed: int = 0,
    held_out: float = 0.1,
    at_once: int = 2,
    loss: nn.Module | None = None,
    after_epoch: Callable[[], object] = lambda: None,
) -> PairType:
    r"""Fit the head of a pair over a frozen encoder, in place, by the paper's objective on pairs of views.

    In each epoch every item comes once, with two of its views, drawn anew: $-\log p_\psi(z_2\mid x_1) - \log
    p_\psi(z_1\mid x_2)$ with the fixed targets z, per dimension of the sphere, by AdamW with a cosine schedule. Some
    items are held out, and say in the end what value κ should have (`calibrate`).

    Args:
        pair: What `models.frozen_encoder.FrozenEncoderPair.of(features)` made; on the device of the features.
        features: Of two views or more of each item, shape `(views, items, features)`: images, texts, sounds.
        epochs: Passes over the items; by default `enough_epochs`.
        batch_size: Items in a step, at most.
        learning_rate: Of AdamW, at the start.
        seed: Of order, pairs and held-out items: the same seed gives the same pair on the same device.
        held_out: Fraction of the items that κ is calibrated on; where that is fewer than 20, it stays as it was fitted.
        at_once: How many views of an item are drawn in an epoch.
        loss: What is minimised instead, of a list of views' features to a sum over items, its parameters those of the
            head; then nothing is calibrated.
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
    counts = {"epochs": 1 if epochs is None else epochs, "batch_size": batch_size, "at_once": at_once}
    _check(pair, features, learning_rate, held_out, **counts)
    views, items, _ = features.shape
    epochs = enough_epochs(items) if epochs is None else epochs
    generator = torch.Generator().manual_seed(seed)
    count = int(held_out * items) if loss is None else 0
    asked, fitted = torch.randperm(items, generator=generator).tensor_split([count if count >= _FEWEST else 0])
    objective = KLObjective()(pair.model, pair.guide) if loss is None else loss
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=learning_rate)
    steps = epochs * math.ceil(len(fitted) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    pair.train()
    with torch.enable_grad(), settings_for_training():
        for _ in range(epochs):
            order = fitted[torch.randperm(len(fitted), generator=generator)]
            drawn = torch.rand(items, views, generator=generator).argsort(1)[:, :at_once].T
            for rows in order.split(batch_size):
                some_views = [features[which[rows], rows] for which in drawn]
                optimizer.zero_grad(set_to_none=True)
                mean: Tensor = objective(some_views) / (len(rows) * (pair.dim - 1))  # nats per dimension of the sphere
                mean.backward()
                optimizer.step()
                schedule.step()
            after_epoch()
    pair.train(mode=False)
    return calibrate(pair, features[:, asked]) if len(asked) else pair


def _check(pair: _Pair, features: Tensor, learning_rate: float, held_out: float, **counts: int) -> None:
    if features.dim() != 3 or features.size(0) < 2 or features.size(1) < 1 or features.size(2) != pair.features:
        raise ValueError(
            f"features must have shape (views, items, {pair.features}) with at least 2 views, got "
            f"{tuple(features.shape)}"
        )
    if not features.isfinite().all():
        raise ValueError(f"features must be finite, got {int((~features.isfinite()).sum())} NaN or infinite")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 2 <= counts["at_once"] <= len(features):
        raise ValueError(
            f"at_once must lie between 2 and the number of views, {len(features)}, got {counts['at_once']}"
        )
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must lie in [0, 1), got {held_out}")


@torch.no_grad()
def calibrate(pair: PairType, features: Tensor) -> PairType:
    r"""Recalibrate κ on items to which the head was not fitted, in place; the order of κ stays.

    A head predicts the items that it was fitted to better than new ones, so its κ is too large for new ones.
    Its raw concentration r becomes $e^{a} r + t$, with a and t of the largest likelihood on the held-out items: two
    numbers, that are then part of the last layer.

    Args:
        pair: That was fitted, its head a sequence with a linear layer at the end.
        features: Of held-out items, shape `(views, items, features)`; each view predicts the next one.

    Returns:
        The pair.
    """
    predictor = pair.model.get_submodule("predictor")
    last = predictor.get_submodule("network")[-1]  # type: ignore[index]
    target = pair.guide.get_submodule("network").get_submodule("projector")
    asked = features.flatten(0, 1)
    answers = target(features.roll(-1, 0).flatten(0, 1))
    expert = predictor(asked)
    raw = predictor.get_submodule("network")(asked)[:, -1]
    numbers = torch.zeros(2, device=features.device, requires_grad=True)
    search = torch.optim.LBFGS([numbers], max_iter=100, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def risk() -> Tensor:
        search.zero_grad()
        kappa = predictor.concentration_map(numbers[0].exp() * raw + numbers[1], pair.dim)  # type: ignore[operator]
        loss: Tensor = -type(expert)(expert.mean_direction, kappa).log_prob(answers).mean() / (pair.dim - 1)
        loss.backward()
        return loss

    search.step(risk)
    scale, shift = numbers[0].exp(), numbers[1]
    last.weight[-1] *= scale
    last.bias[-1] = last.bias[-1] * scale + shift
    return pair
