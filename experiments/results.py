"""Write docs/results/ and the marked tables of README and RESULTS.md from the records in experiments/results/.

A record's page in docs/results/ has its tables and the text beside the record, which explains them (table1.md beside
table1.json). To change a page, edit that text and run this command again. A test checks that pages and records agree.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page would change")
    options = parser.parse_args(arguments)
    from experiments.records import pages  # noqa: PLC0415  # slow

    try:
        generated = pages.generated()
    except (ValueError, OSError) as error:
        return parser.fail(error)
    status = 0
    for path, text in generated.items():
        current = path.read_text(encoding="utf-8") if path.exists() else None
        if current == text:
            print(f"{path.name} is up to date")
        elif options.check:
            print(f"{path.name} does not agree with the records: run python -m experiments.results", file=sys.stderr)
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name} written")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
