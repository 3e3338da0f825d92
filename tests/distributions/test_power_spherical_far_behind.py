"""Points more than 120° from μ: a CPU takes their second chord only where there are any, and no result tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ssl_as_inference.distributions import PowerSpherical
from ssl_as_inference.special import power_spherical_log_normalizer
from ssl_as_inference.sphere import normalize

Batch = tuple[Tensor, Tensor, Tensor]
DIM = 5


def _log_prob(points: Tensor, mean_direction: Tensor, kappa: Tensor) -> Tensor:
    return PowerSpherical(mean_direction, kappa, validate_args=False).log_prob(points)


@pytest.fixture
def ahead() -> Batch:
    torch.manual_seed(8)
    mean_direction = normalize(torch.randn(6, DIM))
    return normalize(mean_direction + 0.3 * torch.randn(6, DIM)), mean_direction, torch.rand(6) * 40


def test_they_change_nothing_for_the_others(ahead: Batch) -> None:
    points, mean_direction, kappa = ahead

    def value_and_slopes(*batch: Tensor) -> list[Tensor]:
        inputs = [x.clone().requires_grad_() for x in batch]
        value = _log_prob(*inputs)
        return [value, *torch.autograd.grad(value.sum(), inputs)]

    alone = value_and_slopes(points, mean_direction, kappa)
    mixed = value_and_slopes(torch.cat([points, -points]), mean_direction.repeat(2, 1), kappa.repeat(2))
    for one, other in zip(alone, mixed, strict=True):
        assert torch.equal(one, other[:6])


@pytest.mark.parametrize(
    "traced",
    [
        pytest.param(lambda batch: torch.jit.trace(_log_prob, batch), id="jit"),
        pytest.param(lambda batch: make_fx(_log_prob)(*batch), id="fx"),
        pytest.param(lambda _: torch.vmap(_log_prob), id="vmap"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_program_traced_without_any_is_right_for_them(
    traced: Callable[[Batch], Callable[..., Tensor]], ahead: Batch
) -> None:
    program = traced(ahead)
    _, mean_direction, kappa = ahead
    points = normalize(0.01 * torch.randn(6, DIM) - mean_direction)  # where 1 − e is no more than rounding
    cosine = (normalize(points.double()) * normalize(mean_direction.double())).sum(-1)
    expected = power_spherical_log_normalizer(DIM, kappa.double()) + torch.special.xlog1py(kappa.double(), cosine)
    torch.testing.assert_close(program(points, mean_direction, kappa).double(), expected, rtol=1e-5, atol=0)
