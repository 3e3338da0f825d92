"""What the commands share that fill a folder with runs for hours: their options, and how they end. Needs no torch."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.command_line.parser import CommandLineParser, Module, record_name, whole_number, writable_folder

_HERE = Path(__file__).parent
SCALES: dict[str, Any] = yaml.safe_load((_HERE / "scales.yaml").read_text("utf-8"))
ROWS: dict[str, Any] = yaml.safe_load((_HERE / "rows.yaml").read_text("utf-8"))
"""Both are explained in their files."""

RUNS_A_GPU = 4


class StudyParser(CommandLineParser):
    """A parser with the options of all studies, those of rows.yaml and scales.yaml among them.

    Args:
        module: Of the command.
        description: Of the command.
        scale: The size of the trainings by default.
    """

    when_stopped = "stopped; the same command goes on where it was"

    def __init__(self, module: str, description: str | None, scale: str) -> None:
        super().__init__(prog=f"python -m experiments.{module}", description=description)
        add, keys = self.add_argument, [*ROWS[module]]
        add("--scale", choices=[*SCALES], default=scale, help="size of the trainings; tiny is for tests")
        add("--rows", nargs="+", choices=keys, metavar="ROW", help=f"some of {', '.join(keys)}; default: the scale's")
        add("--epochs", type=whole_number(1), help="epochs, instead of the scale's")
        add("--seeds", type=whole_number(1), default=3, help="number of seeds, counted from 0")
        add("--root", default="data", help="folder of the named sets")
        add("--download", action="store_true", help="fetch a named set that is missing")
        add("--device", choices=["auto", "cpu", "gpu"], default="auto", help="auto: a GPU if there is one")
        add("--jobs", type=whole_number(1), help=f"runs at once; default: one per core, or {RUNS_A_GPU} per GPU")
        add("--scheduler", metavar="ADDRESS", help="address of a Dask cluster; default: processes here")
        add("--table-only", action="store_true", help="run nothing; make the table of the finished runs in --out")
        add("--out", type=writable_folder, default=f"runs/{module}", help="folder of all runs")
        add("--note", default="", help="a sentence for the record, such as how a set was made")
        add(
            "--name",
            type=record_name,
            help=f"name of the record; default: {module}, with the scale where it is not full",
        )
        add("--publish", action="store_true", help="put record and figure in experiments/results as well")

    def run(self, arguments: Sequence[str] | None, module: Module) -> int:
        """As for any command; SIGTERM stops it as Ctrl-C does."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().run(arguments, module)
        finally:
            signal.signal(signal.SIGTERM, before)
