"""Autograd functions of a few small operations, whose call itself has to be cheap."""

from __future__ import annotations

import types
from typing import Any, ClassVar

import torch
from torch.autograd import Function


class QuickFunction(Function):
    """An autograd function with a `setup_context` that costs less than half as much to call.

    Transformations such as `torch.vmap` need a function whose `forward` knows no context. Calling one that has its
    `setup_context` apart takes torch 25 µs, though, and one whose `forward` has both 10 µs. Here the first kind is
    written and, where no transformation asks for it, the second is called, which is made of it.
    """

    _in_one: ClassVar[type[Function]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        def forward(ctx: Any, *args: Any) -> Any:
            output = cls.forward(*args)
            cls.setup_context(ctx, args, output)
            return output

        parts = {"forward": staticmethod(forward), "backward": staticmethod(cls.backward)}
        cls._in_one = types.new_class(cls.__name__, (Function,), exec_body=lambda body: body.update(parts))

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function; positional arguments only, as many as `forward` has."""
        if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # as torch's own `apply` asks
            return super().apply(*args)
        return cls._in_one.apply(*args)
