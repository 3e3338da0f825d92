"""Looking at all the images of the study once, for one frozen pair: what the measures are then computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from tqdm import tqdm

from experiments.evaluation.uncertainty.ambiguity import WEIGHTS, partners, superpose
from experiments.evaluation.uncertainty.rivals import KAPPA, TWO_TARGETS, Rivals, Uncertainties, cosines
from experiments.evaluation.uncertainty.subject import BATCH, Subject, fresh_generator, middles, random_view
from experiments.images.degradations import DEGRADATIONS, crop
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import UNLABELLED
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import nearest_other_is_right
from inference.judging.representation import embed_features
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewPair

_LOOKS = ("clean", "degraded", "cropped", "foreign", "ambiguous", "control")  # what holds uncertainties

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

    @classmethod
    @torch.no_grad()
    def of(cls, pair: MultiViewPair, first: Tensor, second: Tensor) -> Self:
        """What a pair says of the features of two views of each image."""
        first, second = (view.to(next(pair.parameters()).device) for view in (first, second))
        asked, answer = embed_features(pair, first), embed_features(pair, second)
        law = type(pair.model.predictor(pair.model.encoder.get_submodule("projector")(first[:1])))
        kappa = asked.concentration.double()
        expected = law(asked.mean_direction.double(), kappa, validate_args=False).mean_resultant_length
        return cls(pair.dim, law, *(tensor.cpu() for tensor in (kappa, expected, cosines(asked, answer).clamp(-1, 1))))


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
        classes: Of the images; `None` without labels.
        neighbour_is_right: Whether the nearest other image is of the same class; `None` without labels.
        probe_is_right: Whether the linear probe is; `None` without labels.
        fresh: Pairs of random views.
        standard_deviation: Of the outputs on the sphere, 1 for the uniform distribution.
        effective_rank: Of the outputs.
        views: Features of two random views of each image, for other pairs over the same encoder.
    """

    clean: Uncertainties
    degraded: dict[str, Uncertainties]
    cropped: Uncertainties
    foreign: dict[str, Uncertainties]
    ambiguous: Uncertainties
    control: Uncertainties
    classes: Tensor | None
    neighbour_is_right: Tensor | None
    probe_is_right: Tensor | None
    fresh: FreshViews
    standard_deviation: float
    effective_rank: float
    views: tuple[Tensor, Tensor] | None = None

    @property
    def names(self) -> list[str]:
        """The uncertainties that say anything: a constant κ does not."""
        return [name for name, values in self.clean.items() if name != KAPPA or values.min() < values.max()]

    def changed(
        self, change: Callable[[Uncertainties, list[Uncertainties]], Uncertainties], others: Sequence[Self] = ()
    ) -> Self:
        """The same with other uncertainties.

        Args:
            change: Uncertainties of a look, and those of the same look of each of `others`, to the new ones.
            others: Observations of the same images.
        """

        def apply(own: Any, theirs: list[Any]) -> Any:
            if any(isinstance(value, dict) for value in own.values()):  # looks by name
                return {name: apply(look, [other[name] for other in theirs]) for name, look in own.items()}
            return change(own, theirs)

        looks = {look: apply(getattr(self, look), [getattr(other, look) for other in others]) for look in _LOOKS}
        return replace(self, **looks)


