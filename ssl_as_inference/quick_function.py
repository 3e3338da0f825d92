"""Autograd functions of a few small operations, whose call itself has to be cheap."""

from __future__ import annotations

import inspect
from typing import Any

import torch


class QuickFunction(torch.autograd.Function):
    """An autograd function that costs 10 µs less to call.

    Before each call torch asks `inspect.signature` for the arguments of a `forward` that comes with `setup_context`.
    Here the answer is kept where `inspect.signature` looks for it first.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        setattr(cls.forward, "__signature__", inspect.signature(cls.forward))  # noqa: B010  # functions have no such field
