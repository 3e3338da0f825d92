"""What the commands share on the command line: one clear line for a wrong argument, values that are checked.

Nothing here imports torch. A command parses first and imports what it runs after that, so that `--help` and a wrong
argument take no seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that there are: where there is none, the option's own text says what happens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class CommandLineParser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line and exits with status 2."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=_Help, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print the message without the usage and exit."""
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def fail(self, error: Exception) -> int:
        """Print what a file or folder that was given has wrong, for which --help is no help; returns the status 2."""
        print(f"{self.prog}: error: {error}", file=sys.stderr)
        return 2


def whole_number(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
    """Make a type for `add_argument` that accepts whole numbers from `at_least` on, up to `at_most` where given."""
    expected = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = at_least - 1
        if value < at_least or (at_most is not None and value > at_most):
            raise argparse.ArgumentTypeError(f"expected a whole number {expected}, got {text!r}")
        return value

    return parse


def positive_number(text: str) -> float:
    """Check that a number is positive and finite; a type for `add_argument`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def existing_folder(text: str) -> Path:
    """Check that a folder is there; a type for `add_argument`."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder that exists, got {text!r}")
    return folder


def fraction(text: str) -> float:
    """Check that a number lies strictly between 0 and 1; a type for `add_argument`."""
    value = positive_number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def writable_folder(text: str) -> Path:
    """Create the folder if it is missing; a type for `add_argument`."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder that can be written to, got '': use . for the current one")
    folder = Path(text).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".writable").open("w"):
            pass
        (folder / ".writable").unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"expected a folder that can be written to, got {text!r}: {error.strerror}"
        ) from error
    return folder
