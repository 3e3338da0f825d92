"""The published results agree with the records that they were generated from."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import results
from experiments.records import pages
from experiments.records.pages import ROOT, TABLES, generated
from experiments.records.record import FOLDER, Cell, Record, Table, load_records

TABLE = Table("Accuracy", ("top-1",), {"SimSiam": {"top-1": Cell(0.5, 0.4, 0.6)}}, note="A fraction.")
RECORD = Record(
    "table1", "Table 1", "python -m experiments.table1", {}, (0, 1, 2), (TABLE,), ("table1.png",), ("Small scale.",)
)


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_the_page_agrees_with_the_records(path: Path) -> None:
    assert path.read_text("utf-8") == generated()[path], "run python -m experiments.results"


def test_every_published_number_is_on_the_page_of_its_record() -> None:
    records = load_records(FOLDER)
    assert records
    for record in records:
        page = (ROOT / TABLES / f"{record.name}.md").read_text("utf-8")
        assert record.command in page
        for table in record.tables:
            for cells in table.rows.values():
                for cell in cells.values():
                    assert cell.show(table.digits) in page


def test_every_page_of_a_record_is_linked_from_the_results() -> None:
    results_page = (ROOT / "RESULTS.md").read_text("utf-8")
    for record in load_records(FOLDER):
        assert f"({TABLES}/{record.name}.md" in results_page


def test_every_figure_of_a_record_exists() -> None:
    for record in load_records(FOLDER):
        for figure in record.figures:
            assert (FOLDER / figure).is_file()


def prepared(root: Path) -> Path:
    """A folder of records below a root."""
    folder = root / "experiments" / "results"
    folder.mkdir(parents=True)
    (root / TABLES).mkdir(parents=True)
    return folder


def test_a_page_says_what_was_run_and_what_came_out(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    RECORD.save(folder)
    (folder / "table1.md").write_text("Less than the paper says.")
    page = generated(tmp_path, folder)[tmp_path / TABLES / "table1.md"]
    for expected in (
        "# Table 1",
        "**Small scale.**",
        "Less than the paper says.",
        "| SimSiam | 0.500 (0.400 to 0.600) |",
        "A fraction.",
        "(../../experiments/results/table1.png)",
        "`python -m experiments.table1`",
        "Seeds 0, 1, 2",
        "(../../experiments/results/table1.json)",
    ):
        assert expected in page


def test_the_command_writes_the_pages_and_checks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepared(tmp_path)
    monkeypatch.setattr(pages, "generated", lambda: generated(tmp_path, folder))
    assert results.main([]) == 0
    assert results.main(["--check"]) == 0
    RECORD.save(folder)
    assert results.main(["--check"]) == 1
    assert "does not agree with the records" in capsys.readouterr().err
    assert results.main([]) == 0
    assert "0.500" in (tmp_path / TABLES / "table1.md").read_text()
    assert results.main(["--check"]) == 0


def test_a_malformed_record_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text("{}")
    monkeypatch.setattr(pages, "generated", lambda: generated(tmp_path, tmp_path))
    assert results.main([]) == 2
    printed = capsys.readouterr().err
    assert "x.json is not a record of an experiment" in printed
    assert printed.count("\n") == 1
