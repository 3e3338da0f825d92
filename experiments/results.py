"""Write docs/results/ from the records in experiments/results/.

A record's page in docs/results/ has its tables and the text beside the record, which explains them (table1.md beside
table1.json). To change a page, edit that text and run this command again. A test checks that pages and records agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page would change")
    return parser.run(arguments, "experiments.records.pages")


if __name__ == "__main__":
    raise SystemExit(main())
