"""What a command needs that fills a folder for hours: to be alone there, to keep its settings, to end in order."""

from __future__ import annotations

import fcntl
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.command_line.parser import CommandLineParser
from experiments.studies.planning import differing
from experiments.studies.timing import Expected, words


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write what a command was told, or check that it is what it was told before; rows may be added.

    Args:
        path: The file.
        settings: With `rows`, a mapping of their own.

    Raises:
        ValueError: If the folder holds runs of other settings, or the file cannot be read.
    """
    now = json.loads(json.dumps(settings))
    if path.exists():
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            different = differing(saved, now)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read ({error}): give another --out") from error
        if different:
            raise ValueError(
                f"{path.parent} holds runs of other settings: {'; '.join(different)}. Give the same ones, or another "
                "--out"
            )
        now["rows"] = {**saved["rows"], **now["rows"]}
    path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def alone(folder: Path, program: str) -> Iterator[None]:
    """Keep a second command out of the folder."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another {program} is at work in {folder}") from error
        yield


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the workers as Ctrl-C does, with the state of their trainings saved."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def carried_through(parser: CommandLineParser, work: Callable[[], int]) -> int:
    """Exit status of a command's work: a mistake is told in a line, an interruption with how to go on."""
    try:
        with _terminated_like_interrupted():
            return work()
    except (ValueError, OSError) as error:
        return parser.fail(error)
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def forecast(expected: Expected, jobs: int) -> str:
    """How long it will take, in a line."""
    if expected.seconds is None:
        return f"{expected.runs} runs to do, {jobs} at once; how long they will take is not known: {expected.source}"
    return (
        f"{expected.runs} runs to do, {jobs} at once: about {words(expected.seconds / jobs)} "
        f"({words(expected.seconds / max(expected.runs, 1))} a run, by {expected.source})"
    )
