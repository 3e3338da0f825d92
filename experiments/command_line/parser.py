"""What the commands share on the command line: one clear line for a wrong argument, values that are checked.

Nothing here imports torch. A command parses first and imports what it runs after that, so that `--help` and a wrong
argument take no seconds.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

Number = TypeVar("Number", int, float)
Module = str | Callable[[argparse.Namespace], str]


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that there are: where there is none, the option's own text says what happens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class CommandLineParser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line and exits with status 2.

    Attributes:
        when_stopped: What is said of a command that Ctrl-C has stopped.
    """

    when_stopped = "stopped"

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=_Help, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print the message without the usage and exit."""
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def fail(self, error: object, status: int = 2) -> int:
        """Print what a file or folder that was given has wrong, for which --help is no help; returns the status."""
        print(f"{self.prog}: error: {error}", file=sys.stderr)
        return status

    def run(self, arguments: Sequence[str] | None, module: Module) -> int:
        """Parse, and only then import the module whose `run(options)` does the work; returns its exit status.

        A `ValueError` or `OSError` of it is what the user's files have wrong: told in one line, with status 2, as is
        that a GPU has too little memory. Ctrl-C ends it in a line as well, with status 130, and so does a training that
        a signal has stopped or that has failed, with its own status.

        Args:
            arguments: What was typed; those of this process when not given.
            module: Its `run` finds what was typed, as a line that can be typed again, in `options.command`. Or a
                function of the options that names it, after it has refused by `error` those that do not go together.
        """
        given = list(sys.argv[1:] if arguments is None else arguments)
        options = self.parse_args(given)
        options.command = f"{self.prog} {shlex.join(given)}".rstrip()
        name = module if isinstance(module, str) else module(options)
        try:
            status: int = importlib.import_module(name).run(options)
        except (ValueError, OSError, argparse.ArgumentTypeError) as error:
            return self.fail(error)
        except RuntimeError as error:
            if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for a name
                return self.fail(f"{str(error).partition(' GPU ')[0]} Smaller batches or fewer runs at once need less")
            if (status_of_training := getattr(error, "status", None)) is None:
                raise
            return self.fail(error, status_of_training) if status_of_training < 128 else self._stop(status_of_training)
        except KeyboardInterrupt:
            return self._stop(130)
        return status

    def _stop(self, status: int) -> int:
        print(f"\n{self.prog}: {self.when_stopped}", file=sys.stderr)
        return status


def docstring(file: Path) -> str:
    """What a program says of itself, read without importing it."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def whole_number(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
    """Make a type for `add_argument` that accepts whole numbers from `at_least` on, up to `at_most` where given."""
    expected = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    most = math.inf if at_most is None else at_most
    return partial(_number, int, lambda value: at_least <= value <= most, f"a whole number {expected}")


def positive_number(text: str) -> float:
    """Check that a number is positive and finite; a type for `add_argument`."""
    return _number(float, lambda value: 0 < value < math.inf, "a positive number", text)


def fraction(text: str) -> float:
    """Check that a number lies strictly between 0 and 1; a type for `add_argument`."""
    return _number(float, lambda value: 0 < value < 1, "a number between 0 and 1", text)


def add_seed(parser: CommandLineParser, what: str) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help=what)


def record_name(text: str) -> str:
    """Check what a record and its files are to be called; a type for `add_argument`."""
    if not re.fullmatch("[a-z0-9_]+", text):
        raise argparse.ArgumentTypeError(f"expected lower-case letters, digits and underscores, got {text!r}")
    return text


def require_different_names(options: str, sets: Iterable[str]) -> None:
    """Refuse different sets of one name, by which what comes of them is called.

    Raises:
        ValueError: If the folders of two have the same name.
    """
    different = dict.fromkeys(sets)
    if len({Path(name).name for name in different}) < len(different):
        raise ValueError(f"{options} must name sets whose folders have different names, got {', '.join(different)}")


def _number(kind: type[Number], allowed: Callable[[Number], bool], expected: str, text: str) -> Number:
    with suppress(ValueError):
        if allowed(value := kind(text)):
            return value
    raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")


def existing_folder(text: str) -> Path:
    """Check that a folder is there; a type for `add_argument`."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder that exists, got {text!r}")
    return folder


def writable_folder(text: str) -> Path:
    """Create the folder if it is missing; a type for `add_argument`."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder that can be written to, got '': use . for the current one")
    folder = Path(text).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"expected a folder that can be written to, got {text!r}: {error.strerror}"
        ) from error
    return folder
