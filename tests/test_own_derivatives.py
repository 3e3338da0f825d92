"""Functions with derivatives of their own behave like torch's operations in every mode, and under `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.own_derivatives import Elementwise, OwnDerivatives
from ssl_as_inference.sphere import normalize


class _Power(Elementwise):
    """x^n y."""

    @staticmethod
    def value(x: Tensor, y: Tensor, n: int) -> Tensor:
        return x**n * y

    @staticmethod
    def partials(x: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        return n * _Power.apply(x, y, n - 1), x**n


class _Exponential(Elementwise):
    """One whose derivative is written in terms of its value."""

    keeps_value = True

    @staticmethod
    def value(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def partials(x: Tensor, value: Tensor) -> tuple[Tensor]:
        del x
        return (value,)


class _Norm(OwnDerivatives):
    """½‖x‖², and ‖x‖² for nothing but a derivative."""

    event_dims = (1,)

    @staticmethod
    def value(x: Tensor) -> tuple[Tensor, Tensor]:
        square = x.square().sum(-1)
        return square / 2, square

    @classmethod
    def pull(cls, grads: Any, needed: Any, x: Tensor, square: Tensor) -> tuple[Tensor]:
        del needed, square
        total = sum(factor * grad for factor, grad in zip((1, 2), grads, strict=True) if grad is not None)
        return (total.unsqueeze(-1) * x,)

    @classmethod
    def push(cls, tangents: Any, x: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        del square
        moved = (x * tangents[0]).sum(-1)
        return moved, 2 * moved


def _power(x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = _Power.apply(x, y, 4)
    return value


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "power": (_power, (torch.rand(3, 1).double() + 1, torch.rand(2).double())),
    "exponential": (_Exponential.apply, (torch.rand(3).double(),)),
    "norm": (_Norm.apply, (torch.rand(2, 3).double(),)),
    "its further output": (lambda x: _Norm.apply(x)[1], (torch.rand(2, 3).double(),)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_and_second_derivatives_are_difference_quotients_in_both_modes_and_batches(name: str) -> None:
    function, point = FUNCTIONS[name]
    leaves = tuple(tensor.clone().requires_grad_() for tensor in point)
    assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_every_order_of_the_modes_is_right_up_to_the_fourth_derivative() -> None:
    x, y = torch.tensor(2.0).double(), torch.tensor(3.0).double()

    def function(x: Tensor) -> Tensor:
        return _power(x, y)

    f: Any = jacfwd
    r: Any = jacrev
    for order in ([f, f], [f, r], [r, f], [r, r], [f, f, f], [r, f, f], [f, r, f, r], [f, f, f, f], [r, r, f, f]):
        derivative: Callable[[Tensor], Tensor] = function
        expected = y * x**4
        for power, mode in zip(range(4, 0, -1), order, strict=False):
            derivative = mode(derivative)
            expected = power * expected / x
        assert derivative(x) == expected, [mode.__name__ for mode in order]


def test_under_vmap_batch_dimensions_broadcast_and_what_is_shared_stays_shared() -> None:
    x, y, many = torch.rand(2, 5).double(), torch.rand(5).double(), torch.rand(2, 3, 7).double()
    torch.testing.assert_close(vmap(_power)(x, y[:2]), x**4 * y[:2, None])
    torch.testing.assert_close(vmap(_power, in_dims=(1, 0))(x, y), x.T**4 * y[:, None])
    torch.testing.assert_close(vmap(_power, in_dims=(None, 0))(x, y), x**4 * y[:, None, None])
    torch.testing.assert_close(vmap(vmap(_power, (0, None)), (None, 0))(x, y), (x**4)[None] * y[:, None, None])
    torch.testing.assert_close(vmap(_Norm.apply, in_dims=2)(many)[0], many.movedim(2, 0).square().sum(-1) / 2)
    z, mu = normalize(torch.randn(2, 4).double()), normalize(torch.randn(4).double())
    shared = vmap(lambda k: VonMisesFisher(mu, k).log_prob(z))(y)
    torch.testing.assert_close(shared, torch.stack([VonMisesFisher(mu, k).log_prob(z) for k in y]))
    slopes = vmap(grad(lambda k: PowerSpherical(mu, k).log_prob(z).sum()))(y)
    torch.testing.assert_close(
        slopes, torch.stack([grad(lambda k: PowerSpherical(mu, k).log_prob(z).sum())(k) for k in y])
    )


@pytest.mark.parametrize("name", ["power", "exponential", "norm"])
def test_the_compiler_takes_it_whole(name: str) -> None:
    function, point = FUNCTIONS[name]
    leaves = tuple(tensor.clone().requires_grad_() for tensor in point)

    def number(*arguments: Tensor) -> Tensor:
        value = function(*arguments)
        total: Tensor = (value[0] if isinstance(value, tuple) else value).sum()
        return total

    compiled = torch.compile(number, fullgraph=True, backend="aot_eager")
    for mine, reference in zip(
        torch.autograd.grad(compiled(*leaves), leaves), torch.autograd.grad(number(*leaves), leaves), strict=True
    ):
        torch.testing.assert_close(mine, reference)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*point), number(*point))


def test_the_compiler_takes_transformations_of_it() -> None:
    x, y = torch.rand(3).double(), torch.rand(3).double()
    for transformed in (vmap(_power), vmap(grad(_power)), lambda x, y: jvp(_power, (x, y), (x, y))[1]):
        compiled = torch.compile(transformed, backend="aot_eager")
        torch.testing.assert_close(compiled(x, y), transformed(x, y))


class _Seven(Elementwise):
    """A derivative that the compiler cannot find in the value, which is a copy."""

    @staticmethod
    def value(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def partials(x: Tensor) -> tuple[Tensor]:
        return (7 * x,)


def _sevenfold(x: Tensor) -> Tensor:
    value: Tensor = _Seven.apply(x).sum()
    return value


def _tangent(x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        moved = _Seven.apply(forward_ad.make_dual(x, torch.ones_like(x)))
        tangent: Tensor | None = forward_ad.unpack_dual(moved).tangent
    assert tangent is not None
    return tangent


@pytest.mark.parametrize(
    "transformed",
    [
        vmap(_Seven.apply),
        grad(_sevenfold),
        vmap(grad(_Seven.apply)),
        vmap(lambda x: jvp(_Seven.apply, (x,), (x,))[1]),
        lambda x: jvp(_Seven.apply, (x,), (x,))[1],
        jacfwd(_Seven.apply),
        hessian(_sevenfold),
        grad(lambda x: grad(lambda y: (y * _Seven.apply(y)).sum())(x).sum()),
        pytest.param(
            _tangent,
            marks=pytest.mark.skipif(
                tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14),
                reason="an earlier compiler does not show that a dual level is entered",
            ),
        ),
    ],
)
def test_the_compiler_keeps_a_derivative_that_the_value_does_not_show(transformed: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([2.0, 3.0])
    compiled = torch.compile(transformed, backend="aot_eager")
    torch.testing.assert_close(compiled(x), transformed(x))


def test_a_node_bears_the_name_of_its_function() -> None:
    node = _power(torch.ones(1, requires_grad=True), torch.ones(1)).grad_fn
    assert type(node).__name__ == "_PowerBackward"
