"""What the objective says when model, guide or views do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.distributions import DeltaMixture, PowerSpherical, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import LATENT, MultiViewGuide, MultiViewModel, MultiViewPair, ViewGivenLatent
from ssl_as_inference.sphere import normalize

DIM, IMAGES = 5, 4
POINTS = torch.eye(DIM)[:IMAGES]


def guide_without_latent(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample("other", SphericalUniform(DIM))


def guide_without_enumeration(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample(LATENT, DeltaMixture(torch.stack([POINTS, POINTS], dim=1)))


class PointsOnly(VonMisesFisher):
    """A density that gives its mode as a draw, so that the test needs no sampler."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.mode.expand(*sample_shape, *self.mode.shape)


def guide_with_a_density(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample(LATENT, PointsOnly(POINTS, 3.0))


def guide_over_two_atoms(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample(LATENT, DeltaMixture(torch.stack([POINTS, -POINTS], dim=1)), infer={"enumerate": "parallel"})


def model_without_views(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample(LATENT, SphericalUniform(DIM))


def model_without_latent(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        likelihood = ViewGivenLatent(VonMisesFisher(POINTS, 3.0), POINTS, (DIM,))
        for number, view in enumerate(views):
            pyro.sample(f"x_{number}", likelihood, obs=view)


class Head(nn.Module):
    """Give the expert that a function makes of the projection."""

    def __init__(self, expert: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, projection: Tensor) -> Any:
        return self.expert(projection)


def model_with(expert: Callable[[Tensor], Any]) -> MultiViewModel:
    return MultiViewModel(nn.Identity(), Head(expert))


PLAIN_GUIDE = MultiViewGuide(nn.Identity())
PLAIN_MODEL = model_with(lambda projection: VonMisesFisher(normalize(projection), 3.0))


@pytest.mark.parametrize(
    ("model", "guide", "views", "message"),
    [
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            [POINTS],
            r'pairs="cross" .* needs at least 2 of them, got 1 view\(s\) and 1 atom\(s\); pairs="all" works with one',
            id="one view, cross pairs",
        ),
        pytest.param(
            PLAIN_MODEL,
            MultiViewGuide(nn.Identity(), 1),
            [POINTS, POINTS],
            r'pairs="cross" .* needs at least 2 of them, got 2 view\(s\) and 1 atom\(s\)',
            id="one atom, cross pairs",
        ),
        pytest.param(
            PLAIN_MODEL,
            guide_without_latent,
            [POINTS, POINTS],
            r"guide must sample a site named 'z', got sites \['other'\]",
            id="guide without z",
        ),
        pytest.param(
            PLAIN_MODEL,
            guide_without_enumeration,
            [POINTS, POINTS],
            r"guide must draw 'z' from a DeltaMixture with infer=\{'enumerate': 'parallel'\}",
            id="guide without enumeration",
        ),
        pytest.param(
            PLAIN_MODEL,
            guide_with_a_density,
            [POINTS, POINTS],
            r"guide must draw 'z' from a DeltaMixture .* got PointsOnly",
            id="guide with a density",
        ),
        pytest.param(
            model_without_views,
            guide_over_two_atoms,
            [POINTS, POINTS],
            "model must observe views .* got none",
            id="model without views",
        ),
        pytest.param(
            model_without_latent,
            guide_over_two_atoms,
            [POINTS, POINTS],
            r"model must sample a site named 'z', got sites \['x_0', 'x_1'\]",
            id="model without z",
        ),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            POINTS,
            r"views must be a sequence of M >= 1 tensors of shape \(images, ...\), got a tensor of shape \(4, 5\)",
            id="one tensor instead of a list",
        ),
        pytest.param(PLAIN_MODEL, PLAIN_GUIDE, [], "views must be a sequence of M >= 1 .* got none", id="no views"),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            [POINTS, POINTS[:3]],
            r"views must show the same images: .* got lengths \[4, 3\]",
            id="unequal lengths",
        ),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            [torch.tensor(1.0), torch.tensor(2.0)],
            r"views must .* shape \(images, ...\), got a view of shape \(\)",
            id="views without a batch axis",
        ),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            ["a photo", "another"],
            r"views must be a sequence of M >= 1 tensors .* got a view of type str",
            id="views that are no tensors",
        ),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            [POINTS[:0], POINTS[:0]],
            r"views must show at least one image, got shape \(0, 5\)",
            id="no images",
        ),
        pytest.param(
            model_with(lambda projection: VonMisesFisher(2 * normalize(projection), 3.0)),
            PLAIN_GUIDE,
            [POINTS, POINTS],
            "mean_direction must have unit length along its last dimension, got a vector of length 2",
            id="directions of length 2",
        ),
        pytest.param(
            model_with(lambda projection: PowerSpherical(normalize(projection), torch.tensor(-1.0))),
            PLAIN_GUIDE,
            [POINTS, POINTS],
            "concentration must be .*>= 0, got -1.0",
            id="negative concentration",
        ),
        pytest.param(
            model_with(lambda projection: VonMisesFisher(normalize(projection), torch.tensor(math.nan))),
            PLAIN_GUIDE,
            [POINTS, POINTS],
            "concentration must be finite .* got nan",
            id="concentration NaN",
        ),
        pytest.param(
            model_with(lambda projection: PowerSpherical(normalize(projection), torch.ones(3))),
            PLAIN_GUIDE,
            [POINTS, POINTS],
            r"concentration of shape \(3,\) does not broadcast with the batch shape \(4,\) of mean_direction",
            id="concentration of another batch",
        ),
        pytest.param(
            PLAIN_MODEL,
            PLAIN_GUIDE,
            [torch.zeros(IMAGES, DIM), POINTS],
            "locations must have unit length .* length 0",
            id="an encoder that gives zero",
        ),
        pytest.param(
            model_with(lambda projection: VonMisesFisher(normalize(projection[:, :3]), 3.0)),
            PLAIN_GUIDE,
            [POINTS[:2], POINTS[:2]],
            "(?s)[Tt]he right-most size .* event_shape|dimension|event shape",
            id="experts in another space than the guide",
        ),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, guide: Any, views: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KLObjective().loss(model, guide, views)


