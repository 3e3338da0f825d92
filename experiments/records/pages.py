"""Pages made from the published records: docs/results/."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from experiments.records.record import FOLDER, load_records

ROOT = Path(__file__).parents[2]
TABLES = "docs/results"


def generated(root: Path = ROOT, folder: Path = FOLDER) -> dict[Path, str]:
    """The pages and what they should say: one a record, with the text beside it."""
    pages = {}
    for record in load_records(folder):
        comment = folder / f"{record.name}.md"
        text = comment.read_text(encoding="utf-8") if comment.exists() else ""
        where = os.path.relpath(folder, root / TABLES)
        pages[root / TABLES / f"{record.name}.md"] = record.page(comment=text, folder=f"{where}/")
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
