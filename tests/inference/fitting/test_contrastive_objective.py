"""The objective under the batch's prior is InfoNCE, written in plain PyTorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from inference.fitting.contrastive_objective import ContrastiveObjective
from inference.fitting.kl_objective import KLObjective
from models.networks import VonMisesFisherHead
from ssl_as_inference.distributions import DeltaMixture, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import (
    LATENT,
    FullGradientGuide,
    MultiViewGuide,
    MultiViewModel,
    MultiViewPair,
    ViewGivenLatent,
)

IMAGES, DIM = 7, 5


def contrastive(encoder: nn.Module, temperature: float) -> nn.Module:
    model = MultiViewModel(encoder, VonMisesFisherHead(nn.Identity(), 1 / temperature)).double()
    module: nn.Module = ContrastiveObjective()(model, FullGradientGuide(encoder))
    return module


def info_nce(encoder: nn.Module, views: list[Tensor], temperature: float) -> Tensor:
    """For each ordered pair of views: which image does the second view show? A sum over the batch."""
    z = [normalize(encoder(view)) for view in views]
    labels = torch.arange(len(z[0]))
    return sum(
        cross_entropy(z[j] @ z[i].T / temperature, labels, reduction="sum") / (len(z) - 1)
        for i in range(len(z))
        for j in range(len(z))
        if i != j
    )  # type: ignore[return-value]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [2, 3])
def test_it_is_info_nce_in_value_and_gradient(temperature: float, count: int) -> None:
    encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, DIM)).double()
    plain = copy.deepcopy(encoder)
    views = [torch.randn(IMAGES, 4, dtype=torch.float64) for _ in range(count)]
    ours, theirs = contrastive(encoder, temperature)(views), info_nce(plain, views, temperature)
    torch.testing.assert_close(ours + count * IMAGES * math.log(IMAGES), theirs, rtol=1e-12, atol=1e-12)
    ours.backward()
    theirs.backward()
    for one, other in zip(encoder.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)


def test_a_collapsed_pair_has_loss_0_and_is_not_at_a_minimum(make_views: Callable[..., list[Tensor]]) -> None:
    class Constant(nn.Module):
        def forward(self, view: Tensor) -> Tensor:
            return torch.ones(len(view), DIM, dtype=torch.float64)

    collapsed = contrastive(Constant(), 0.2)(make_views(2))
    assert float(collapsed) == pytest.approx(0, abs=1e-12)
    apart = contrastive(nn.Identity(), 0.2)([torch.eye(DIM, dtype=torch.float64)] * 2)
    assert float(apart) < -DIM
    # The paper's divergence cannot tell the two apart: it is as low for the first as for the second.
    for encoder, views in ((Constant(), make_views(2)), (nn.Identity(), [torch.eye(DIM, dtype=torch.float64)] * 2)):
        model = MultiViewModel(encoder, VonMisesFisherHead(nn.Identity(), 5.0)).double()
        loss = KLObjective()(model, MultiViewGuide(encoder))(views) / len(views[0])
        expert = model.expert(views[0])
        assert float(loss) == pytest.approx(-2 * float(expert.log_prob(expert.mean_direction)[0]), rel=1e-12)


def test_a_predicted_concentration_keeps_its_normaliser(
    make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair("ps").eval(), make_views(2)
    loss = ContrastiveObjective()(pair.model, pair.guide)(views)
    experts = [pair.model.expert(view) for view in views]
    atoms = [pair.guide.locations([view])[:, 0] for view in views]
    expected = torch.zeros((), dtype=torch.float64)
    for i in (0, 1):
        for n in range(len(views[0])):
            densities = experts[i].log_prob(atoms[1 - i][n])  # of every image's expert at this atom
            expected -= densities[n] - (densities.exp().mean()).log()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("keep", [[True] * 5 + [False] * (IMAGES - 5), [True] * IMAGES])
def test_masked_images_are_refused_because_they_would_stay_negatives(
    keep: list[bool], make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair("vmf"), make_views(2)
    mask = torch.tensor(keep)[: len(views[0])]

    def model(views: list[Tensor]) -> None:
        with poutine.mask(mask=mask):  # type: ignore[call-overload]  # written for torch.BoolTensor
            pair.model(views)

    with pytest.raises(ValueError, match=r"model must not mask single images of view 1.* leave them out of the views"):
        ContrastiveObjective().loss(model, pair.guide, views)


def test_one_plate_of_images_is_asked_for() -> None:
    points = torch.eye(5).expand(2, 5, 5)

    def model(views: list[Tensor]) -> None:
        with pyro.plate("groups", 2, dim=-2), pyro.plate("images", 5, dim=-1):
            z = pyro.sample(LATENT, SphericalUniform(5))
            for number, view in enumerate(views):
                pyro.sample(f"x_{number}", ViewGivenLatent(VonMisesFisher(view, 3.0), z, (5,)), obs=view)

    def guide(views: list[Tensor]) -> None:
        with pyro.plate("groups", 2, dim=-2), pyro.plate("images", 5, dim=-1):
            pyro.sample(LATENT, DeltaMixture(torch.stack(views, dim=-2)), infer={"enumerate": "parallel"})

    assert math.isfinite(KLObjective(max_plate_nesting=2).loss(model, guide, [points, points]))
    with pytest.raises(ValueError, match=r"model must have one plate, of images, got experts of shape \(2, 5\)"):
        ContrastiveObjective(max_plate_nesting=2).loss(model, guide, [points, points])


def test_a_normaliser_of_another_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="normalized must be False: log Z belongs to the uniform prior"):
        ContrastiveObjective(normalized=True)
