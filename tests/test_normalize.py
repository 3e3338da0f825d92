"""The projection onto the sphere: torch's value, and a derivative of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_as_inference.sphere import normalize


@pytest.mark.parametrize("shape", [(3,), (5, 2), (2, 4, 300), (0, 3)])
def test_value_and_slope_are_those_of_torchs_normalize(shape: tuple[int, ...]) -> None:
    vector, grad = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    ours, torchs = vector.clone().requires_grad_(), vector.clone().requires_grad_()
    value = normalize(ours)
    expected = functional.normalize(torchs, dim=-1)
    assert torch.equal(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, x, grad)[0] for v, x in ((value, ours), (expected, torchs))))


def test_derivative_is_right_to_second_order() -> None:
    vector = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalize, vector)
    assert torch.autograd.gradgradcheck(normalize, vector)


def test_a_vector_without_direction_stays_and_its_slope_is_finite() -> None:
    vector = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = normalize(vector)
    assert torch.equal(value, torch.zeros(2, 3, dtype=torch.float64))
    (slope,) = torch.autograd.grad(value.sum() * torch.finfo(torch.float64).tiny, vector)
    assert torch.equal(slope, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_first(dtype: torch.dtype) -> None:
    vector = torch.randn(4, 8).to(dtype).requires_grad_()
    value = normalize(vector)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.norm(dim=-1), torch.ones(4))
    (slope,) = torch.autograd.grad(value[:, 0].sum(), vector)
    assert slope.dtype == dtype


def test_vmap_and_compilation_change_nothing() -> None:
    vector = torch.randn(5, 7, requires_grad=True)
    expected = normalize(vector)
    (slope,) = torch.autograd.grad(expected[:, 0].sum(), vector)

    def first(x: Tensor) -> Tensor:
        return normalize(x)[0]

    torch.testing.assert_close(torch.vmap(normalize)(vector), expected)
    torch.testing.assert_close(torch.vmap(torch.func.grad(first))(vector), slope)
    compiled = torch.compile(normalize, fullgraph=True, backend="aot_eager")(vector)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(torch.autograd.grad(compiled[:, 0].sum(), vector)[0], slope)
