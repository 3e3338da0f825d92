"""Measure what this project computes beside other implementations of the same: time and accuracy, in one process.

Each sub-command compares one part of the project and has its own --help. It prints Markdown tables and saves them with
everything needed to judge them: device, versions, seed, settings and every single measurement.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.benchmarks import distributions, pretrain
from experiments.command_line.parser import CommandLineParser

PARTS = {"distributions": distributions, "pretrain": pretrain}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.benchmark", description=__doc__)
    parts = parser.add_subparsers(title="what to compare", dest="part", metavar="PART", required=True)
    for name, part in PARTS.items():
        purpose = str(part.__doc__)
        part.add_arguments(parts.add_parser(name, description=purpose, help=purpose.split("\n", maxsplit=1)[0]))
    options = parser.parse_args(arguments)
    status: int = PARTS[options.part].run(options)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
