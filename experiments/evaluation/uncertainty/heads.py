"""Heads over the features of one frozen encoder: this project's, what competes with it, and what decides its worth.

All are fitted to the same features of the same views, and have the same size: standardisation, one hidden layer of as
many units, and as many outputs.

- *κ* and *κ, other family*: `inference.fitting.features.fit_to_features`; the other family are von Mises–Fisher experts
  where κ's are Power Spherical.
- *MCInfoNCE*: the contrastive loss with samples of von Mises–Fisher experts (arXiv:2302.02865), which fits μ and κ.
- *loss prediction*: regression of the cross-entropy of a linear probe (arXiv:2402.16569), which was told the labels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.rivals import KAPPA
from experiments.images.degradations import DEGRADATIONS
from inference.fitting.features import enough_epochs, fit_to_features
from inference.fitting.kl_objective import KLObjective
from inference.judging.linear_probe import linear_probe
from models.frozen_encoder import Family, FrozenEncoderPair

OTHER_FAMILY = f"{KAPPA}, other family"
MC_INFO_NCE = "MCInfoNCE"
LOSS_PREDICTION = "loss prediction"

Fit = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""As joblib takes it: what makes a head, and its arguments."""


@dataclass(frozen=True, eq=False)
class Head:
    """What one fit gives.

    Attributes:
        name: The same for all seeds.
        seed: Of the fit.
        certain: Features `(images, features)` to how certain each image is.
        pair: Whose experts promise a cosine; `None` where nothing is promised.
    """

    name: str
    seed: int
    certain: Callable[[Tensor], Tensor]
    pair: FrozenEncoderPair | None = None

    @property
    def column(self) -> str:
        """Where its answers stand among the observations."""
        return f"{self.name}, seed {self.seed}"


class MonteCarloInfoNCE(nn.Module):
    r"""MCInfoNCE (arXiv:2302.02865, Eq. 8), both ways, with the other items of the batch as negatives.

    $$-\log \mathbb{E}_{z\sim p(z\mid x),\,z^+\sim p(z\mid x^+),\,z^-}
      \frac{e^{\kappa_0 z^\top z^+}}{e^{\kappa_0 z^\top z^+} + \sum_{-} e^{\kappa_0 z^\top z^-}}$$

    The expectation, inside the logarithm, is a mean over samples of the experts, through which the gradient passes.

    Args:
        head: Features to von Mises–Fisher experts.
        samples: Of each expert.
        kappa: The constant $\kappa_0$ of two views of one item.

    Example:
        >>> from ssl_as_inference.distributions import VonMisesFisher
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return VonMisesFisher(nn.functional.normalize(x, dim=-1), x.new_full((len(x),), 50.0))
        >>> x, other = torch.eye(3), torch.eye(3).roll(1, 0)
        >>> loss = MonteCarloInfoNCE(Head())
        >>> bool(loss([x, x]) < loss([x, other]))
        True
    """

    def __init__(self, head: nn.Module, *, samples: int = 16, kappa: float = 20.0) -> None:
        super().__init__()
        self.head = head
        self.samples = samples
        self.kappa = kappa

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """The loss of two views' features, a sum over items."""
        first, second = (self.head(view).rsample((self.samples,)) for view in views)
        similarity = self.kappa * first @ second.mT
        found = similarity.diagonal(dim1=-2, dim2=-1)
        loss = torch.zeros((), device=found.device)
        for axis in (-1, -2):  # which item is the second view's, and which the first's?
            log_mean = (found - similarity.logsumexp(axis)).logsumexp(0) - math.log(self.samples)
            loss = loss - log_mean.sum()
        return loss


def fit_kappa(
    name: str,
    views: Tensor,
    seed: int,
    *,
    dim: int,
    hidden: int,
    family: Family,
    whitening: float = 0.25,
    used: int | None = None,
    product: bool = False,
    **settings: Any,
) -> Head:
    """This project's head.

    Args:
        name: Of the head.
        views: Features, shape `(views, items, features)`.
        seed: Of its weights and the fit.
        dim: Dimension of the sphere.
        hidden: Width of the head's hidden layer.
        family: Of the experts.
        whitening: Of the target map.
        used: How many of the views; all when not given.
        product: Whether all views are asked at once, by the normalised product of their experts.
        **settings: Of `fit_to_features`.
    """
    views = views[:used]
    pair = FrozenEncoderPair.of(views, dim=dim, hidden=hidden, family=family, whitening=whitening, seed=seed)
    if product:
        settings |= {"at_once": len(views), "loss": KLObjective("all", normalized=True)(pair.model, pair.guide)}
    fit_to_features(pair, views, seed=seed, **settings)
    return Head(name, seed, _kappa(pair), pair)


