from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.records import environment
from experiments.records.environment import current_commit, describe_device, device_named, installed_versions
from experiments.records.record import Cell, Record, Table, load_records

TABLE = Table(
    "Accuracy",
    ("top-1", "top-5"),
    {
        "SimSiam": {"top-1": Cell(0.75, 0.7, 0.8, (0.74, 0.76)), "top-5": Cell(0.9)},
        "a | b": {"top-1": Cell(-0.25, -0.5, 0.0)},
    },
    note="Fractions.",
    corner="method",
    digits=2,
)
RECORD = Record("table1", "Table 1", "python -m experiments.table1", {"epochs": 2, "rates": [0.1]}, (0, 1), (TABLE,))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = RECORD.save(tmp_path)
    assert path == tmp_path / "table1.json"
    assert Record.load(path) == RECORD
    assert load_records(tmp_path) == [RECORD]
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_not_measured_is_null_and_stays_unmeasured(tmp_path: Path) -> None:
    table = Table("t", ("x",), {"a": {"x": Cell(math.nan, -math.inf, None, (math.nan, 1.0))}})
    path = Record("r", "R", "c", {"rate": math.nan}, (), (table,)).save(tmp_path)
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert Record.load(path).tables[0].rows["a"]["x"] == Cell(None, None, None, (None, 1.0))
    assert Record.load(path).tables[0].lines() == table.lines()  # on the terminal as on the page


def test_a_table_is_shown_with_intervals_dashes_and_true_minus_signs() -> None:
    assert TABLE.markdown().splitlines() == [
        "| method | top-1 | top-5 |",
        "|---|---|---|",
        "| SimSiam | 0.75 (0.70 to 0.80) | 0.90 |",
        r"| a \| b | −0.25 (−0.50 to 0.00) | – |",
    ]


def test_on_the_terminal_columns_are_aligned_and_intervals_can_be_few() -> None:
    assert TABLE.aligned(with_intervals=0).splitlines() == [
        "method   top-1  top-5",
        "SimSiam  0.75   0.90",
        "a | b    −0.25  –",
    ]
    assert "0.75 (0.70 to 0.80)" in TABLE.aligned(with_intervals=1)
    assert "0.75 (0.70 to 0.80)" in TABLE.aligned()


def test_a_cell_can_have_a_form_of_its_own_which_is_saved(tmp_path: Path) -> None:
    table = Table("t", ("x",), {"a": {"x": Cell(1.23e-9, 1e-9, 2e-9, form=".1e")}})
    assert "| a | 1.2e−09 (1.0e−09 to 2.0e−09) |" in table.markdown()
    assert Record.load(Record("r", "R", "c", {}, (), (table,)).save(tmp_path)).tables[0] == table


def test_a_record_is_saved_with_a_page_of_its_tables_and_origin(tmp_path: Path) -> None:
    record = replace(RECORD, notes=("Small.",), figures=("a_figure.png",), details={"seconds": [0.5]})
    saved = record.save_page(tmp_path)
    assert [path.name for path in saved] == ["table1.json", "table1.md"]
    assert Record.load(saved[0]) == record
    page = saved[1].read_text("utf-8")
    assert page.startswith("# Table 1\n\n**Small.**\n\n## Accuracy\n\n| method |")
    for expected in ("Fractions.", "![a figure](a_figure.png)", "`python -m experiments.table1`", "Seeds 0, 1; "):
        assert expected in page
    assert page.endswith("[All numbers and settings](table1.json).\n")


def test_a_record_says_where_it_comes_from() -> None:
    record = Record("r", "R", "c", {}, (), ())
    assert record.versions == installed_versions()
    assert {"python", "torch", "numpy"} <= set(record.versions)
    assert record.device == describe_device()
    assert record.finished.endswith(" UTC")


def test_a_device_is_named_or_refused() -> None:
    assert device_named("cpu") == torch.device("cpu")
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match=r"argument --device: expected .* float64, such as cpu, got 'abacus'"):
        device_named("abacus", torch.float64)
    with pytest.raises(ValueError, match="got 'meta'"):
        device_named("meta")


def test_the_commit_is_the_one_checked_out_or_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "experiments" / "records" / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit() == "unknown"
    identity = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)  # noqa: S603, S607
    assert len(current_commit()) == 40
    (tmp_path / "file").write_text("one")
    subprocess.run(["git", "-C", str(tmp_path), "add", "file"], check=True)  # noqa: S603, S607
    assert current_commit().endswith(", with changes")
    # Sources without a repository of their own, unpacked in another one: its commit is not theirs.
    inner = tmp_path / "unpacked"
    monkeypatch.setattr(environment, "__file__", str(inner / "experiments" / "records" / "environment.py"))
    inner.mkdir()
    assert current_commit() == "unknown"


@pytest.mark.parametrize("name", ["", ".", "../table1", "a/table1", "/table1"])
def test_names_that_are_no_files_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"name must be that of a file, without folders, got {name!r}"):
        Record(name, "", "", {}, (), ())


def test_the_links_of_a_page_lead_to_files_of_any_name(tmp_path: Path) -> None:
    record = replace(RECORD, name="table 1 (b)", figures=("table 1 (b).png",))
    path, page = record.save_page(tmp_path)
    assert Record.load(path) == record
    assert "](table%201%20%28b%29.json)" in page.read_text("utf-8")
    assert "](table%201%20%28b%29.png)" in page.read_text("utf-8")


def test_a_cell_without_its_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows must have cells in the columns \('x',\), got \['y'\] in row 'a'"):
        Table("t", ("x",), {"a": {"y": Cell(1.0)}})


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"tables": [], "seeds": [], "figures": [], "notes": []}'])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is not a record of an experiment"):
        load_records(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"value": 0.75', '"value": "much"'),
        ('"digits": 2', '"digits": "two"'),
        ('"versions": {', '"versions": [], "title": {'),
        ('"rows": {', '"rows": 1, "note": {'),
        ('"top-5"', '"top-6"'),
        ('"title": "Accuracy"', '"title": "Accuracy", "size": 1'),
    ],
)
def test_a_record_that_cannot_be_shown_is_refused_with_its_name(old: str, new: str, tmp_path: Path) -> None:
    path = RECORD.save(tmp_path)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"table1\.json is not a record of an experiment"):
        load_records(tmp_path)


def test_what_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"x\.json is not a record of an experiment"):
        load_records(tmp_path)
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"x\.json is not a record of an experiment"):
        load_records(tmp_path)


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    RECORD.save(tmp_path).rename(tmp_path / "other.json")
    with pytest.raises(ValueError, match="must be named after its record, 'table1'"):
        load_records(tmp_path)


def test_the_file_is_plain_json_with_every_seed(tmp_path: Path) -> None:
    content = json.loads(RECORD.save(tmp_path).read_text())
    assert content["seeds"] == [0, 1]
    assert content["tables"][0]["rows"]["SimSiam"]["top-1"]["each"] == [0.74, 0.76]
