"""Autograd functions that are cheap to call are the functions that torch makes of the same parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.quick_function import QuickFunction


class _Cube(QuickFunction):
    """Factor · x³, and x² for the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        return factor * x**3, x**2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, None]:
        x, square = ctx.saved_tensors
        if torch.is_grad_enabled():
            square = x**2
        return (3 * ctx.factor * grad * square if ctx.needs_input_grad[0] else None), None


def _cube(x: Tensor) -> Tensor:
    value: Tensor = _Cube.apply(x, 2.0)[0]
    return value


def test_values_and_derivatives_of_every_order_are_right() -> None:
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(_cube(x), 2 * x**3)
    assert torch.autograd.gradcheck(_cube, x)
    assert torch.autograd.gradgradcheck(_cube, x)
    assert not _Cube.apply(x, 2.0)[1].requires_grad


def test_transformations_and_the_compiler_take_it() -> None:
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(torch.vmap(torch.func.grad(_cube))(x), 6 * x**2)
    torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(lambda y: _cube(y).sum()))(x), torch.diag(12 * x))
    compiled = torch.compile(_cube, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x)[0], 6 * x**2)


def test_its_node_bears_its_name() -> None:
    node = _cube(torch.ones(1, requires_grad=True)).grad_fn
    assert node is not None
    assert node.name() == "_CubeBackward"
