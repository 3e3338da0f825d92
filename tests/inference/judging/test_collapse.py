from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.judging.collapse import effective_rank, standard_deviation


def uniform(images: int, dim: int, *, seed: int = 0) -> Tensor:
    z = torch.randn(images, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(z, dim=-1)


@pytest.mark.parametrize("dim", [2, 8, 128])
def test_standard_deviation_of_the_uniform_distribution_is_one(dim: int) -> None:
    # The standard error of a standard deviation from n draws is about 1/√(2n).
    assert standard_deviation(uniform(40_000, dim)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_collapsed_outputs_have_no_deviation_and_rank_zero(dtype: torch.dtype) -> None:
    outputs = uniform(1, 64).to(dtype).expand(100, -1)
    assert standard_deviation(outputs) < 1e-9
    assert effective_rank(outputs) == 0.0


def test_outputs_equal_up_to_rounding_are_collapsed() -> None:
    noise = 1 + torch.finfo(torch.float32).eps * torch.randn(100, 64, generator=torch.Generator().manual_seed(1))
    outputs = uniform(1, 64).float() * noise
    assert not torch.equal(outputs[0], outputs[1])
    assert effective_rank(outputs) == 0.0


def test_a_spread_well_above_rounding_is_seen() -> None:
    # In the tangent space at e1: the origin and three orthogonal points, so singular values 1, 1 and 1/2 once centred.
    outputs = torch.eye(4, dtype=torch.float64)[:1] + 1e-6 * torch.eye(4, dtype=torch.float64)
    p = torch.tensor([0.4, 0.4, 0.2])
    assert effective_rank(outputs) == pytest.approx((-p * p.log()).sum().exp().item(), rel=1e-5)


def test_measures_ignore_the_lengths_of_the_outputs() -> None:
    z = uniform(50, 8)
    lengths = torch.logspace(-3, 3, 50, dtype=torch.float64)[:, None]
    assert standard_deviation(lengths * z) == pytest.approx(standard_deviation(z), rel=1e-12)
    assert effective_rank(lengths * z) == pytest.approx(effective_rank(z), rel=1e-9)


def test_standard_deviation_without_the_factor_is_the_one_of_simsiam() -> None:
    z = uniform(500, 32)
    per_channel = [math.sqrt(sum((v - sum(c) / 500) ** 2 for v in c) / 500) for c in z.T.tolist()]
    assert standard_deviation(z) / math.sqrt(32) == pytest.approx(sum(per_channel) / 32, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_standard_deviation_is_at_most_what_the_mean_leaves(seed: int) -> None:
    z = uniform(20, 5, seed=seed) + 0.5
    mean = (z / z.norm(dim=-1, keepdim=True)).mean(0)
    assert standard_deviation(z) <= math.sqrt(1 - mean.square().sum()) + 1e-12


@pytest.mark.parametrize("rank", [1, 2, 7, 16])
def test_effective_rank_of_an_orthonormal_design_is_its_rank(rank: int) -> None:
    frame = torch.linalg.qr(uniform(16, 16)).Q[:rank]
    assert effective_rank(torch.cat([frame, -frame])) == pytest.approx(rank, abs=1e-6)


def test_effective_rank_is_the_exponential_of_the_entropy_by_hand() -> None:
    # ±e1 three times and ±e2 once: singular values √6 and √2.
    e1, e2 = torch.eye(2, dtype=torch.float64)
    outputs = torch.stack([e1, -e1] * 3 + [e2, -e2])
    p = math.sqrt(6) / (math.sqrt(6) + math.sqrt(2))
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert effective_rank(outputs) == pytest.approx(expected, rel=1e-12)


def test_effective_rank_sees_the_partial_collapse_that_the_standard_deviation_hides() -> None:
    spread = uniform(2_000, 64)
    line = uniform(2_000, 1).sign() * torch.ones(64, dtype=torch.float64) / 8
    assert standard_deviation(line) == pytest.approx(standard_deviation(spread), abs=0.02)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-6)
    assert effective_rank(spread) > 60


@pytest.mark.parametrize(("images", "dim"), [(2, 8), (5, 64), (64, 5), (300, 32)])
def test_effective_rank_lies_between_one_and_the_number_of_degrees_of_freedom(images: int, dim: int) -> None:
    assert 1 - 1e-9 <= effective_rank(uniform(images, dim)) <= min(images - 1, dim) + 1e-9


def test_effective_rank_does_not_change_under_a_rotation() -> None:
    z = uniform(100, 16) * torch.linspace(0.1, 2, 16, dtype=torch.float64)
    rotation = torch.linalg.qr(uniform(16, 16, seed=1)).Q
    assert effective_rank(z @ rotation) == pytest.approx(effective_rank(z), rel=1e-9)


@pytest.mark.parametrize("measure", [standard_deviation, effective_rank])
def test_measures_keep_no_gradient_and_leave_outputs_alone(measure: object) -> None:
    z = uniform(10, 4).requires_grad_()
    assert callable(measure)
    assert isinstance(measure(z), float)
    assert z.grad is None


@pytest.mark.parametrize("measure", [standard_deviation, effective_rank])
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.ones(5), r"outputs must have shape \(images, dim\).*got \(5,\)"),
        (torch.ones(1, 5), r"at least 2 images, got \(1, 5\)"),
        (torch.ones(5, 0), r"outputs must have shape .*got \(5, 0\)"),
        (torch.ones(5, 2).long(), "outputs must be real floating-point numbers, got torch.int64"),
        (torch.full((5, 2), math.nan), "outputs must be finite, got 10 NaN or infinite"),
    ],
    ids=["vector", "one_image", "no_dimension", "integers", "nan"],
)
def test_bad_outputs_are_named(measure: object, outputs: Tensor, message: str) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match=message):
        measure(outputs)
