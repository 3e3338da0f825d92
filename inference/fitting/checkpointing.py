"""Checkpoints that survive a crash at any moment and that report damage when they are read."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CHECKSUM = "checksum"
_FORMAT = "format"
_PLAIN = {type(None), bool, int, float, str, bytes}
_DICTIONARIES, _LISTS = {dict, OrderedDict}, {list, tuple, torch.Size}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line that names the file and what to do."""


def save_checkpoint(content: dict[str, Any], path: Path, form: str, *, keep: Path | None = None) -> None:
    """Write a checkpoint so that `path` always holds a whole one, the old or the new, even if the process dies.

    The content is written to a temporary file beside `path` and reaches the disk before it takes the name. A checksum
    over every tensor's bytes and every value is stored with it.

    Args:
        content: Nested dictionaries and lists of tensors, numbers, texts, bytes and None; keys are texts or integers.
            Nothing else, no subclass of these types either, so that reading it executes nothing.
        path: The file.
        form: Name of the content's layout, which `load_checkpoint` checks.
        keep: Where the checkpoint that `path` held before stays.

    Raises:
        TypeError: If the content holds anything else.
        ValueError: If it has the key "format" or "checksum", which are added.
        OSError: If it cannot be written; `path` is then as before.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "last.ckpt"
        >>> save_checkpoint({"step": 3, "weights": {"w": torch.ones(2)}}, path, "example/1")
        >>> load_checkpoint(path, "example/1")["step"]
        3
    """
    taken = {_FORMAT, _CHECKSUM} & content.keys()
    if taken:
        raise ValueError(
            f"content must not have the keys {_FORMAT!r} and {_CHECKSUM!r}, got {', '.join(sorted(taken))}"
        )
    whole = {_FORMAT: form, _CHECKSUM: digest(content), **content}

    def write(temporary: Path) -> None:
        # torch's own way to a file reports a full disk as a failed assertion of its own; Python's says what is wrong,
        # though torch's complaint, that its archive is incomplete, may hide it.
        try:
            with temporary.open("wb") as file:
                torch.save(whole, file)
        except RuntimeError as error:
            raise _cause(error) from error

    replace_file(path, write, keep=keep)


def load_checkpoint(path: Path, form: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; tensors on the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged (its checksum is not its content's), or of another form.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or foreign: it holds more than tensors and plain values"
        ) from error
    except Exception as error:  # a damaged file fails anywhere in the reader: RuntimeError, EOFError, KeyError, ...
        raise CheckpointError(f"checkpoint {path} is damaged or foreign: it cannot be read as a checkpoint") from error
    if not isinstance(whole, dict) or whole.get(_FORMAT) != form:
        raise CheckpointError(f"checkpoint {path} is foreign: it does not have the form {form!r}")
    content = {name: value for name, value in whole.items() if name not in {_FORMAT, _CHECKSUM}}
    if whole.get(_CHECKSUM) != digest(content):
        raise CheckpointError(f"checkpoint {path} is damaged: its content does not match its checksum")
    return content


def replace_file(path: Path, write: Callable[[Path], None], *, keep: Path | None = None) -> None:
    """Let `write` fill a temporary file, then give it the name `path` in one step, once it is safely on the disk.

    Args:
        path: The file to replace or to make.
        write: Receives the temporary path.
        keep: Where what `path` held before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".writing")
    try:
        write(temporary)
        _to_disk(temporary)
        if keep is not None and path.exists():
            # A second name for the old file first, so that `path` itself is there at every moment.
            second = keep.with_name(keep.name + ".writing")
            second.unlink(missing_ok=True)
            try:
                os.link(path, second)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, second)
            second.replace(keep)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


def replace_text(path: Path, text: str) -> Path:
    r"""Make a text file, or replace it in one step; lines end as they do in `text`. Returns its path.

    Bytes of file names that are no UTF-8 are written out, as JSON does: `\udce9`.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")

    replace_file(path, write)
    return path


def _cause(error: BaseException) -> BaseException:
    """The error of the system behind an error; where there is none, itself."""
    behind = error.__context__
    while behind is not None and not isinstance(behind, OSError):
        behind = behind.__context__
    return behind or error


def _to_disk(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, have left the memory of the operating system."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(content: dict[str, Any]) -> str:
    """SHA-256 over every tensor's bytes and every value, as text; `content` as for `save_checkpoint`."""
    sha256 = hashlib.sha256()
    for piece in _pieces(content, ""):
        sha256.update(piece)
    return sha256.hexdigest()


def _pieces(value: Any, name: str) -> Iterator[bytes | memoryview]:
    """Everything that a value consists of, in an order that does not depend on how it was made."""
    if type(value) in _DICTIONARIES:
        yield f"{name}{{{len(value)}".encode()
        for key in sorted(value, key=repr):
            if type(key) not in {str, int}:
                raise TypeError(
                    f"a checkpoint's keys are texts and integers, got {type(key).__name__} at {name}/{key!r}"
                )
            yield from _pieces(value[key], f"{name}/{key!r}")
    elif type(value) in _LISTS:
        yield f"{name}[{len(value)}".encode()
        for number, item in enumerate(value):
            yield from _pieces(item, f"{name}/{number}")
    elif isinstance(value, Tensor):
        yield f"{name}:{value.dtype}{tuple(value.shape)}".encode()
        flat = value.detach().cpu().contiguous().flatten()
        yield flat.view(torch.uint8).numpy().data if flat.numel() else b""
    elif type(value) in _PLAIN:
        yield f"{name}={value!r}".encode()
    else:
        raise TypeError(f"a checkpoint holds tensors and plain values only, got {type(value).__name__} at {name}")
