"""The one way to report: cells make a table, tables make a record, and a record is a JSON file and a page.

- `Cell`: a number with its interval, its digits or format, and the value of each seed; or a text.
- `Table`: cells in named rows and columns; `markdown()` for a page, `aligned()` for the terminal.
- `Record`: tables with the command, settings, seeds, device, versions and commit that they come from; `save(folder)`
  writes NAME.json, `page()` is the record as Markdown, `save_page(folder)` writes both.
- `markdown_table` and `aligned_table` show lines of text in the same form, where a table has no numbers to keep.

Pages are generated from records alone (`experiments.results` for the published ones), so that a page cannot say what no
run has measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from experiments.records.environment import current_commit, describe_device, installed_versions
from inference.fitting.checkpointing import replace_text

FOLDER = Path(__file__).parents[1] / "results"
"""Records that are published with the project."""

_NOTHING = "–"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of text as a Markdown table, the headings first.

    Example:
        >>> print(markdown_table([["set", "images"], ["digits", "1,797"]]))
        | set | images |
        |---|---|
        | digits | 1,797 |
    """
    escaped = [[text.replace("|", r"\|").replace("\n", " ") for text in line] for line in lines]
    shown = ["| " + " | ".join(line) + " |" for line in escaped]
    return "\n".join([shown[0], "|" + "---|" * len(lines[0]), *shown[1:]])


def aligned_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of text in columns for the terminal.

    Example:
        >>> print(aligned_table([["set", "images"], ["digits", "1,797"]]))
        set     images
        digits  1,797
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: Mean over seeds; `None` where there is none.
        low: Lower end of its interval, or `None`.
        high: Upper end.
        each: The value of each seed, in the order of the record's seeds.
        text: Shown instead of the number, such as for what others published.
        form: How Python formats these numbers, such as `.1e`, where it is not with the digits of the table.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    each: tuple[float | None, ...] = ()
    text: str = ""
    form: str = field(default="", repr=False)

    def show(self, digits: int) -> str:
        """The cell as text.

        Example:
            >>> Cell(0.8123, 0.7, 0.9).show(2), Cell(0.5).show(1), Cell().show(2), Cell(text="yes").show(2)
            ('0.81 (0.70 to 0.90)', '0.5', '–', 'yes')
            >>> Cell(1.23e-9, form=".1e").show(2)
            '1.2e−09'
        """
        if self.text:
            return self.text
        if self.value is None or not math.isfinite(self.value):  # as it is saved
            return _NOTHING
        form = self.form or f".{digits}f"
        shown = format(self.value, form)
        if self.low is not None and self.high is not None:
            shown += f" ({self.low:{form}} to {self.high:{form}})"
        return shown.replace("-", "−")


