"""The most memory that a computation holds at once beyond what was there before it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the storages that operations made and that are still held, and the most of them at once.

    What an operation needs only inside itself is not seen, and the same for everyone.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._known.add(tensor.untyped_storage()._cdata)  # noqa: SLF001  # the storage's identity
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        identity, size = storage._cdata, storage.nbytes()  # noqa: SLF001
        if identity in self._known or not size:
            return
        self._known.add(identity)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, identity, size)

    def _forget(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.live -= size


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Bytes of tensors that `step` makes and holds at once, at most, beyond those that were there before.

    On a GPU these are the allocator's, on a CPU those of the storages that PyTorch's operations return.

    Example:
        >>> peak_memory(lambda: (torch.ones(1000) * 2).sum() + torch.ones(500).sum(), torch.device("cpu"))
        8000
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before: int = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        most: int = torch.cuda.max_memory_allocated(device)
        return most - before
    tensors = _LiveTensors()
    with tensors:
        step()
    return int(tensors.peak)
