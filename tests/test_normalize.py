"""The projection onto the sphere: torch's value, and a derivative of its own."""

from __future__ import annotations

import math

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


def test_a_vector_without_direction_stays_and_has_no_slope() -> None:
    vector = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = normalize(vector)
    assert torch.equal(value, torch.zeros(2, 3, dtype=torch.float64))
    (slope,) = torch.autograd.grad(1e300 * value.sum(), vector, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), vector)
    tangent = torch.func.jvp(normalize, (vector.detach(),), (torch.ones(2, 3, dtype=torch.float64),))[1]
    for derivative in (slope, second, tangent):
        assert torch.equal(derivative, torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_length_but_zero_gives_a_unit_vector(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    direction = torch.tensor([[3.0, -4.0, 12.0], [0.0, 0.0, -1.0]], dtype=dtype)
    expected = torch.tensor([[3 / 13, -4 / 13, 12 / 13], [0.0, 0.0, -1.0]], dtype=dtype)
    scales = torch.logspace(math.log10(limits.tiny) + 1, math.log10(limits.max) - 2, 60, dtype=torch.float64)
    for scale in scales.tolist():
        vector = direction * scale
        torch.testing.assert_close(normalize(vector), expected, rtol=4 * limits.eps, atol=0)
        # Vectors of ordinary length beside it do not move by a bit.
        beside = torch.cat([vector, direction])
        assert torch.equal(normalize(beside)[2:], normalize(direction))
    subnormal = torch.full((3,), limits.tiny * limits.eps, dtype=dtype)
    assert torch.equal(normalize(subnormal), normalize(torch.ones(3, dtype=dtype)))


@pytest.mark.parametrize("scale", [1e-24, 1e-30, 1e19, 1e30])
def test_the_slope_holds_where_squares_leave_the_range(scale: float) -> None:
    vector, grad = torch.tensor([3.0, -4.0, 12.0]), torch.tensor([1.0, 2.0, 0.5])
    far, double = (scale * vector).requires_grad_(), (scale * vector.double()).requires_grad_()
    (slope,) = torch.autograd.grad(normalize(far), far, grad)
    (exact,) = torch.autograd.grad(double / double.norm(), double, grad.double())
    torch.testing.assert_close(slope.double(), exact, rtol=1e-5, atol=0)
    (of_vmap,) = torch.func.vjp(torch.vmap(normalize), far.detach()[None])[1](grad[None])
    torch.testing.assert_close(of_vmap[0], slope)


def test_what_is_not_a_number_stays_so() -> None:
    vectors = torch.tensor([[math.nan, 1.0], [math.inf, 1.0], [1.0, 0.0]])
    assert normalize(vectors).isnan().any(-1).tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_count_as_float32(dtype: torch.dtype) -> None:
    vector = torch.tensor([[1, 0, 1], [0, 0, 0]]).to(dtype)
    assert torch.equal(normalize(vector), torch.nn.functional.normalize(vector.float(), dim=-1))


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
