"""The options that all commands share that apply an encoder; nothing here imports torch."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, whole_number

CHECKPOINT = "folder of a run, an exported encoder (.safetensors) or a checkpoint (.ckpt)"

STUDIES = ("variants", "defects", "crops", "dimensions")
"""Parts of what `experiments.uncertainty --study` finds."""


def add_options(parser: CommandLineParser, *, named_sets: bool = True) -> None:
    """Add the options about images and the machine; `Opener` opens what they name.

    Args:
        parser: Of the command.
        named_sets: Whether the images may be those of the training or another named set.
    """
    add = parser.add_argument
    if named_sets:
        add("--data", help="imagenette, imagewoof, cifar10, digits or a folder (default: the training's)")
        add("--root", help="folder that holds the named sets (default: the training's)")
        add("--download", action="store_true", help="fetch a named set that is missing")
    else:
        parser.set_defaults(data=None, root=None, download=False)
    add("--skip-broken", action="store_true", help="leave out images that cannot be read")
    add("--cache", type=Path, help="folder that records which images were checked (default: check at every start)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, …; auto for a GPU if there is one")
    add("--threads", type=whole_number(1), help="decoding threads (default: one per processor)")
    add("--encode-batch", type=whole_number(1), default=256, help="images that are encoded at a time")


def require_outside(folder: Path, out: Path) -> None:
    """Refuse to write into the folder of the images, where the figure beside `out` is an image at the next start.

    Raises:
        ValueError: If `out` lies in there.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"argument --out: expected a file outside of {folder}, which holds images alone, got {out}")


def file_ending(*endings: str) -> Callable[[str], Path]:
    """Make a type for `add_argument` that accepts files of these endings."""

    def checked(text: str) -> Path:
        if Path(text).suffix not in endings:
            raise ArgumentTypeError(f"expected a file that ends in {' or '.join(endings)}, got {text!r}")
        if Path(text).is_dir():
            raise ArgumentTypeError(f"expected a file, got the folder {text!r}")
        return Path(text)

    return checked
