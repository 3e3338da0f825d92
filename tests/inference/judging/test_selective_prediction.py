from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.judging.selective_prediction import (
    accuracy_at_coverage,
    area_under_risk_coverage,
    excess_area,
    risk_coverage_curve,
)


def draw(images: int, seed: int, *, distinct: int = 10**9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randint(distinct, (images,), generator=generator).double()
    return u, torch.rand(images, generator=generator) > 0.3


def curve_by_hand(u: Tensor, right: Tensor) -> list[float]:
    order = sorted(range(len(u)), key=lambda image: float(u[image]))
    return [sum(not bool(right[image]) for image in order[:k]) / k for k in range(1, len(u) + 1)]


@pytest.mark.parametrize("seed", range(3))
def test_curve_is_the_error_rate_of_the_most_certain(seed: int) -> None:
    u, right = draw(60, seed)
    assert risk_coverage_curve(u, right).tolist() == pytest.approx(curve_by_hand(u, right), abs=1e-12)


def test_ties_have_the_mean_over_all_their_orders() -> None:
    u = torch.tensor([2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 2.0])
    right = torch.tensor([True, False, False, True, True, False, True])
    curves = [
        [sum(not bool(right[image]) for image in order[:k]) / k for k in range(1, 8)]
        for order in permutations(range(7))
        if all(u[a] <= u[b] for a, b in pairwise(order))
    ]
    assert len(curves) == math.factorial(4) * math.factorial(2)
    assert risk_coverage_curve(u, right).tolist() == pytest.approx(np.mean(curves, axis=0).tolist(), abs=1e-12)


def test_constant_uncertainty_has_the_error_rate_at_every_coverage() -> None:
    _, right = draw(30, 2)
    curve = risk_coverage_curve(torch.zeros(30), right)
    assert curve.tolist() == pytest.approx([float((~right).double().mean())] * 30)


def test_area_is_between_the_oracle_and_its_opposite() -> None:
    u, right = draw(200, 3)
    wrong = (~right).double()
    errors = int(wrong.sum())
    # Of the first k of n images the oracle has max(0, k − (n − e)) wrong.
    oracle = sum(max(0, k - (200 - errors)) / k for k in range(1, 201)) / 200
    assert area_under_risk_coverage(wrong, right) == pytest.approx(oracle, abs=1e-12)
    assert excess_area(wrong, right) == 0
    assert excess_area(u, right) == pytest.approx(sum(curve_by_hand(u, right)) / 200 - oracle, abs=1e-12)
    assert 0 < excess_area(u, right) < excess_area(-wrong, right)


def test_oracle_area_is_close_to_its_published_approximation() -> None:
    # r + (1 − r) log(1 − r) for an error rate r and many images, Eq. (7) of arXiv:1805.08206.
    right = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) > 0.2
    r = float((~right).double().mean())
    assert area_under_risk_coverage((~right).double(), right) == pytest.approx(r + (1 - r) * math.log(1 - r), abs=1e-4)


@pytest.mark.parametrize(
    ("images", "coverage", "kept"), [(5, 0.8, 4), (10, 0.8, 8), (7, 0.8, 6), (3, 1.0, 3), (9, 0.01, 1), (9, 1e-12, 1)]
)
def test_accuracy_is_that_of_the_images_kept(images: int, coverage: float, kept: int) -> None:
    u, right = draw(images, 4)
    expected = float(right[u.argsort()[:kept]].double().mean())
    assert accuracy_at_coverage(u, right, coverage) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("u", "right", "message"),
    [
        (torch.ones(2, 2), torch.ones(2, 2).bool(), r"uncertainty must have shape \(images,\), got \(2, 2\)"),
        (torch.ones(3), torch.ones(2).bool(), r"is_right must have the shape of uncertainty, \(3,\), got \(2,\)"),
        (torch.ones(3), torch.ones(3), "is_right must be boolean, got torch.float32"),
        (torch.tensor([math.nan]), torch.tensor([True]), "uncertainty must be finite, got 1 NaN"),
    ],
    ids=["matrix", "length", "not_boolean", "nan"],
)
def test_bad_arguments_are_named(u: Tensor, right: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        risk_coverage_curve(u, right)


@pytest.mark.parametrize("coverage", [0.0, 1.1, math.nan])
def test_bad_coverage_is_named(coverage: float) -> None:
    with pytest.raises(ValueError, match=r"coverage must lie in \(0, 1\]"):
        accuracy_at_coverage(torch.ones(3), torch.ones(3).bool(), coverage)
