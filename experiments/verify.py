"""Check every equation of the paper: `python -m experiments.verify`.

Runs the ledger of claims (`experiments.verification`), prints it as a table and saves a report as Markdown, as one HTML
page and as JSON. The exit status is 0 if every claim that was run holds, and 1 otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, add_seed, writable_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.verify", description=__doc__.split("\n\n")[0])
    parser.add_argument("--all", action="store_true", help="also run the claims that take long, such as trainings")
    only = "run only these claims, such as C12 or 12, long ones included"
    parser.add_argument("--only", nargs="+", metavar="ID", help=only)
    parser.add_argument("--device", default="cpu", help="where the shipped code computes: cpu, cuda, cuda:1, …")
    add_seed(parser, "seed of all random draws")
    parser.add_argument("--out", type=writable_folder, default="runs/verify", help="folder for the reports")
    return parser.run(arguments, "experiments.verification.report")


if __name__ == "__main__":
    raise SystemExit(main())
