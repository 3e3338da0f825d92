"""Functions that state their own derivatives, in both modes of differentiation and of every order.

torch differentiates a formula term by term. Sometimes that loses digits, divides zero by zero or stores too much. Then
the derivative is stated here beside the value. One statement serves reverse mode, forward mode, their compositions,
`torch.func` and `torch.compile`. A transformation of `torch.func` inside a compiled function is left to eager mode.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad


class _Reverse(Function):
    """The variant for `torch.compile`, which refuses a function with a `jvp` and needs a first derivative only."""

    @staticmethod
    def forward(rule: type[OwnDerivatives], *inputs: Any) -> Any:
        return rule.value(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _keep(ctx, inputs, output)
        if isinstance(output, tuple):
            ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.needs_input_grad)
        _, *needed = ctx.needs_input_grad
        pulled = ctx.rule.pull(grads, needed, *ctx.saved_tensors, *ctx.constants)
        return None, *pulled, *(None for _ in ctx.constants)

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int | None, ...], rule: type[OwnDerivatives], *inputs: Any) -> tuple[Any, Any]:
        # The new dimension comes first, before all batch dimensions, over which every rule broadcasts. What torch would
        # generate hides the tangents of the inputs from `jvp`.
        tensors = [argument for argument in inputs if isinstance(argument, Tensor)]
        dims, events = in_dims[1 : 1 + len(tensors)], (*rule.event_dims, *[0] * len(tensors))
        ranks = [x.dim() - (dim is not None) - event for x, dim, event in zip(tensors, dims, events, strict=False)]
        aligned = [
            x if dim is None else x.movedim(dim, 0)[(slice(None), *[None] * (max(ranks) - rank))]
            for x, dim, rank in zip(tensors, dims, ranks, strict=True)
        ]
        outputs = rule.apply(*aligned, *inputs[len(tensors) :])
        if isinstance(outputs, tuple):
            return outputs, tuple(0 if output.dim() > max(ranks) else None for output in outputs)
        return outputs, 0


# torch reads the signature at every call, and computing it takes longer than the rest of the call.
setattr(_Reverse.forward, "__signature__", inspect.signature(_Reverse.forward))  # noqa: B010


class _BothModes(_Reverse):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_forward(*_keep(ctx, inputs, output))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Any:
        # torch computes a tangent with forward mode switched off, and an outer derivative of it would silently be
        # zero. Switched on, it needs inputs that do not carry the tangent at hand.
        with forward_ad._set_fwd_grad_enabled(True):  # noqa: SLF001
            saved = [forward_ad.unpack_dual(tensor, level=0).primal for tensor in ctx.saved_tensors]
            of_tensors = tangents[: len(tangents) - len(ctx.constants)]
            return ctx.rule.push(of_tensors, *saved, *ctx.constants)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> tuple[Tensor, ...]:
    rule, *arguments = inputs
    tensors = tuple(argument for argument in arguments if isinstance(argument, Tensor))
    kept = rule.keep(tensors, output if isinstance(output, tuple) else (output,))
    ctx.save_for_backward(*kept)
    ctx.set_materialize_grads(False)
    ctx.rule, ctx.constants = rule, arguments[len(tensors) :]
    return tuple(kept)


class OwnDerivatives:
    """A function as a namespace: its value, and how derivatives pass through it backward and forward.

    Arguments are tensors first, constants after them; all are positional. The value may be a tuple of the function and
    of further tensors that its derivatives need. These are functions in their own right: what is kept of them has
    derivatives, too, so that second ones come out right in every order of the modes.
    """

    keeps_value: ClassVar[bool] = False
    """Whether the derivatives are written in terms of the value; the caller may not then change it in place."""

    event_dims: ClassVar[tuple[int, ...]] = ()
    """How many dimensions at the end of each tensor are not batch dimensions; none where nothing is said."""

    _function: ClassVar[type[_BothModes]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._function = type(cls.__name__, (_BothModes,), {})  # so that a node of the graph bears the name

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """The value at these arguments."""
        if not torch.compiler.is_compiling():
            return cls._function.apply(cls, *inputs)
        if forward_ad._current_level >= 0 or torch._C._functorch.get_dynamic_layer_stack_depth():  # noqa: SLF001
            # The compiler does not see that `torch.func` or forward mode differentiates here. A value that is a copy
            # would silently have the copy's derivative. Eager mode sees it; with `fullgraph` this is an error.
            torch._dynamo.graph_break()  # noqa: SLF001
            return cls._function.apply(cls, *inputs)
        differentiated = any(isinstance(argument, Tensor) and argument.requires_grad for argument in inputs)
        return _Reverse.apply(cls, *inputs) if differentiated and torch.is_grad_enabled() else cls.value(*inputs)

    @staticmethod
    def value(*args: Any, **kwargs: Any) -> Any:
        """The function, or a tuple of it and what its derivatives need; computed without derivatives."""
        raise NotImplementedError

    @classmethod
    def keep(cls, tensors: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What `pull` and `push` are given before the constants: the tensors and all outputs, or all but the value."""
        return *tensors, *outputs[0 if cls.keeps_value else 1 :]

    @classmethod
    def pull(cls, grads: Any, needed: Any, *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        """Gradients in the tensors, at least the `needed`, from those in the outputs, which may be None but not all."""
        raise NotImplementedError

    @classmethod
    def push(cls, tangents: Any, *args: Any, **kwargs: Any) -> Any:
        """Tangents of the outputs from those of the tensors, which may be None but not all."""
        raise NotImplementedError


def sum_to(shape: torch.Size, gradient: Tensor) -> Tensor:
    """The gradient of a tensor of this shape that was broadcast: `sum_to_size`, but no copy where it sums nothing."""
    return gradient.reshape(shape) if gradient.numel() == shape.numel() else gradient.sum_to_size(shape)


class Elementwise(OwnDerivatives):
    """A function of numbers, applied to each of those in tensors that broadcast.

    Example:
        >>> class Cube(Elementwise):
        ...     @staticmethod
        ...     def value(x):
        ...         return x**3
        ...     @staticmethod
        ...     def partials(x):
        ...         return (3 * x**2,)
        >>> torch.func.hessian(Cube.apply)(torch.tensor(2.0))
        tensor(12.)
    """

    @staticmethod
    def partials(*args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        """The derivative in each of the tensors, None where it is zero, from what is kept and the constants."""
        raise NotImplementedError

    @classmethod
    def pull(cls, grads: Any, needed: Any, *args: Any) -> tuple[Tensor | None, ...]:
        """The gradient times each partial derivative, summed over what was broadcast."""
        partials = cls.partials(*args)
        return tuple(
            sum_to(tensor.shape, grads[0] * partial) if need and partial is not None else None
            for tensor, partial, need in zip(args, partials, needed, strict=False)
        )

    @classmethod
    def push(cls, tangents: Any, *args: Any) -> Tensor:
        """The sum of the tangents times the partial derivatives."""
        partials = cls.partials(*args)
        moved: Tensor = args[0].new_zeros(torch.broadcast_shapes(*(tensor.shape for tensor in args[: len(partials)])))
        for tangent, partial in zip(tangents, partials, strict=True):
            if tangent is not None and partial is not None:
                moved = moved + tangent * partial
        return moved