def fit_mc_info_nce(views: Tensor, seed: int, *, dim: int, hidden: int, **settings: Any) -> Head:
    """The head of MCInfoNCE; `settings` are those of `fit_to_features`."""
    pair = FrozenEncoderPair.of(views, dim=dim, hidden=hidden, family="von_mises_fisher", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the samples
        fit_to_features(pair, views, seed=seed, loss=MonteCarloInfoNCE(pair.model.predictor), **settings)
    return Head(MC_INFO_NCE, seed, _kappa(pair))


def fit_loss_prediction(views: Tensor, losses: Tensor, seed: int, *, hidden: int) -> Head:
    """The head that predicts the losses of a probe; `losses` has the shape `(views, items)`."""
    epochs = enough_epochs(views.size(1))
    network = MLPRegressor(hidden_layer_sizes=(hidden,), max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
    regression = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many passes as the other heads have
        regression.fit(views.flatten(0, 1).cpu().numpy(), losses.flatten().cpu().numpy())
    return Head(LOSS_PREDICTION, seed, lambda features: -torch.from_numpy(regression.predict(features.cpu().numpy())))


def probe_losses(views: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a linear probe on views of images that it was not fitted to; shape `(views, items)`.

    A probe is nearly always right about the images that it was fitted to; so there are two, of half the images each,
    fitted to the first view.

    Args:
        views: Features of the views, shape `(views, items, features)`.
        labels: Of the images.
    """
    losses = torch.empty(views.shape[:2])
    labels = labels.cpu()
    for fitted, asked in StratifiedKFold(2, shuffle=True, random_state=0).split(labels, labels):
        probe = linear_probe(views[0, fitted], labels[fitted], views[0, asked], labels[asked]).classifier
        there = torch.searchsorted(probe.labels, labels[asked])
        for view in range(len(views)):
            logits = probe.logits(views[view, asked])
            losses[view, asked] = cross_entropy(logits, there, reduction="none").cpu()
    return losses


def rivals_of(head: dict[str, Any], views: Tensor, labels: Tensor | None, seeds: Iterable[int]) -> list[Fit]:
    """This project's head, the same with experts of the other family, and its rivals, of each seed.

    Args:
        head: Dimension, hidden units and family.
        views: Features, shape `(views, items, features)`.
        labels: Of the items; `None` where there is no probe whose losses could be predicted.
        seeds: Of the heads.
    """
    other = "von_mises_fisher" if head["family"] == "power_spherical" else "power_spherical"
    size = {name: head[name] for name in ("dim", "hidden")}
    losses = None if labels is None else probe_losses(views, labels)
    found: list[Fit] = []
    for seed in seeds:
        found += [
            (fit_kappa, (KAPPA, views, seed), head),
            (fit_kappa, (OTHER_FAMILY, views, seed), {**size, "family": other}),
            (fit_mc_info_nce, (views, seed), size),
        ]
        if losses is not None:
            found.append((fit_loss_prediction, (views, losses, seed), {"hidden": head["hidden"]}))
    return found


def dims(items: int, width: int) -> list[int]:
    """The dimensions of the sphere that are tried, as far as so many items of so many features allow them."""
    return [dim for dim in (8, 16, 32, 64, 128) if dim < min(items, width + 1)]


def variants(dim: int, shape: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """What may decide how good κ is: name to what `fit_kappa` is told otherwise, each but the first one thing.

    Args:
        dim: Dimension of the head that is varied.
        shape: Of the features, `(views, items, features)`; of dimensions those that it allows.
    """
    views, items, width = shape
    found: dict[str, dict[str, Any]] = {f"as above: d = {dim}": {}}
    found |= {f"d = {other}": {"dim": other} for other in dims(items, width) if other != dim}
    found |= {f"{count} views": {"used": count} for count in range(2, views)}
    found |= {"no whitening": {"whitening": 0.0}, "full whitening": {"whitening": 0.5}}
    found |= {f"{hidden} hidden units": {"hidden": hidden} for hidden in (64, 2048)}
    found |= {f"{epochs} epochs": {"epochs": epochs} for epochs in (3, 30)}
    family = {"family": "von_mises_fisher"}
    found |= {"not calibrated": {"held_out": 0.0}, "von Mises–Fisher experts": family}
    return {**found, "their normalised product, all views": {**family, "product": True}}


def leave_one_out(views: Tensor, degraded: Tensor) -> dict[str, Tensor]:
    """Features with no defect among the views, with those of all kinds, and without one of the kinds.

    Args:
        views: Features of views without defects, shape `(views, items, features)`.
        degraded: One view of each item for each of `DEGRADATIONS`, shape `(kinds, items, features)`.
    """
    found = {"views without defects": views, "all five kinds among the views": torch.cat([views, degraded])}
    for left_out, series in enumerate(DEGRADATIONS):
        others = [degraded[:left_out], degraded[left_out + 1 :]]
        found[f"all but {series.name} among the views"] = torch.cat([views, *others])
    return found


def told_by(seen: Observations, heads: Sequence[Head], everyone: Iterable[Head]) -> Observations:
    """What some of the heads have to say, each under its name, with what κ's own pair promises of two views.

    Args:
        seen: Observations with a column for each head.
        heads: Of one seed.
        everyone: All heads; columns of the others are left out.
    """
    names = {head.column: head.name for head in heads}
    left_out = {head.column for head in everyone} - set(names)
    fresh = seen.fresh
    for head in heads:
        if head.name == KAPPA and head.pair is not None and seen.views is not None:
            fresh = FreshViews.of(head.pair, *seen.views)
    picked = seen.changed(lambda u, _: {names.get(name, name): u[name] for name in u if name not in left_out})
    return replace(picked, fresh=fresh)


def _kappa(pair: FrozenEncoderPair) -> Callable[[Tensor], Tensor]:
    return lambda features: pair.expert(features.cpu()).concentration
