"""Pages made from the published records: docs/results/, and the marked places of README and RESULTS.md."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.records.record import FOLDER, Record, load_records

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "RESULTS.md")
TABLES = "docs/results"

_SMALL = "_small"
_NOTHING_YET = "No record yet: nothing has been run and published."
_MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results: \2 -->)", re.DOTALL)


def fill_marked(text: str, records: Sequence[Record]) -> str:
    r"""Fill each `<!-- results: NAME -->` … `<!-- end of results: NAME -->` with the first table of that record.

    Where there is no such record, the one of its small scale stands in, whose notes say what it is.

    Example:
        >>> print(fill_marked("<!-- results: table1 -->\nold\n<!-- end of results: table1 -->", []))
        <!-- results: table1 -->
        *No record yet: nothing has been run and published.*
        <!-- end of results: table1 -->
    """
    by_name = {record.name: record for record in records}

    def fill(match: re.Match[str]) -> str:
        record = by_name.get(match[2]) or by_name.get(f"{match[2]}{_SMALL}")
        if record is None or not record.tables:
            return f"{match[1]}*{_NOTHING_YET}*\n{match[3]}"
        notes = " ".join(record.notes)
        source = f"*`{record.command}`, {record.device}, {record.of_seeds}. {notes + ' ' if notes else ''}"
        everything = f"[Everything that was run]({TABLES}/{record.name}.md)"
        return f"{match[1]}{record.tables[0].markdown()}\n\n{source}{everything}.*\n{match[3]}"

    return _MARKED.sub(fill, text)


def generated(root: Path = ROOT, folder: Path = FOLDER) -> dict[Path, str]:
    """The pages and what they should say: one a record, with the text beside it, and the marked places of `PAGES`."""
    records = load_records(folder)
    pages = {}
    for record in records:
        comment = folder / f"{record.name}.md"
        text = comment.read_text(encoding="utf-8") if comment.exists() else ""
        above = "../" * (TABLES.count("/") + 1)
        where = f"{above}{folder.relative_to(root).as_posix()}/"
        pages[root / TABLES / f"{record.name}.md"] = record.page(comment=text, folder=where)
    for name in PAGES:
        pages[root / name] = fill_marked((root / name).read_text(encoding="utf-8"), records)
    return pages


def run(options: argparse.Namespace) -> int:
    """Write the pages, or say with `--check` which differ; returns the exit status."""
    status = 0
    for path, text in generated().items():
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
