"""Compare this project with other implementations of the same methods: time and accuracy, in one process.

Each sub-command compares one part of the project and has its own --help. It prints Markdown tables and saves them with
everything needed to judge them: device, versions, seed, settings and every single measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import (
    CommandLineParser,
    add_seed,
    docstring,
    existing_folder,
    whole_number,
    writable_folder,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.benchmark", description=__doc__)
    parts = parser.add_subparsers(title="what to compare", dest="part", metavar="PART", required=True)
    for name, repeats in (("distributions", 20), ("pretrain", None)):
        purpose = docstring(Path(__file__).parent / "benchmarks" / f"{name}.py")
        part = parts.add_parser(name, description=purpose, help=purpose.split("\n", maxsplit=1)[0])
        add = part.add_argument
        add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
        add(
            "--threads",
            type=whole_number(1),
            help="threads of every library, by default as many as PyTorch takes; 1 gives the steadiest times on a CPU",
        )
        add("--repeats", type=whole_number(1), default=repeats, help="rounds; by default each part has its own number")
        add_seed(part, "seed of all that is random")
        add("--out", type=writable_folder, default="runs/benchmark", help="folder for the results")
        add("--quick", action="store_true", help="tiny sizes, to test the command; the times mean nothing")
    things = ("step", "jobs", "embed")
    add("--parts", choices=things, nargs="+", default=[*things], help="what to measure")
    add("--images", type=existing_folder, help="images for the jobs, a folder a class; by default some are written")
    add("--pixels", type=whole_number(1), help="height and width of the views of the jobs")
    add("--workers", type=whole_number(0), default=0, help="loading processes of each job; 0 for none")
    add("--bfloat16", action="store_true", help="networks of the jobs compute in bfloat16, as always on a GPU")
    return parser.run(arguments, "experiments.benchmarks.comparing")


if __name__ == "__main__":
    raise SystemExit(main())
