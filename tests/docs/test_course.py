"""The slides, the sheet and the notebooks are the lessons and the derivations, and nothing else."""

from __future__ import annotations

import base64
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from ssl_as_inference.derivations.step import Derivation

nbformat = pytest.importorskip("nbformat", reason="needs the extra 'docs'")

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9]*.py"))
PICTURE = (ROOT / "docs" / "figures" / "graphical_model.png").read_bytes()
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Any:
    for needed in ("jupytext", "jupyter_cache", "pypandoc", "typst"):
        pytest.importorskip(needed, reason="needs the extra 'docs'")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    return importlib.import_module("course")


def pages(pdf: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))


def words(text: str) -> str:
    """What is left of a text when its breaks, links and signs of Markdown are gone."""
    return re.sub(r"[\s*]+", "", re.sub(r"\[([^]]+)]\([^)]+\)", r"\1", text))


@every_lesson
def test_a_slide_says_nothing_that_its_lesson_does_not(lesson: Path, course: Any) -> None:
    book = course.notebook(lesson, solutions=True)
    said = words("\n".join(cell.source for cell in book.cells))
    shown = course.slides(book)
    assert len(shown) > 4
    for slide in shown:
        assert words(slide.title) in said
        text = slide.text.removeprefix("```python").removesuffix("```")
        for sentence in (sentence for paragraph in text.split("\n\n") for sentence in course._END.split(paragraph)):
            assert words(sentence) in said


@every_lesson
def test_the_slides_have_every_section_and_formula_of_a_lesson(lesson: Path, course: Any) -> None:
    book = course.notebook(lesson, solutions=True)
    text = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    shown = course.slides(book)
    titles = [heading.strip() for heading in re.findall(r"^##? (.*)", text, re.MULTILINE)]
    assert list(dict.fromkeys(slide.title for slide in shown)) == [title for title in titles if title != "Solutions"]
    formulas = re.findall(r"\$\$.+?\$\$", "".join(slide.text for slide in shown), re.DOTALL)
    assert formulas == re.findall(r"\$\$.+?\$\$", text, re.DOTALL)


def book_with_pictures(*cells: Any) -> Any:
    picture = {"output_type": "display_data", "data": {"image/png": base64.b64encode(PICTURE).decode()}, "metadata": {}}
    made = [nbformat.v4.new_markdown_cell("# 0 · A lesson\n\nIt begins.\n\n*Time:* 5 minutes.")]
    for cell in cells:
        if isinstance(cell, str):
            made.append(nbformat.v4.new_markdown_cell(cell))
        else:
            made.append(nbformat.v4.new_code_cell("plt.show()", outputs=[picture] * cell))
    return nbformat.v4.new_notebook(cells=made)


def test_each_picture_of_a_lesson_has_one_slide(course: Any) -> None:
    shown = course.slides(
        book_with_pictures("## One\n\nIt is **here**.", 2, "And **this** is said of it.", "## Two", 1)
    )
    assert [(slide.title, bool(slide.picture)) for slide in shown] == [
        ("0 · A lesson", False), ("One", True), ("One", True), ("Two", True),
    ]  # fmt: skip
    assert "And **this**" in shown[2].text


def test_slides_are_compiled_to_one_page_each(course: Any, tmp_path: Path) -> None:
    long = " ".join(f"**Sentence {number}** has $\\sum_i \\big(x_i\\big)^2$." for number in range(30))
    book = book_with_pictures(f"## Long\n\n{long}", 1, "## Formula\n\nSo:\n\n$$\\mathrm{KL}(q\\,\\|\\,p)$$", 1)
    course.write_slides([book], [("beginning **1**", "1")], tmp_path / "slides.pdf")
    assert pages(tmp_path / "slides.pdf") == 1 + len(course.slides(book))


def test_the_sheet_is_one_page_of_verified_derivations_and_all_equations(course: Any, tmp_path: Path) -> None:
    items = [item for _, part in course.SHEET for item in part]
    assert [item for item in items if isinstance(item, int)] == list(range(1, 13))
    assert sum(isinstance(item, Derivation) for item in items) >= 4
    for item in items:
        if isinstance(item, Derivation):
            item.verify()
    course.write_sheet(tmp_path / "sheet.pdf")
    assert pages(tmp_path / "sheet.pdf") == 1


@every_lesson
def test_a_notebook_without_solutions_has_all_else(lesson: Path, course: Any) -> None:
    full, bare = (course.notebook(lesson, solutions=solutions) for solutions in (True, False))
    nbformat.validate(bare)
    kept = [cell.source for cell in bare.cells]
    left_out = [cell.source for cell in full.cells if cell.source not in kept]
    assert kept == [cell.source for cell in full.cells if cell.source not in left_out]
    assert left_out.pop(0) == "## Solutions"
    assert [source[:12] for source in left_out] == [f"# Solution {number}" for number in range(1, len(left_out) + 1)]
    assert len(re.findall(r"^\*\*Exercise", "\n".join(kept), re.MULTILINE)) == len(left_out) >= 2
    assert ".py)" not in "".join(cell.source for cell in bare.cells)


def test_the_course_has_the_minutes_of_each_lesson_and_five_of_them_fill_two_hours(course: Any) -> None:
    minutes = course.minutes_of_sections(ROOT / "lessons" / "README.md")
    assert len(minutes) == len(LESSONS)
    for sections, total in minutes:
        assert sum(int(one) for one in re.findall(r"\*\*(\d+)\*\*", sections)) == int(total)
    assert "Lessons 1 to 5 fill two hours" in course.OFFER
    assert 105 <= sum(int(total) for _, total in minutes[1:6]) <= 125


def test_a_lesson_that_was_not_run_as_it_stands_makes_no_slides(course: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        course.executed(LESSONS[0], str(tmp_path / "cache"))
