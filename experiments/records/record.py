"""What an experiment leaves behind: one JSON file that says what was run, where, and what came out.

A record holds its numbers as tables, ready to be shown, each cell with its interval and the value of each seed. Pages
are generated from records alone (`experiments.results`), so that a page cannot say what no run has measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from experiments.records.environment import current_commit, describe_device, installed_versions
from inference.fitting.checkpointing import replace_file

FOLDER = Path(__file__).parents[1] / "results"
"""Records that are published with the project."""

_NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: Mean over seeds; `None` where there is none.
        low: Lower end of its interval, or `None`.
        high: Upper end.
        each: The value of each seed, in the order of the record's seeds.
        text: Shown instead of the number, such as for what others published.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    each: tuple[float | None, ...] = ()
    text: str = ""

    def show(self, digits: int) -> str:
        """The cell as Markdown.

        Example:
            >>> Cell(0.8123, 0.7, 0.9).show(2), Cell(0.5).show(1), Cell().show(2), Cell(text="yes").show(2)
            ('0.81 (0.70 to 0.90)', '0.5', '–', 'yes')
        """
        if self.text:
            return self.text
        if self.value is None:
            return _NOTHING
        shown = f"{self.value:.{digits}f}"
        if self.low is not None and self.high is not None:
            shown += f" ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return shown.replace("-", "−")


@dataclass(frozen=True)
class Table:
    """Numbers in rows and columns.

    Attributes:
        title: Above the table.
        columns: Headings, without that of the first column.
        rows: Name of a row to its cells, by column; a missing one is shown as a dash.
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

    def markdown(self) -> str:
        """The table as Markdown, without title and note."""
        lines = [[self.corner, *self.columns]]
        lines += [
            [name, *(cells.get(column, Cell()).show(self.digits) for column in self.columns)]
            for name, cells in self.rows.items()
        ]
        escaped = [[text.replace("|", r"\|") for text in line] for line in lines]
        shown = ["| " + " | ".join(line) + " |" for line in escaped]
        shown.insert(1, "|---" * len(escaped[0]) + "|")
        return "\n".join(shown)


@dataclass(frozen=True)
class Record:
    """One run of an experiment.

    Attributes:
        name: Of its file, without ending; lower-case letters, digits and underscores.
        title: Of its section on the page.
        command: What was typed.
        configuration: Settings, as plain JSON.
        seeds: Of the trainings.
        tables: What came out.
        figures: Files beside the record.
        notes: Sentences that belong to the numbers: labels such as "small scale", warnings such as collapse.
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
    finished: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    device: str = field(default_factory=describe_device)
    versions: dict[str, str] = field(default_factory=installed_versions)
    commit: str = field(default_factory=current_commit)

    def __post_init__(self) -> None:
        if not self.name or not all(letter.islower() or letter.isdigit() or letter == "_" for letter in self.name):
            raise ValueError(f"name must consist of lower-case letters, digits and underscores, got {self.name!r}")

    def save(self, folder: Path) -> Path:
        """Write `name.json`, replacing an older one in one piece."""
        path = folder / f"{self.name}.json"
        text = json.dumps(_without_nan(asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

        def write(temporary: Path) -> None:
            temporary.write_text(text, encoding="utf-8")

        replace_file(path, write)
        return path

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
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
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


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