@pytest.mark.parametrize("pairs", ["crossed", None, ["cross"], ""])
def test_unknown_pairs_are_refused(pairs: Any) -> None:
    with pytest.raises(ValueError, match=f'pairs must be "cross" or "all", got {pairs!r}'.replace("[", r"\[")):
        KLObjective(pairs)


@pytest.mark.parametrize("family", ["vmf", "ps"])
def test_a_batch_of_one_image_is_refused_in_training_and_served_in_evaluation(
    family: str, make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair(family), make_views(2, images=1)
    pair.model.encoder = nn.Linear(7, 5).double()
    guide = MultiViewGuide(pair.model.encoder)
    with pytest.raises(ValueError, match="views must hold at least 2 images in training, got 1: batch normalisation"):
        KLObjective().loss(pair.model, guide, views)
    pair.eval()
    assert math.isfinite(KLObjective().loss(pair.model, guide, views))


@pytest.mark.parametrize("part", ["model", "guide"])
def test_a_latent_that_is_conditioned_on_is_refused(
    part: str, make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair("ps"), make_views(2)
    parts: dict[str, Any] = {"model": pair.model, "guide": pair.guide}
    atom = normalize(torch.ones(6, 5, dtype=torch.float64))
    parts[part] = poutine.condition(parts[part], data={"z": atom})
    with pytest.raises(ValueError, match=rf"{part} must sample 'z', got one that is conditioned on a value of 'z'"):
        KLObjective().loss(parts["model"], parts["guide"], views)


def with_a_factor(views: list[Tensor]) -> None:
    PLAIN_MODEL(views)
    pyro.factor("penalty", torch.tensor(-1000.0))


def with_labels(views: list[Tensor]) -> None:
    z = PLAIN_MODEL(views)
    with pyro.plate("images", len(views[0]), dim=-1):
        pyro.sample("label", pyro.distributions.Categorical(logits=z), obs=torch.zeros(len(views[0])))


def with_another_prior(views: list[Tensor]) -> None:
    with pyro.plate("images", len(views[0]), dim=-1):
        z = pyro.sample(LATENT, VonMisesFisher(POINTS, 3.0))
        pyro.sample("x_1", ViewGivenLatent(VonMisesFisher(views[0], 3.0), z, (DIM,)), obs=views[0])


def with_another_latent(views: list[Tensor]) -> None:
    pyro.sample("w", pyro.distributions.Normal(0.0, 1.0))
    PLAIN_GUIDE(views)


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (with_a_factor, PLAIN_GUIDE, "model must have no sites but 'z' and the views, .* got the site 'penalty'"),
        (with_labels, PLAIN_GUIDE, "got the site 'label': mask it"),
        (with_another_prior, PLAIN_GUIDE, "got a prior of 'z' that is not uniform"),
        (PLAIN_MODEL, with_another_latent, "guide must have no sites but 'z' and the views, .* got the site 'w'"),
    ],
)
def test_what_the_objective_would_leave_out_is_refused(model: Any, guide: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KLObjective("all").loss(model, guide, [POINTS, POINTS.flip(0)])


def test_sites_that_count_for_nothing_are_taken() -> None:
    def model(views: list[Tensor]) -> None:
        z = PLAIN_MODEL(views)
        pyro.deterministic("angle", z[..., 0].acos())
        with poutine.mask(mask=False):
            pyro.factor("penalty", torch.tensor(-1000.0))

    views = [POINTS, POINTS.flip(0)]
    assert KLObjective().loss(model, PLAIN_GUIDE, views) == KLObjective().loss(PLAIN_MODEL, PLAIN_GUIDE, views)


@pytest.mark.parametrize("nesting", [0, -1, 1.5, math.inf])
def test_a_number_of_plates_that_is_none_is_refused(nesting: float) -> None:
    with pytest.raises(ValueError, match=f"max_plate_nesting must be an integer >= 1, got {nesting}"):
        KLObjective(max_plate_nesting=nesting)  # type: ignore[arg-type]


def test_equal_masks_of_different_shape_are_one() -> None:
    def model(views: list[Tensor]) -> None:
        masks = [torch.tensor(True), torch.ones(1, IMAGES, dtype=torch.bool)[0]]
        with pyro.plate("images", len(views[0]), dim=-1):
            z = pyro.sample(LATENT, SphericalUniform(DIM))
            for number, (view, mask) in enumerate(zip(views, masks, strict=True)):
                with poutine.mask(mask=mask):  # type: ignore[call-overload]  # written for torch.BoolTensor
                    likelihood = ViewGivenLatent(PLAIN_MODEL.expert(view), z, (DIM,))
                    pyro.sample(f"x_{number}", likelihood, obs=view)

    objective, views = KLObjective("all", normalized=True), [POINTS, POINTS.flip(0)]
    assert objective.loss(model, PLAIN_GUIDE, views) == objective.loss(PLAIN_MODEL, PLAIN_GUIDE, views)


@pytest.mark.parametrize("handler", [poutine.mask, poutine.scale])
def test_a_normalised_product_of_views_that_count_differently_is_refused(handler: Any) -> None:
    kind = handler.__name__
    setting = {kind: torch.tensor([True, False, True, True]) if kind == "mask" else 0.5}

    def model(views: list[Tensor]) -> None:
        with pyro.plate("images", len(views[0]), dim=-1):
            z = pyro.sample(LATENT, SphericalUniform(DIM))
            pyro.sample("x_1", ViewGivenLatent(PLAIN_MODEL.expert(views[0]), z, (DIM,)), obs=views[0])
            with handler(**setting):
                pyro.sample("x_2", ViewGivenLatent(PLAIN_MODEL.expert(views[1]), z, (DIM,)), obs=views[1])

    views = [POINTS, POINTS.flip(0)]
    assert math.isfinite(KLObjective("all").loss(model, PLAIN_GUIDE, views))
    with pytest.raises(ValueError, match=f"model must have one {kind} for all views .* got several"):
        KLObjective("all", normalized=True).loss(model, PLAIN_GUIDE, views)