def look_at(
    rivals: Rivals,
    test: DeviceImages,
    foreign: Mapping[str, DeviceImages],
    *,
    images: int,
    degraded: int | None = None,
    progress: bool = True,
) -> Observations:
    """Look at everything once.

    Args:
        rivals: All uncertainties; their seed is also that of images, degradations and views.
        test: New images of the kind that the rivals were fitted to.
        foreign: Other sets, by name.
        images: How many of `test` and of each foreign set at most, the same for every pair.
        degraded: How many of these are degraded, cropped and superposed; all by default.
        progress: Whether to show a bar.
    """
    subject, seed = rivals.subject, rivals.seed
    chosen = chosen_images(len(test), images, seed)
    pixels = middles(test, subject.recipe, chosen)
    labels = test.labels.cpu()[chosen]
    seen = [subject.look(batch) for batch in pixels.split(BATCH)]
    features, outputs = (torch.cat([getattr(part, name) for part in seen]) for name in ("features", "outputs"))
    neighbour_is_right, probe_is_right = None, None
    labelled = bool((labels != UNLABELLED).all()) and len(labels.unique()) > 1
    if labelled:
        there = labels.to(features.device)
        neighbour_is_right = nearest_other_is_right(features, there).cpu()
        if rivals.probe is not None and test.class_names == rivals.class_names:
            probe_is_right = (rivals.probe.ranks(features, there) == 0).cpu()
    fewer = chosen_images(len(test), min(images, degraded or images), seed)
    some, some_labels = middles(test, subject.recipe, fewer), test.labels.cpu()[fewer]

    looks = 2 + sum(len(series) for series in DEGRADATIONS) + len(foreign) + (2 * len(WEIGHTS) if labelled else 0)
    with tqdm(total=looks, desc="images", unit="look", disable=not progress, leave=False) as bar:

        def look(at: Tensor) -> Uncertainties:
            judged = rivals(at)
            bar.update()
            return judged

        by_degradation = {
            series.name: _stack([look(series(some, level, seed=seed)) for level in range(len(series))])
            for series in DEGRADATIONS
        }
        # Level 0 of any degradation is the image as it is, but for the rounding of the degradation's arithmetic.
        clean = look(pixels)
        views = _two_views(subject, test, chosen, seed)
        if not rivals.two_views:  # too dear to look twice more each time: of the images as they are alone
            clean[TWO_TARGETS] = -_cosine_of_outputs(subject, *views)
        sides = torch.rand(len(some), generator=fresh_generator(seed, _CROPS))
        removed = 1 - (SMALLEST_CROP + (LARGEST_CROP - SMALLEST_CROP) * sides)
        return Observations(
            clean=clean,
            degraded=by_degradation,
            cropped=look(crop(some, removed)),
            foreign={
                name: look(middles(images_of, subject.recipe, chosen_images(len(images_of), images, seed)))
                for name, images_of in foreign.items()
            },
            ambiguous=_superpositions(some, some_labels, look, seed, same_class=False) if labelled else {},
            control=_superpositions(some, some_labels, look, seed, same_class=True) if labelled else {},
            classes=labels if labelled else None,
            neighbour_is_right=neighbour_is_right,
            probe_is_right=probe_is_right,
            fresh=FreshViews.of(subject.pair, *views),
            standard_deviation=standard_deviation(outputs),
            effective_rank=effective_rank(outputs),
            views=views,
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
def _two_views(subject: Subject, images: DeviceImages, chosen: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Features of two random views of each chosen image."""
    generators = [fresh_generator(seed, _PAIRS + number) for number in range(2)]
    parts = [
        [random_view(images.canvas[rows], images.sizes[rows], subject, generator).features for generator in generators]
        for rows in chosen.to(images.device).split(BATCH)
    ]
    first, second = (torch.cat(column) for column in zip(*parts, strict=True))
    return first, second


def _cosine_of_outputs(subject: Subject, first: Tensor, second: Tensor) -> Tensor:
    one, other = (embed_features(subject.pair, features).outputs.double() for features in (first, second))
    return (one * other).sum(-1).cpu()


def chosen_images(available: int, wanted: int, seed: int) -> Tensor:
    """Which images are looked at: the same for every pair of one seed."""
    return torch.randperm(available, generator=fresh_generator(seed, _CHOICE))[:wanted].sort().values


def _stack(levels: list[Uncertainties]) -> Uncertainties:
    return {name: torch.stack([level[name] for level in levels]) for name in levels[0]}
