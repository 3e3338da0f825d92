"""Check every equation of the paper: `python -m experiments.verify`.

Runs the ledger of claims (`experiments.verification`), prints it as a table and saves a report as Markdown, as one HTML
page and as JSON. The exit status is 0 if every claim that was run holds, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder


def claim_id(text: str) -> str:
    """A type for `add_argument`: the number of a claim, with or without its C."""
    match = re.fullmatch(r"[cC]?(\d+)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected the number of a claim, such as C12, got {text!r}")
    return f"C{int(match.group(1))}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.verify", description=__doc__.split("\n\n")[0])
    parser.add_argument("--all", action="store_true", help="also run the claims that take long, such as trainings")
    parser.add_argument(
        "--only", type=claim_id, nargs="+", metavar="ID", help="run only these claims, such as C12, long ones included"
    )
    parser.add_argument("--device", default="cpu", help="where the shipped code computes: cpu, cuda, cuda:1, …")
    parser.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="seed of all random draws")
    parser.add_argument("--out", type=writable_folder, default="runs/verify", help="folder for the reports")
    return parser.run(arguments, "experiments.verification.report")


if __name__ == "__main__":
    raise SystemExit(main())
