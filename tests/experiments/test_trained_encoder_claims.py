"""The tests of uniformity and the angle between two objectives, on draws and pairs whose right answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from experiments.verification import claims_trained_encoder as trained
from experiments.verification.claims_trained_encoder import angle_of_pulls, bingham, rayleigh
from experiments.verification.lab import FISHER, Lab, Table
from ssl_as_inference.distributions import SphericalUniform
from ssl_as_inference.graphical_model import MultiViewPair

COUNT = 2000


def uniform(dim: int) -> Tensor:
    return SphericalUniform(dim, dtype=torch.float64).sample((COUNT,))


@pytest.mark.parametrize("dim", [2, 3, 64])
def test_the_statistics_of_uniform_draws_have_mean_0_and_variance_1(dim: int) -> None:
    scores = torch.tensor([[rayleigh(z), bingham(z)] for z in (uniform(dim) for _ in range(60))])
    assert scores.mean(0).abs().max() < 4 / math.sqrt(60)
    assert ((scores.std(0) > 0.5) & (scores.std(0) < 1.6)).all()


def test_rayleigh_sees_a_mean_and_bingham_an_axis() -> None:
    z = uniform(8)
    one_side = torch.where(z[:, :1] > 0, z, -z)  # the second moments are those of uniform draws
    assert rayleigh(one_side) > 50
    assert abs(bingham(one_side)) < 5
    axis = torch.nn.functional.normalize(z * torch.tensor([3.0, *[1.0] * 7]), dim=-1)
    assert bingham(axis) > 50
    assert abs(rayleigh(axis)) < 5


def test_equal_vectors_have_the_largest_statistics() -> None:
    z = torch.eye(8, dtype=torch.float64)[:1].expand(COUNT, -1)
    assert rayleigh(z) == pytest.approx((COUNT * 8 - 8) / 4)
    assert bingham(z) == pytest.approx((40 * COUNT * 7 / 8 - 35) / math.sqrt(70))


def test_the_angle_is_that_of_the_formulas() -> None:
    lab = Lab()
    table = Table(FISHER, lab.directions(2, 5), lab.tensor([3.0, 3.0]).numpy(), lab.directions(2, 5), lab)
    model, guide = table.pair()
    mu, f = lab.tensor(table.mu), lab.tensor(table.f)
    shrunk = lab.product(FISHER, table.mu, 3.0).normalized().mean  # A(R) η/R
    across = [pull - (pull @ mu[0]) * mu[0] for pull in (f[1], f.mean(0) - shrunk)]
    expected = torch.nn.functional.cosine_similarity(across[0], across[1], dim=0).arccos().rad2deg().item()
    assert angle_of_pulls(MultiViewPair(5, model, guide), table.views()) == pytest.approx(expected)


def test_a_departure_is_the_larger_of_the_two_tests() -> None:
    z = uniform(8)
    assert trained._departure(z)[0] < 5
    assert trained._departure(torch.where(z[:, :1] > 0, z, -z))[0] > 50
    assert trained._departure(torch.nn.functional.normalize(z * torch.tensor([3.0, *[1.0] * 7]), dim=-1))[0] > 50


@pytest.mark.parametrize(
    ("method", "departures", "wrong"),
    [
        ("VI-SimSiam", (1.0, 500.0, 500.0), 0),
        ("VI-SimSiam", (1.0, 99.0, 500.0), 1),
        ("VI-SimSiam", (1.0, 500.0, 99.0), 1),
        ("VI-SimSiam", (5.0, 500.0, 500.0), 1),
        ("SimSiam", (1.0, 1.0, 500.0), 0),
        ("SimSiam", (1.0, 5.0, 500.0), 1),
        ("SimSiam", (math.nan, math.nan, math.nan), 3),
    ],
)
def test_what_does_not_depart_as_claimed_is_counted(method: str, departures: tuple[float, ...], wrong: int) -> None:
    assert trained.not_as_claimed(method, *departures) == wrong


def _stand_in(monkeypatch: pytest.MonkeyPatch, pair: MultiViewPair) -> None:
    monkeypatch.setattr(trained, "_pairs", lambda *_: {"trained": pair})
    monkeypatch.setattr(trained, "_views", lambda _: [torch.randn(300, 7, dtype=torch.float64) for _ in range(2)])


def test_experts_that_are_uniform_fail_the_claim_of_those_that_are_not(
    monkeypatch: pytest.MonkeyPatch, make_pair: Callable[..., MultiViewPair]
) -> None:
    _stand_in(monkeypatch, make_pair("ps"))
    monkeypatch.setattr(trained, "_departure", lambda _: (1.0, "as uniform"))
    # of two methods the draws of one and the directions of both are not far enough
    assert trained.the_average_of_the_experts.check(Lab()).error == 2


@pytest.mark.parametrize(("angle", "error"), [(9.0, 1), (11.0, 0), (math.nan, 1)])
def test_objectives_that_agree_fail_the_claim_that_they_do_not(
    angle: float, error: int, monkeypatch: pytest.MonkeyPatch, make_pair: Callable[..., MultiViewPair]
) -> None:
    _stand_in(monkeypatch, make_pair("ps"))
    monkeypatch.setattr(trained, "angle_of_pulls", lambda *_: angle)
    assert trained.two_objectives_pull_apart.check(Lab()).error == error
