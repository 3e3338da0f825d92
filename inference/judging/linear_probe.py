"""The paper's linear evaluation: a linear classifier on frozen features, trained with LARS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from sklearn.model_selection import train_test_split
from timm.optim.lars import Lars
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from inference.judging.evaluation import check_features_and_labels

_PAPERS_LEARNING_RATE = 1.6  # Section 6.2 of arXiv:2203.11437v1
_LEARNING_RATES = (0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8)
_INITIAL_DEVIATION = 0.01  # of the weights, with biases of 0: the linear evaluation of SimSiam
_TOP = 5
_MIN_CLASSES = 2
_MIN_IMAGES_A_CLASS = 2  # one to fit on and one to hold out
_ROWS_AT_ONCE = 2**14


class FeatureSource(Protocol):
    """Where training features come from when they change with the epoch, as those of augmented views do."""

    def __call__(self, epoch: int, batches: Sequence[Tensor]) -> Iterable[Tensor]:
        """Features `(len(batch), dim)` for each batch of image numbers, in order; the next may be prepared ahead."""


@dataclass(frozen=True)
class ProbeSettings:
    r"""How the classifier is trained; the defaults are the paper's where it says, SimSiam's where it does not.

    Section 6.2 of arXiv:2203.11437v1: LARS, learning rate 1.6, weight decay 0, momentum 0.9, batch size 512, "about
    20% of the training set" held out for tuning. Linear evaluation of SimSiam (arXiv:2011.10566, appendix A): 90
    epochs, learning rate $\tfrac12\eta(1+\cos(\pi e/E))$ in epoch e of E.

    Step for step LARS moves a weight by at most ητ of its length, 0.16 % at η = 1.6. SimSiam takes 28,000 steps on
    ImageNet with that rate; 90 epochs of ImageNette in batches of 512 are 1,700, after which weak features may still be
    far from converged. The candidates therefore reach far above 1.6; with momentum 0.9, those much above 200 diverge.

    Attributes:
        epochs: Passes over the training images; the classifier of the last one is the result.
        batch_size: Images in a step. The last, smaller batch of an epoch is used as well.
        learning_rates: Candidates η. With a single one nothing is tuned and nothing held out.
        momentum: Of LARS.
        trust_coefficient: τ of LARS, see `linear_probe`.
        held_out: Fraction of the training images that chooses among the learning rates.
        seed: Of the initial weights, the order and the held-out images.

    Raises:
        ValueError: If one of them is out of its range.
    """

    epochs: int = 90
    batch_size: int = 512
    learning_rates: tuple[float, ...] = _LEARNING_RATES
    momentum: float = 0.9
    trust_coefficient: float = 1e-3
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rates or not all(0 < rate < math.inf for rate in self.learning_rates):
            raise ValueError(f"learning_rates must be positive and finite, at least one, got {self.learning_rates}")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError(f"learning_rates must all differ, got {self.learning_rates}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 < self.trust_coefficient < math.inf:
            raise ValueError(f"trust_coefficient must be positive and finite, got {self.trust_coefficient}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie strictly between 0 and 1, got {self.held_out}")

    @property
    def tunes(self) -> bool:
        """Whether there is a learning rate to choose."""
        return len(self.learning_rates) > 1

    @property
    def passes(self) -> int:
        """Epochs altogether, for a progress bar: those of the tuning and those of the final fit."""
        return self.epochs * (1 + self.tunes)


@dataclass(frozen=True)
class LinearClassifier:
    """Weights `(classes, dim)`, biases `(classes,)` and the label of each row, in ascending order."""

    weight: Tensor
    bias: Tensor
    labels: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Scores `(images, classes)` of features `(images, dim)`, in float32 also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            return linear(features.float(), self.weight, self.bias)

    @torch.no_grad()
    def ranks(self, features: Tensor, labels: Tensor) -> Tensor:
        """How many classes score above each image's own: 0 where the classifier is right.

        Of equal scores that of the smaller label counts as higher. An image whose label is not among the classes ranks
        behind all of them.
        """
        ranks = [
            self._ranks(rows, own)
            for rows, own in zip(features.split(_ROWS_AT_ONCE), labels.split(_ROWS_AT_ONCE), strict=True)
        ]
        return torch.cat(ranks)

    def _ranks(self, features: Tensor, labels: Tensor) -> Tensor:
        logits = self.logits(features)
        position = torch.searchsorted(self.labels, labels).clamp_max(len(self.labels) - 1)
        own = logits.gather(1, position[:, None])
        column = torch.arange(len(self.labels), device=logits.device)
        above = (logits > own) | ((logits == own) & (column < position[:, None]))
        return torch.where(self.labels[position] == labels, above.sum(1), len(self.labels))


@dataclass(frozen=True)
class ProbeResult:
    """What `linear_probe` found.

    Attributes:
        top1: Fraction of test images whose label scores highest.
        top5: Fraction whose label is among the five that score highest; None with fewer than six classes, where it
            would be 1 for any classifier.
        learning_rate: The one that was chosen.
        held_out_accuracy: Top-1 accuracy on the held-out images for each candidate; empty if nothing was tuned.
        classifier: Fitted on all training images.
    """

    top1: float
    top5: float | None
    learning_rate: float
    held_out_accuracy: dict[float, float]
    classifier: LinearClassifier


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    settings: ProbeSettings | None = None,
    *,
    views: FeatureSource | None = None,
    after_epoch: Callable[[], object] = lambda: None,
) -> ProbeResult:
    r"""Train a linear classifier on frozen features with LARS, and test it: the paper's linear evaluation.

    LARS (arXiv:1708.03888) takes its step along the gradient g of each parameter tensor w with its length measured
    in that of w:

    $$v \leftarrow m v + \lambda g, \quad \lambda = \tau\,\frac{\lVert w\rVert}{\lVert g\rVert + 10^{-8}}, \quad
    w \leftarrow w - \eta v,$$

    and λ = 1 where w or g is zero, as the bias is at first.

    1. A stratified fifth of the *training* images is held out, and one classifier for each learning rate is trained
       on the others. All see the same batches, so that features of augmented views are computed once for all.
    2. The rate of highest accuracy on the held-out images is chosen; of equally good ones the nearest to the paper's
       1.6. One classifier is then trained with it from the start on *all* training images.
    3. It is applied to the test images, once, as it is after the last epoch. They are used for no choice, neither of
       the rate nor of the epoch.

    Everything is float32 on the device of `train_features`, also under autocast. The same seed gives the same result
    on the same device. Features are used as they are, like SimSiam's, not standardised.

    Args:
        train_features: Shape `(train, dim)`, of one fixed view (centre crop) of each image.
        train_labels: Integers, shape `(train,)`, at least two classes, with at least two images each if tuned.
        test_features: Shape `(test, dim)`.
        test_labels: Integers, shape `(test,)`. A label that no training image has is always missed.
        settings: The paper's by default.
        views: Features to train on, instead of `train_features`; those are then used for the held-out images only.
        after_epoch: Called after each of the `settings.passes` epochs, for a progress bar.

    Raises:
        ValueError: If shapes disagree, features are not finite, labels are not integers, there is only one class, or
            a class has a single training image while rates are tuned, or if the training diverges at every rate.

    Example:
        >>> train = torch.tensor([[-2.0], [-1.5], [-1.0], [1.0], [1.5], [2.0]])
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> result = linear_probe(train, labels, torch.tensor([[-3.0], [4.0]]), torch.tensor([0, 1]))
        >>> result.top1, result.top5
        (1.0, None)
    """
    settings = settings or ProbeSettings()
    _check(train_features, train_labels, test_features, test_labels, settings)
    device = train_features.device
    classes, targets = train_labels.to(device).unique(return_inverse=True)
    train = train_features.detach().float()
    fitting = _Fitting(views or _fixed(train), targets, train.size(1), classes, settings, after_epoch)

    everything = torch.arange(len(train))
    held_out_accuracy: dict[float, float] = {}
    rate = settings.learning_rates[0]
    if settings.tunes:
        fitted, held_out = hold_out(train_labels, settings.held_out, settings.seed)
        x, y = train[held_out.to(device)], classes[targets[held_out.to(device)]]
        for candidate, classifier in fitting.run(fitted, settings.learning_rates).items():
            held_out_accuracy[candidate] = _accuracy(classifier.ranks(x, y), 1) if _is_finite(classifier) else 0.0
        rate = max(
            settings.learning_rates,
            key=lambda rate: (held_out_accuracy[rate], -abs(math.log(rate / _PAPERS_LEARNING_RATE))),
        )
    classifier = fitting.run(everything, (rate,))[rate]
    if not _is_finite(classifier):
        raise ValueError(
            f"the weights became infinite or NaN at learning rate {rate}: learning_rates must hold a smaller one, or "
            "views give features that are not finite"
        )
    ranks = classifier.ranks(test_features.detach().to(device), test_labels.to(device))
    top5 = _accuracy(ranks, _TOP) if len(classes) > _TOP else None
    return ProbeResult(_accuracy(ranks, 1), top5, rate, held_out_accuracy, classifier)


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split image numbers into those to fit on and those held out, every class as nearly in proportion as can be.

    Args:
        labels: Integers, shape `(images,)`, at least two of each class.
        fraction: Of the images to hold out, at least as many as there are classes. A class of few images beside large
            ones may have all of them on one side.
        seed: Of the choice.

    Raises:
        ValueError: If fewer images than classes are left to fit on.
    """
    classes = len(labels.unique())
    least = max(math.ceil(fraction * len(labels)), classes)
    if len(labels) - least < classes:
        raise ValueError(
            f"held_out must leave an image or more for each of {classes} classes to fit on, got {least} of "
            f"{len(labels)} images held out"
        )
    fitted, held_out = train_test_split(range(len(labels)), test_size=least, stratify=labels.cpu(), random_state=seed)
    return torch.tensor(fitted), torch.tensor(held_out)


