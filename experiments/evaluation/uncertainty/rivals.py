"""κ beside what competes with it: every way to give an image an uncertainty, applied to the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.feature_gaussian import FeatureGaussian
from experiments.evaluation.uncertainty.image_statistics import edge_energy, jpeg_bytes, pixel_entropy
from experiments.evaluation.uncertainty.subject import BATCH, Subject, fresh_generator, random_view
from inference.judging.representation import Embedding
from ssl_as_inference.sphere import normalize

KAPPA = "κ"
EDGES = "edge energy"
MAHALANOBIS = "Mahalanobis distance"
TWO_VIEWS = "cosine of two views"
SOFTMAX = "maximum softmax"

_TWO_VIEWS_STREAM = 1

Uncertainties = dict[str, Tensor]
"""Name of the uncertainty to its value for each image, float64, on the CPU; larger is less certain."""


@dataclass(frozen=True, eq=False)
class Rivals:
    """All uncertainties of images.

    κ's is −κ. The others, in the order in which `__call__` gives them:

    - edge energy, size as JPEG, entropy of the pixels, taken negatively (`image_statistics`): no network at all;
    - norm of the features, negatively: what any network gives away for nothing;
    - distance to the nearest training image, 1 − cosine of their features;
    - Mahalanobis distance of the features from those of the training images (`feature_gaussian`);
    - cosine of two views, negatively: mean over two random views x, x' of μ(x)ᵀf(x') and μ(x')ᵀf(x), which every
      method has, SimSiam included, at the price of two more looks;
    - the same with the views and the network of another pair, where there is one (`other`), such as SimSiam's;
    - maximum softmax of the linear probe, negatively: it was told the classes, so that it is a ceiling, no rival.

    Attributes:
        subject: Whose κ it is.
        bank: Features of training images, normalised; shape `(train, features)`, on the subject's device.
        probe: Scikit-learn's classifier on the features; `None` where there are no labels.
        other: Another pair, whose two views are compared, and its name.
        seed: Of the random views: every call draws the same, so that levels of a degradation differ in nothing else.
        gaussian: Law of the training images' features; without it there is no Mahalanobis distance.
        two_views: Whether the cosine of two views is among them: it takes two thirds of the time.
    """

    subject: Subject
    bank: Tensor
    probe: Any = None
    other: tuple[str, Subject] | None = None
    seed: int = 0
    gaussian: FeatureGaussian | None = None
    two_views: bool = True

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Uncertainties:
        """Judge images in [0, 1], shape `(images, channels, size, size)` with the size of the subject's views."""
        generators = [fresh_generator(self.seed, _TWO_VIEWS_STREAM + number) for number in range(2)]
        parts = [self._judge(batch, generators) for batch in pixels.split(BATCH)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def probabilities(self, features: Tensor) -> Tensor:
        """The probe's probability of each class, shape `(images, classes)`."""
        return torch.from_numpy(self.probe.predict_proba(features.double().cpu().numpy()))

    def _judge(self, pixels: Tensor, generators: list[torch.Generator]) -> Uncertainties:
        seen = self.subject.look(pixels)
        certain = {
            KAPPA: seen.concentration,
            EDGES: edge_energy(pixels),
            "JPEG size": jpeg_bytes(pixels),
            "pixel entropy": pixel_entropy(pixels),
            "feature norm": seen.features.norm(dim=1),
            "kNN distance": (normalize(seen.features.float()) @ self.bank.T).amax(1),
        }
        if self.gaussian is not None:
            certain[MAHALANOBIS] = -self.gaussian.distance(seen.features)
        if self.two_views:
            certain[TWO_VIEWS] = _agreement(pixels, self.subject, generators[0])
        if self.other is not None:
            name, subject = self.other
            certain[f"{TWO_VIEWS}, {name}"] = _agreement(pixels, subject, generators[1])
        if self.probe is not None:
            certain[SOFTMAX] = self.probabilities(seen.features).amax(1)
        return {name: -value.double().cpu() for name, value in certain.items()}


def _agreement(pixels: Tensor, subject: Subject, generator: torch.Generator) -> Tensor:
    canvas = (255 * pixels).round().to(torch.uint8)
    sizes = torch.tensor(pixels.shape[-2:]).expand(len(pixels), 2)
    first, second = (random_view(canvas, sizes, subject, generator) for _ in range(2))
    return (cosines(first, second) + cosines(second, first)) / 2


def cosines(predicting: Embedding, predicted: Embedding) -> Tensor:
    """μᵀf' of each image: how well one view foretold the other."""
    cosine: Tensor = (predicting.mean_direction.double() * predicted.outputs.double()).sum(-1)
    return cosine
