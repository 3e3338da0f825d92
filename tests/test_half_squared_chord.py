"""The half squared chord keeps its digits next to x = y, and its hand-written backward is the derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_as_inference import sphere
from ssl_as_inference.sphere import half_squared_chord, normalize

LONG = 128  # many vectors of one shape take a path of their own, here from the first on


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphere, "_MANY", 0)
    monkeypatch.setattr(sphere, "_PIECE", 7 * LONG)


def _unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return normalize(torch.randn(shape, dtype=dtype))


@pytest.mark.parametrize("dim", [3, LONG, 300, 8192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_keep_their_relative_accuracy(dtype: torch.dtype, dim: int) -> None:
    torch.manual_seed(0)
    x = _unit(50, dim, dtype=dtype)
    y = normalize(x + 1e-3 * _unit(50, dim, dtype=dtype))
    exact = (x.double() - y.double()).square().sum(-1) / 2
    torch.testing.assert_close(half_squared_chord(x, y).double(), exact, rtol=8 * torch.finfo(dtype).eps, atol=0)
    assert (half_squared_chord(x, x) == 0).all()


@pytest.mark.parametrize("dim", [2, 3, 64, LONG, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_is_one_minus_the_cosine_and_lies_between_zero_and_two(dtype: torch.dtype, dim: int) -> None:
    torch.manual_seed(1)
    x, y = _unit(200, dim, dtype=dtype), _unit(200, dim, dtype=dtype)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(half_squared_chord(x, y), 1 - (x * y).sum(-1), rtol=8 * eps, atol=8 * eps)
    for value in (half_squared_chord(x, y), half_squared_chord(x, -x), half_squared_chord(x, x)):
        assert (value >= 0).all()
        assert (value <= 2).all()


@pytest.mark.parametrize(
    ("x_shape", "y_shape"),
    [((4, 3), (4, 3)), ((3,), (3,)), ((2, 4, 3), (4, 3)), ((3,), (2, 3)), ((2, LONG), (2, LONG)), ((0, 3), (3,))],
)
def test_backward_is_the_derivative_to_second_order_under_broadcasting(
    x_shape: tuple[int, ...], y_shape: tuple[int, ...]
) -> None:
    torch.manual_seed(2)
    x, y = _unit(*x_shape).requires_grad_(), _unit(*y_shape).requires_grad_()
    assert half_squared_chord(x, y).shape == torch.broadcast_shapes(x_shape, y_shape)[:-1]
    assert torch.autograd.gradcheck(half_squared_chord, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(half_squared_chord, (x, y), fast_mode=True)


def test_gradient_is_finite_at_equal_and_at_opposite_points() -> None:
    x = torch.eye(3, dtype=torch.float64).requires_grad_()
    y = torch.stack([x.detach()[0], -x.detach()[1], x.detach()[2]]).requires_grad_()
    gradients = torch.autograd.grad(half_squared_chord(x, y).sum(), (x, y))
    torch.testing.assert_close(gradients, ((x - y).detach(), (y - x).detach()))


@pytest.mark.parametrize("dim", [5, LONG])
def test_vmap_compilation_and_autocast_change_nothing(dim: int) -> None:
    torch.manual_seed(3)
    x, y = _unit(6, dim, dtype=torch.float32).requires_grad_(), _unit(6, dim, dtype=torch.float32)
    expected = half_squared_chord(x, y)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(torch.vmap(half_squared_chord)(x, y), expected)
    torch.testing.assert_close(torch.vmap(half_squared_chord, in_dims=(0, None))(x, y[0]), half_squared_chord(x, y[0]))
    torch.testing.assert_close(torch.vmap(torch.func.grad(half_squared_chord))(x, y), slope)
    compiled = torch.compile(half_squared_chord, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x)[0], slope)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(half_squared_chord(x, y), expected)


def test_batched_gradients_of_shared_points_are_allowed() -> None:
    torch.manual_seed(4)
    x, y = _unit(5, 3).requires_grad_(), _unit(5, 3)
    rows = torch.autograd.grad(half_squared_chord(x, y), x, torch.eye(5, dtype=torch.float64), is_grads_batched=True)[0]
    torch.testing.assert_close(rows, torch.diag_embed((x - y).detach().T).permute(1, 2, 0))
