"""A direction and draws around it under one seed are made of the same normal numbers: the first draw's are μ itself."""

from __future__ import annotations

import pytest
import torch

from ssl_as_inference.sphere import normalize, uniform_at_gap

DIMS = (2, 4, 5, 16, 63, 64, 128, 2048)
DTYPES = (torch.float32, torch.float64)


def numbers_of(seed: int, dim: int, dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(50, dim, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", DIMS)
def test_noise_that_is_parallel_to_the_direction_still_gives_a_point_at_the_gap(dim: int, dtype: torch.dtype) -> None:
    for sign in (1, -1):
        direction = normalize(sign * numbers_of(7, dim, dtype)).requires_grad_()
        gap = torch.linspace(0.1, 1.9, 50, dtype=dtype).requires_grad_()
        torch.manual_seed(7)
        draw = uniform_at_gap(direction, gap)
        tolerance = 20 * torch.finfo(dtype).eps
        torch.testing.assert_close(draw.norm(dim=-1), torch.ones(50, dtype=dtype), atol=tolerance, rtol=0)
        torch.testing.assert_close(1 - (draw * direction).sum(-1), gap, atol=tolerance, rtol=0)
        gradients = torch.autograd.grad(draw.sum(), [direction, gap])
        assert all(one.isfinite().all() for one in gradients)
        assert gradients[0].abs().max() < 100


@pytest.mark.parametrize("dim", [16, 128])
def test_an_axis_is_not_parallel_to_itself(dim: int) -> None:
    for axis in (0, 1, dim - 1):
        direction = torch.eye(dim, dtype=torch.float64)[axis].repeat(3, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda like, **_: 2 * like.detach())
            draw = uniform_at_gap(direction, torch.tensor([0.1, 1.0, 1.9], dtype=torch.float64))
        torch.testing.assert_close(draw.norm(dim=-1), torch.ones(3, dtype=torch.float64), atol=1e-14, rtol=0)
        expected = torch.tensor([0.9, 0.0, -0.9], dtype=torch.float64)
        torch.testing.assert_close(draw[:, axis], expected, atol=1e-14, rtol=0)