@dataclass(frozen=True)
class Table:
    """Numbers in rows and columns.

    Attributes:
        title: Above the table.
        columns: Headings, without that of the first column.
        rows: Name of a row to its cells, by column; a missing one is shown as a dash. A name of several parts, with
            " | " between them, fills as many columns as the corner has parts.
        note: Below the table: what the numbers mean.
        corner: Heading of the first column.
        digits: After the decimal point.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]]
    note: str = ""
    corner: str = ""
    digits: int = 3

    def __post_init__(self) -> None:
        for name, cells in self.rows.items():
            unknown = sorted(set(cells) - set(self.columns))
            if unknown:
                raise ValueError(f"rows must have cells in the columns {self.columns}, got {unknown} in row {name!r}")
            if len(self._parts(name)) != len(self._parts(self.corner)):
                raise ValueError(f"rows must have names of as many parts as the corner {self.corner!r}, got {name!r}")

    def lines(self, with_intervals: int | None = None) -> list[list[str]]:
        """Headings and rows as text, with intervals in the first so many columns; in all when not given."""
        lines = [[*self._parts(self.corner), *self.columns]]
        for name, cells in self.rows.items():
            shown = [cells.get(column, Cell()) for column in self.columns]
            if with_intervals is not None:
                bare = [replace(cell, low=None, high=None) for cell in shown[with_intervals:]]
                shown = [*shown[:with_intervals], *bare]
            lines.append([*self._parts(name), *(cell.show(self.digits) for cell in shown)])
        return lines

    def _parts(self, name: str) -> list[str]:
        return name.split(" | ") if " | " in self.corner else [name]

    def markdown(self) -> str:
        """The table as Markdown, without title and note."""
        return markdown_table(self.lines())

    def aligned(self, with_intervals: int | None = None) -> str:
        """The table in aligned columns for the terminal; intervals in few columns keep its lines readable."""
        return aligned_table(self.lines(with_intervals))


@dataclass(frozen=True)
class Record:
    """One run of an experiment.

    Attributes:
        name: Of its file, without folder and ending.
        title: Of its section on the page.
        command: What was typed.
        configuration: Settings, as plain JSON.
        seeds: Of the trainings.
        tables: What came out.
        figures: Files beside the record.
        notes: Sentences that belong to the numbers: labels such as "small scale", warnings such as collapse.
        details: What the tables do not show, such as every single measurement, as plain JSON for programs.
        finished: When, UTC.
        device: What it ran on.
        versions: Of Python and of the packages.
        commit: Of this project.
    """

    name: str
    title: str
    command: str
    configuration: dict[str, Any]
    seeds: tuple[int, ...]
    tables: tuple[Table, ...]
    figures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    finished: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    device: str = field(default_factory=describe_device)
    versions: dict[str, str] = field(default_factory=installed_versions)
    commit: str = field(default_factory=current_commit)

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f"name must be that of a file, without folders, got {self.name!r}")

    def save(self, folder: Path) -> Path:
        """Write `name.json`, replacing an older one in one piece."""
        # JSON has no NaN: what was not measured is null.
        content = json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        return replace_text(folder / f"{self.name}.json", text)

    def page(self, *, comment: str = "", folder: str = "") -> str:
        """The record as Markdown: notes, tables, figures, and where the numbers come from.

        Args:
            comment: What the numbers mean, below the notes.
            folder: Where figures and JSON file lie, as seen from the page; with a slash at its end.
        """
        parts = [f"# {self.title}"]
        parts += [f"**{' '.join(self.notes)}**"] if self.notes else []
        parts += [comment.strip()] if comment else []
        for table in self.tables:
            parts += [f"## {table.title}", table.markdown()]
            parts += [table.note] if table.note else []
        parts += [f"![{Path(figure).stem.replace('_', ' ')}]({folder}{quote(figure)})" for figure in self.figures]
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        numbers = ", ".join(map(str, self.seeds))
        seeds = f"Seed{'s' if len(self.seeds) > 1 else ''} {numbers}" if numbers else "No seeds"
        made = f"{seeds}; {self.device}; {versions}; commit {self.commit}; {self.finished}."
        parts += [f"`{self.command}`", f"{made} [All numbers and settings]({folder}{quote(self.name)}.json)."]
        return "\n\n".join(parts) + "\n"

    def save_page(self, folder: Path) -> list[Path]:
        """Write NAME.json and the page NAME.md beside it."""
        return [self.save(folder), replace_text(folder / f"{self.name}.md", self.page())]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: If it is none.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["tables"] = tuple(_table(table) for table in content["tables"])
            for name in ("seeds", "figures", "notes"):
                content[name] = tuple(content[name])
            record = cls(**content)
            record.page()  # what cannot be shown is none
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is not a record of an experiment: {error}") from error
        if record.name != path.stem:
            raise ValueError(f"{path} must be named after its record, {record.name!r}")
        return record


def load_records(folder: Path) -> list[Record]:
    """All records of a folder, by name; none if there is no such folder."""
    return [Record.load(path) for path in sorted(folder.glob("*.json"))]


def _table(content: Mapping[str, Any]) -> Table:
    rows = {
        name: {column: Cell(**{**cell, "each": tuple(cell["each"])}) for column, cell in cells.items()}
        for name, cells in content["rows"].items()
    }
    return Table(**{**content, "columns": tuple(content["columns"]), "rows": rows})
