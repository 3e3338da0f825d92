"""The work whose time matters: `pytest --benchmark-enable tests/test_speed.py` times it, otherwise it runs once."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.sphere import normalize

LAWS = {"vMF": VonMisesFisher, "PS": PowerSpherical}
BATCH, DRAWS = 4096, 10_000


@pytest.fixture(params=[128, 2048], ids="d{}".format)
def pairs(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    z, mean_direction = (normalize(torch.randn(BATCH, request.param)).requires_grad_() for _ in range(2))
    return z, mean_direction


def test_dot_product_forward_and_backward(benchmark: BenchmarkFixture, pairs: tuple[Tensor, Tensor]) -> None:
    z, mean_direction = pairs
    gradients = benchmark(lambda: torch.autograd.grad((z * mean_direction).sum(), pairs))
    assert torch.equal(gradients[0], mean_direction)


@pytest.mark.parametrize("learned", [False, True], ids=["constant", "learned"])
@pytest.mark.parametrize("law", LAWS)
def test_log_prob_forward_and_backward(
    benchmark: BenchmarkFixture, pairs: tuple[Tensor, Tensor], law: str, learned: bool
) -> None:
    z, mean_direction = pairs
    kappa = torch.full((BATCH,), 1e3, requires_grad=True) if learned else torch.tensor(1e3)
    inputs = [*pairs, kappa] if learned else pairs

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(LAWS[law](mean_direction, kappa, validate_args=False).log_prob(z).sum(), inputs)

    assert all(gradient.isfinite().all() for gradient in benchmark(step))


@pytest.mark.parametrize("dim", [3, 128, 2048], ids="d{}".format)
@pytest.mark.parametrize("law", LAWS)
def test_sampling(benchmark: BenchmarkFixture, law: str, dim: int) -> None:
    made = LAWS[law](normalize(torch.randn(dim)), torch.tensor(100.0))
    z = benchmark(made.sample, (DRAWS,))
    assert z.shape == (DRAWS, dim)
