"""Looking at all the images of the study once, for one frozen pair: what the measures are then computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor
from tqdm import tqdm

from experiments.evaluation.uncertainty.ambiguity import WEIGHTS, partners, superpose
from experiments.evaluation.uncertainty.rivals import KAPPA, Rivals, Uncertainties, cosines
from experiments.evaluation.uncertainty.subject import BATCH, Subject, fresh_generator, middles, random_view
from experiments.images.degradation_series import DEGRADATIONS
from experiments.images.degradations import crop
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import UNLABELLED
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import nearest_other_is_right
from inference.judging.linear_probe import linear_probe
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.sphere import normalize

LARGEST_CROP, SMALLEST_CROP = 1.0, 0.25
_CHOICE, _PARTNERS, _CROPS, _PAIRS = 10, 11, 12, 13


@dataclass(frozen=True, eq=False)
class FreshViews:
    """Of each image one view that predicts and another that is predicted.

    Attributes:
        dim: Of the sphere.
        law: Family of the experts.
        concentration: κ of the first view.
        expected: Mean cosine that its expert expects.
        cosine: μ(first)ᵀf(second).
    """

    dim: int
    law: type[PowerSpherical | VonMisesFisher]
    concentration: Tensor
    expected: Tensor
    cosine: Tensor


@dataclass(frozen=True, eq=False)
class Observations:
    """Everything that was seen of the images; rows of a level are images.

    Attributes:
        clean: Uncertainties of the images as they are.
        degraded: For each degradation and uncertainty, `(levels, images)`.
        cropped: Of a crop of the middle, its side uniform between a quarter and the whole.
        foreign: For each other set of images, its uncertainties.
        ambiguous: `(levels, images)` of superpositions of two classes, one level a weight of `WEIGHTS`.
        control: The same of superpositions of one class.
        neighbour_is_right: Whether the nearest other image is of the same class; `None` without labels.
        probe_is_right: Whether the linear probe is; `None` without labels.
        fresh: Pairs of random views.
        standard_deviation: Of the outputs on the sphere, 1 for the uniform law.
        effective_rank: Of the outputs.
    """

    clean: Uncertainties
    degraded: dict[str, Uncertainties]
    cropped: Uncertainties
    foreign: dict[str, Uncertainties]
    ambiguous: Uncertainties
    control: Uncertainties
    neighbour_is_right: Tensor | None
    probe_is_right: Tensor | None
    fresh: FreshViews
    standard_deviation: float
    effective_rank: float

    @property
    def names(self) -> list[str]:
        """The uncertainties that say anything: a constant κ does not."""
        return [name for name, values in self.clean.items() if name != KAPPA or values.min() < values.max()]


def observe(
    subject: Subject,
    train: DeviceImages,
    test: DeviceImages,
    foreign: Mapping[str, DeviceImages],
    *,
    images: int,
    other: tuple[str, Subject] | None = None,
    seed: int = 0,
    progress: bool = True,
    two_views: bool = True,
) -> Observations:
    """Look at everything once.

    Args:
        subject: The frozen pair.
        train: Images that it was trained on: neighbours, and the probe's training set.
        test: New images of the same kind.
        foreign: Other sets, by name.
        images: How many of `test` and of each foreign set at most, the same for every pair.
        other: Another pair whose two views are compared, and its name.
        seed: Of the choice of images, the degradations and the views.
        progress: Whether to show a bar.
        two_views: Whether the cosine of two views of each image competes.
    """
    chosen = chosen_images(len(test), images, seed)
    pixels = middles(test, subject.recipe, chosen)
    labels = test.labels.cpu()[chosen]
    seen = [subject.look(batch) for batch in pixels.split(BATCH)]
    features, outputs = (torch.cat([getattr(part, name) for part in seen]) for name in ("features", "outputs"))
    # A batch at a time: pixels of all training images may not fit.
    everyone = torch.arange(len(train)).split(BATCH)
    bank = torch.cat([subject.look(middles(train, subject.recipe, rows)).features for rows in everyone])
    probe, neighbour_is_right, probe_is_right = None, None, None
    if bool((labels != UNLABELLED).all() and (train.labels != UNLABELLED).all() and len(labels.unique()) > 1):
        there = labels.to(features.device)
        probe = linear_probe(bank, train.labels, features, there).classifier
        probe_is_right = (probe.ranks(features, there) == 0).cpu()
        neighbour_is_right = nearest_other_is_right(features, there).cpu()
    gaussian = LedoitWolf().fit(bank.double().cpu().numpy())
    rivals = Rivals(subject, normalize(bank.float()), probe, other, seed, gaussian, two_views)

    looks = 2 + sum(len(series) for series in DEGRADATIONS) + len(foreign) + (0 if probe is None else 2 * len(WEIGHTS))
    with tqdm(total=looks, desc="images", unit="look", disable=not progress, leave=False) as bar:

        def look(at: Tensor) -> Uncertainties:
            judged = rivals(at)
            bar.update()
            return judged

        degraded = {
            series.name: _stack([look(series(pixels, level, seed=seed)) for level in range(len(series))])
            for series in DEGRADATIONS
        }
        # Level 0 of any degradation is the image as it is, but for the rounding of the degradation's arithmetic.
        clean = look(pixels)
        removed = 1 - (SMALLEST_CROP + (LARGEST_CROP - SMALLEST_CROP) * _uniform(len(pixels), seed, _CROPS))
        return Observations(
            clean=clean,
            degraded=degraded,
            cropped=look(crop(pixels, removed)),
            foreign={
                name: look(middles(images_of, subject.recipe, chosen_images(len(images_of), images, seed)))
                for name, images_of in foreign.items()
            },
            ambiguous={} if probe is None else _superpositions(pixels, labels, look, seed, same_class=False),
            control={} if probe is None else _superpositions(pixels, labels, look, seed, same_class=True),
            neighbour_is_right=neighbour_is_right,
            probe_is_right=probe_is_right,
            fresh=_fresh(subject, test, chosen, seed),
            standard_deviation=standard_deviation(outputs),
            effective_rank=effective_rank(outputs),
        )


def _superpositions(
    pixels: Tensor, labels: Tensor, look: Callable[[Tensor], Uncertainties], seed: int, *, same_class: bool
) -> Uncertainties:
    partner = partners(labels, fresh_generator(seed, _PARTNERS + same_class * 100), same_class=same_class)
    there = partner >= 0
    if not there.any():
        return {}
    first, second = pixels[there], pixels[partner[there]]
    return _stack([look(superpose(first, second, weight)) for weight in WEIGHTS])


@torch.no_grad()
def _fresh(subject: Subject, images: DeviceImages, chosen: Tensor, seed: int) -> FreshViews:
    generators = [fresh_generator(seed, _PAIRS + number) for number in range(2)]
    law = subject.law()
    parts = []
    for rows in chosen.to(images.device).split(BATCH):
        first, second = (
            random_view(images.canvas[rows], images.sizes[rows], subject, generator) for generator in generators
        )
        kappa = first.concentration.double()
        expected = law(first.mean_direction.double(), kappa, validate_args=False).mean_resultant_length
        parts.append([tensor.cpu() for tensor in (kappa, expected, cosines(first, second))])
    return FreshViews(subject.pair.dim, law, *(torch.cat(column) for column in zip(*parts, strict=True)))


def chosen_images(available: int, wanted: int, seed: int) -> Tensor:
    """Which images are looked at: the same for every pair of one seed."""
    return torch.randperm(available, generator=fresh_generator(seed, _CHOICE))[:wanted].sort().values


def _uniform(count: int, seed: int, purpose: int) -> Tensor:
    return torch.rand(count, generator=fresh_generator(seed, purpose))


def _stack(levels: list[Uncertainties]) -> Uncertainties:
    return {name: torch.stack([level[name] for level in levels]) for name in levels[0]}