@dataclass(frozen=True)
class _Fitting:
    source: FeatureSource
    targets: Tensor
    dim: int
    classes: Tensor
    settings: ProbeSettings
    after_epoch: Callable[[], object]

    def run(self, images: Tensor, rates: Sequence[float]) -> dict[float, LinearClassifier]:
        """Train one classifier for each rate on the same batches of `images`."""
        device = self.targets.device
        # The first numbers of the generator are the weights, the next the order: drawn on the CPU, whose numbers are
        # the same everywhere.
        generator = torch.Generator().manual_seed(self.settings.seed)
        weight = _INITIAL_DEVIATION * torch.randn(len(self.classes), self.dim, generator=generator)
        weights = [nn.Parameter(weight.to(device, copy=True)) for _ in rates]
        biases = [nn.Parameter(torch.zeros(len(self.classes), device=device)) for _ in rates]
        # Without always_adapt this Lars is plain SGD where the weight decay is 0.
        optimizer = Lars(
            [{"params": list(parameters)} for parameters in zip(weights, biases, strict=True)],
            momentum=self.settings.momentum,
            weight_decay=0.0,
            trust_coeff=self.settings.trust_coefficient,
            always_adapt=True,
        )
        for epoch in range(self.settings.epochs):
            decay = (1 + math.cos(math.pi * epoch / self.settings.epochs)) / 2
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = decay * rate
            order = images[torch.randperm(len(images), generator=generator)]
            self._epoch(epoch, order.split(self.settings.batch_size), weights, biases, optimizer)
            self.after_epoch()
        return {
            rate: LinearClassifier(weight.detach(), bias.detach(), self.classes)
            for rate, weight, bias in zip(rates, weights, biases, strict=True)
        }

    def _epoch(
        self,
        epoch: int,
        batches: Sequence[Tensor],
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        device = self.targets.device
        for batch, rows in zip(batches, self.source(epoch, batches), strict=True):
            expected = (len(batch), self.dim)
            if rows.shape != expected:
                raise ValueError(f"views must give features of shape {expected} here, got {tuple(rows.shape)}")
            features, targets = rows.detach().to(device).float(), self.targets[batch.to(device)]
            with torch.enable_grad(), torch.autocast(device.type, enabled=False):
                # All classifiers in one product: their losses have no parameter in common, so the sum of the losses
                # gives each the gradient of its own.
                logits = linear(features, torch.cat(list(weights)), torch.cat(list(biases)))
                logits = logits.unflatten(1, (len(weights), len(self.classes))).transpose(0, 1)
                repeated = targets.expand(len(weights), -1)
                loss = cross_entropy(logits.flatten(0, 1), repeated.flatten(), reduction="sum") / len(batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            optimizer.step()


def _fixed(features: Tensor) -> FeatureSource:
    def source(epoch: int, batches: Sequence[Tensor]) -> Iterator[Tensor]:  # noqa: ARG001  # the same in every epoch
        for batch in batches:
            yield features[batch.to(features.device)]

    return source


def _accuracy(ranks: Tensor, top: int) -> float:
    return int((ranks < top).sum()) / len(ranks)


def _is_finite(classifier: LinearClassifier) -> bool:
    return bool(classifier.weight.isfinite().all() and classifier.bias.isfinite().all())


def _check(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor, settings: ProbeSettings
) -> None:
    check_features_and_labels(train_features, train_labels, test_features, test_labels)
    for name, features in (("train_features", train_features), ("test_features", test_features)):
        # LARS divides by the length of a gradient, which is as large as the features.
        if not features.detach().float().square().sum(1).isfinite().all():
            raise ValueError(
                f"{name} must have a finite length in float32, got values up to {float(features.abs().max()):.3g}"
            )
    classes, counts = train_labels.unique(return_counts=True)
    if len(classes) < _MIN_CLASSES:
        raise ValueError(f"train_labels must hold at least {_MIN_CLASSES} classes, got only {classes.tolist()}")
    if settings.tunes and int(counts.min()) < _MIN_IMAGES_A_CLASS:
        raise ValueError(
            f"train_labels must hold at least {_MIN_IMAGES_A_CLASS} images of each class so that one can be held out, "
            f"got {int(counts.min())} of class {int(classes[counts.argmin()])}; a single learning rate needs no tuning"
        )
