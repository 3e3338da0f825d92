"""κ beside what competes with it: every way to give an image an uncertainty, applied to the same images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from scipy.stats import entropy
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from experiments.evaluation.uncertainty.subject import BATCH, Subject, features_of, fresh_generator, random_view
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import UNLABELLED
from inference.judging.linear_probe import LinearClassifier, linear_probe
from inference.judging.representation import Embedding
from ssl_as_inference.sphere import normalize

KAPPA = "κ"
EDGES = "edge energy"
MAHALANOBIS = "Mahalanobis distance"
TWO_VIEWS = "cosine of two views"
TWO_TARGETS = f"{TWO_VIEWS}' targets"
SOFTMAX = "maximum softmax"

_TWO_VIEWS_STREAM = 1
_LEVELS = 256
_OF_EACH_CLASS = 4  # two halves, in each of which one image chooses the learning rate and one fits

Uncertainties = dict[str, Tensor]
"""Name of the uncertainty to its value for each image, float64, on the CPU; larger is less certain."""


@dataclass(frozen=True, eq=False)
class Rivals:
    """All uncertainties of images.

    κ's is −κ; or where there are `heads`, each one's, negatively. The others, in the order in which `__call__` gives
    them:

    - edge energy, size as JPEG, entropy of the pixels, taken negatively : no network at all. That choice of
      sign is part of the rival: where one lies below chance, its opposite would lie above it by as much;
    - norm of the features, negatively: what any network gives away for nothing;
    - distance to the nearest training image, 1 − cosine of their features;
    - Mahalanobis distance of the features from those of the training images, were they normally distributed: what a
      Laplace approximation of a linear last layer has to say of images far from the data. The covariance is shrunk
      towards a multiple of the identity by the amount of Ledoit and Wolf (A well-conditioned estimator for
      large-dimensional covariance matrices, 2004): with fewer images than features, a sample's own has no inverse;
    - cosine of two views, negatively: mean over two random views x, x' of μ(x)ᵀf(x') and μ(x')ᵀf(x), which every
      method has, SimSiam included, at the price of two more looks;
    - the same with the views and the network of another pair, where there is one (`other`), such as SimSiam's;
    - maximum softmax of the linear probe, negatively: it was trained on labels, so it is an upper bound, not a rival.

    Attributes:
        subject: Whose κ it is.
        bank: Features of training images, normalised; shape `(train, features)`, on the subject's device.
        probe: Linear classifier on the features; `None` where there are no labels.
        other: Another pair, whose two views are compared, and its name.
        seed: Of the random views: every call draws the same, so that levels of a degradation differ in nothing else.
        gaussian: Fitted to the training images' features; without it there is no Mahalanobis distance.
        two_views: Whether the cosine of two views is among them: it takes two thirds of the time. Without it the cosine
            f(x)ᵀf(x') of two views' targets takes its place where images are as they are.
        heads: What is asked instead of the pair's own κ: by name, features to how certain each image is.
        class_names: The classes that the probe was told.
    """

    subject: Subject
    bank: Tensor
    probe: LinearClassifier | None = None
    other: tuple[str, Subject] | None = None
    seed: int = 0
    gaussian: LedoitWolf | None = None
    two_views: bool = True
    heads: Mapping[str, Callable[[Tensor], Tensor]] | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def fit(cls, subject: Subject, train: DeviceImages, **settings: Any) -> Self:
        """Fit what has to be fitted to training images; a probe, where they have labels, and each class has four.

        Args:
            subject: Who looks.
            train: Images that it was trained on.
            **settings: `other`, `seed`, `two_views`.
        """
        features, probe = features_of(subject, train), None
        labels = train.labels.to(features.device)
        if bool((labels != UNLABELLED).all()) and len(labels.unique()) > 1:
            least = int(labels.unique(return_counts=True)[1].min())
            if least < _OF_EACH_CLASS:
                print(f"No linear probe, nor what needs one: a class has {least} training images, not {_OF_EACH_CLASS}")
            else:
                probe = linear_probe(features, labels, features, labels).classifier
        gaussian = LedoitWolf().fit(features.double().cpu().numpy())
        bank = normalize(features.float())
        return cls(subject, bank, probe, gaussian=gaussian, class_names=train.class_names, **settings)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Uncertainties:
        """Judge images in [0, 1], shape `(images, channels, size, size)` with the size of the subject's views."""
        generators = [fresh_generator(self.seed, _TWO_VIEWS_STREAM + number) for number in range(2)]
        parts = [self._judge(batch, generators) for batch in pixels.split(BATCH)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _judge(self, pixels: Tensor, generators: list[torch.Generator]) -> Uncertainties:
        seen = self.subject.look(pixels)
        own = {KAPPA: seen.concentration}
        if self.heads is not None:
            own = {name: head(seen.features) for name, head in self.heads.items()}
        certain = own | {
            EDGES: edge_energy(pixels),
            "JPEG size": jpeg_bytes(pixels),
            "pixel entropy": pixel_entropy(pixels),
            "feature norm": seen.features.norm(dim=1),
            "kNN distance": (normalize(seen.features.float()) @ self.bank.T).amax(1),
        }
        if self.gaussian is not None:
            squared = torch.from_numpy(self.gaussian.mahalanobis(seen.features.double().cpu().numpy()))
            certain[MAHALANOBIS] = -squared.clamp_min(0).sqrt()  # rounding may leave a square below zero
        if self.two_views:
            certain[TWO_VIEWS] = _agreement(pixels, self.subject, generators[0])
        if self.other is not None:
            name, subject = self.other
            certain[f"{TWO_VIEWS}, {name}"] = _agreement(pixels, subject, generators[1])
        if self.probe is not None:
            certain[SOFTMAX] = self.probe.logits(seen.features).double().softmax(1).amax(1)
        return {name: -value.double().cpu() for name, value in certain.items()}


def _agreement(pixels: Tensor, subject: Subject, generator: torch.Generator) -> Tensor:
    canvas = (255 * pixels).round().to(torch.uint8)
    sizes = torch.tensor(pixels.shape[-2:]).expand(len(pixels), 2)
    first, second = (random_view(canvas, sizes, subject, generator) for _ in range(2))
    return (cosines(first, second) + cosines(second, first)) / 2


def cosines(predicting: Embedding, predicted: Embedding) -> Tensor:
    """μᵀf' of each image: how well one view predicted the other."""
    cosine: Tensor = (predicting.mean_direction.double() * predicted.outputs.double()).sum(-1)
    return cosine


def edge_energy(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, across and down, over channels; shape `(images,)`.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`; one row or column has no difference.

    Example:
        >>> edge_energy(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]]))
        tensor([1., 0.])
    """
    steps = [images.diff(dim=axis).square().flatten(1) for axis in (2, 3)]
    return sum((step.mean(1) for step in steps if step.size(1)), images.new_zeros(len(images)))


def jpeg_bytes(images: Tensor) -> Tensor:
    """Size of each image as a JPEG file of quality 75, in bytes: float32, on the CPU, shape `(images,)`.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)` with 1 or 3 channels.

    Example:
        >>> flat, noise = torch.full((1, 1, 64, 64), 0.5), torch.rand(1, 1, 64, 64)
        >>> bool(jpeg_bytes(flat) < jpeg_bytes(noise))
        True
    """
    sizes = []
    for pixels in _bytes(images).cpu():
        file = io.BytesIO()
        to_pil_image(pixels).save(file, "JPEG", quality=75)
        sizes.append(float(file.tell()))
    return torch.tensor(sizes)


def pixel_entropy(images: Tensor) -> Tensor:
    """Entropy, in bits, of the distribution of an image's grey values over 256 levels; shape `(images,)`.

    Args:
        images: Values in [0, 1], shape `(images, channels, height, width)`; channels are averaged.

    Example:
        >>> pixel_entropy(torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]]))
        tensor([2., 0.], dtype=torch.float64)
    """
    counts = [level.flatten().bincount(minlength=_LEVELS).cpu().numpy() for level in _bytes(images.mean(1)).int()]
    return torch.tensor([float(entropy(count, base=2)) for count in counts], dtype=torch.float64)


def _bytes(images: Tensor) -> Tensor:
    return (images * (_LEVELS - 1)).round().to(torch.uint8)
