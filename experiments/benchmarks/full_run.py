"""A whole pretraining from its configuration to its export, timed, with the last evaluation by nearest neighbours."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LIGHTLYS_KNN = 75.2
"""Percent, published by lightly for SimSiam with ResNet-18 on ImageNette at 128 pixels after 200 epochs."""
LIGHTLYS_MINUTES = 58.0
"""Published for that training on one A6000."""


@dataclass(frozen=True)
class FullRun:
    """A run that came to its end.

    Attributes:
        command: What was run.
        minutes: From start to end, everything included.
        knn: Accuracy of nearest neighbours at its end, in percent; `None` where it was not evaluated.
    """

    command: str
    minutes: float
    knn: float | None


class FullRunFailedError(RuntimeError):
    """The pretraining did not come to its end; the message holds what it said last."""


def time_full_run(config: str, out: Path, more: Sequence[str] = ()) -> FullRun:
    """Run `python -m experiments.pretrain` as a user does, in a process of its own.

    Args:
        config: A configuration file.
        out: Folder of the run, which must not exist yet.
        more: More options of the command.

    Raises:
        FullRunFailedError: If it fails.
    """
    command = [
        "-m",
        "experiments.pretrain",
        "--config",
        config,
        "--out",
        str(out),
        "--monitor.progress",
        "false",
        *more,
    ]
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)  # noqa: S603
    minutes = (time.perf_counter() - started) / 60
    if finished.returncode:
        raise FullRunFailedError(f"python {' '.join(command)}: {finished.stderr.strip().splitlines()[-1:]}")
    return FullRun(f"python {' '.join(command)}", minutes, _last_knn(out / "metrics.csv"))


def _last_knn(metrics: Path) -> float | None:
    with metrics.open(encoding="utf-8", newline="") as file:
        values = [row["knn"] for row in csv.DictReader(file) if row.get("knn")]
    return 100 * float(values[-1]) if values else None
