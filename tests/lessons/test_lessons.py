"""Every lesson runs as it stands, solutions included, in its short settings, and is built as lessons/README.md says."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pyro
import pytest
import torch
from matplotlib import pyplot as plt

from experiments.figures import interactive
from ssl_as_inference.derivations.ssl_loss import BYOL_IS_AFFINE_IN_SSL

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


@dataclass(frozen=True)
class Cell:
    """A cell of a lesson in jupytext's percent format: what follows `# %%`, and the lines below."""

    head: str
    body: str

    @property
    def is_text(self) -> bool:
        return self.head.startswith("[markdown]")

    @property
    def is_folded(self) -> bool:
        return ("hide-input" in self.head or "hide-cell" in self.head) and '"source_hidden": true' in self.head

    @property
    def text(self) -> str:
        return re.sub(r"^# ?", "", self.body, flags=re.MULTILINE)

    @property
    def code(self) -> ast.Module:
        return ast.parse(self.body)

    def has(self, kind: type[ast.AST]) -> bool:
        return any(isinstance(node, kind) for node in ast.walk(self.code))

    def calls(self, name: str) -> bool:
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
            for node in ast.walk(self.code)
        )


def cells(lesson: Path) -> list[Cell]:
    parts = re.split(r"^# %%(.*)\n", lesson.read_text("utf-8"), flags=re.MULTILINE)
    return [Cell(head.strip(), body) for head, body in zip(parts[1::2], parts[2::2], strict=True)]


def texts(lesson: Path) -> str:
    return "\n".join(cell.text for cell in cells(lesson) if cell.is_text)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What a lesson shows, counted, with Matplotlib's settings and torch's threads as they were afterwards."""
    shown: list[int] = []

    def show() -> None:
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
            shown.append(number)
        plt.close("all")

    threads = torch.get_num_threads()
    with mpl.rc_context():
        plt.switch_backend("agg")
        monkeypatch.setattr(plt, "show", show)
        yield shown
        plt.close("all")
    torch.set_num_threads(threads)


@every_lesson
@pytest.mark.slow
def test_a_lesson_and_its_solutions_run(
    lesson: Path, figures: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LESSONS_FAST", "1")
    torch.set_num_threads(1)
    runpy.run_path(str(lesson), run_name="__main__")
    assert figures, "a lesson shows something"
    assert not plt.get_fignums(), "every figure is shown"
    assert capsys.readouterr().out
    assert torch.get_default_dtype() == torch.float32
    assert not pyro.settings.get("module_local_params"), "a lesson leaves Pyro's settings as they were"


def variables(nodes: list[ast.AST]) -> set[str]:
    return {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)} - {"print"}


def printed(code: ast.AST) -> set[str]:
    """The variables in calls of `print`, and those that the loops around them run over."""
    calls = [node for node in ast.walk(code) if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"]
    loops = [node for node in ast.walk(code) if isinstance(node, ast.For)]
    around = [loop.iter for loop in loops if any(call in ast.walk(loop) for call in calls)]
    return variables([*calls, *around])


def asserted(code: ast.AST) -> set[str]:
    """The variables in assertions, and those that the loops around them run over."""
    checks: list[ast.AST] = [node for node in ast.walk(code) if isinstance(node, ast.Assert)]
    loops = [node for node in ast.walk(code) if isinstance(node, ast.For)]
    around = [loop.iter for loop in loops if any(check in ast.walk(loop) for check in checks)]
    return variables([*checks, *around])


def printed_and_not_asserted(code_cells: list[Cell]) -> list[str]:
    """Cells that print and whose numbers are asserted neither there nor in the folded cell that follows.

    A folded cell answers for the shown one above it only if its assertions speak of what was printed.
    """
    faults = []
    for cell, following in pairwise([*code_cells, Cell("[markdown]", "")]):
        if cell.is_text or not cell.calls("print") or cell.has(ast.Assert):
            continue
        checked = following.is_folded and printed(cell.code) & asserted(following.code)
        if not checked:
            faults.append(cell.body)
    return faults


@every_lesson
def test_a_number_that_is_printed_is_asserted_there_or_in_the_folded_cell_below(lesson: Path) -> None:
    assert printed_and_not_asserted(cells(lesson)) == []


FOLDED = 'tags=["hide-input"] jupyter={"source_hidden": true}'


@pytest.mark.parametrize(
    ("following", "accepted"),
    [
        (Cell(FOLDED, "assert x < 1\n"), True),
        (Cell("", "assert x < 1\n"), False),
        (Cell(FOLDED, "assert y < 1\n"), False),
        (Cell(FOLDED, "print(x)\n"), False),
        (Cell("[markdown]", "# assert x < 1\n"), False),
    ],
    ids=["folded", "in sight", "of something else", "without an assertion", "a text"],
)
def test_the_rule_on_printed_numbers_finds_what_it_is_for(following: Cell, *, accepted: bool) -> None:
    first = printed_and_not_asserted([Cell("", "print(f'{x}')\n"), following])[:1]
    assert first == ([] if accepted else ["print(f'{x}')\n"])


@every_lesson
def test_assertions_stand_in_folded_cells(lesson: Path) -> None:
    shown = [cell.body for cell in cells(lesson) if not cell.is_text and not cell.is_folded and cell.has(ast.Assert)]
    assert shown == []


@every_lesson
def test_a_cell_fits_on_a_page(lesson: Path) -> None:
    wide = [line for cell in cells(lesson) for line in cell.body.splitlines() if len(line) > 88 and "](" not in line]
    long = [cell.body for cell in cells(lesson) if not cell.is_text and len(cell.body.strip().splitlines()) > 20]
    assert wide == []
    assert long == []


@every_lesson
def test_every_exercise_has_a_level_a_starter_cell_and_a_solution_at_the_end(lesson: Path) -> None:
    everything = cells(lesson)
    end = [cell.text.strip() for cell in everything].index("## Solutions")
    exercises, solutions = everything[:end], everything[end + 1 : -1]
    count = 0
    for cell, following in pairwise([*exercises, Cell("", "")]):
        assert ("starter" in following.head) == (cell.is_text and "**Exercise " in cell.text), following.body
        assert "solution" not in cell.head
        if "starter" in following.head:
            count += 1
            assert re.findall(r"^\*\*Exercise (\d+)\.\*\* \((?:easy|medium|hard)\) ", cell.text, re.MULTILINE) == [
                str(count)
            ]
    assert count >= 2
    assert [cell.body.split(".")[0] for cell in solutions] == [f"# Solution {n + 1}" for n in range(count)]
    for cell in solutions:
        assert cell.head.startswith('tags=["solution", "hide-cell"]')
        assert cell.is_folded
        assert cell.has(ast.Assert)


@every_lesson
def test_a_figure_to_turn_is_one_that_the_site_can_draw(lesson: Path) -> None:
    for cell in cells(lesson):
        if "turnable-figure" in cell.head:
            assert cell.head == 'tags=["turnable-figure", "remove-cell"]'
            assert cell.body.strip() in {f"{name}()" for name in interactive.FIGURES}


@every_lesson
def test_a_lesson_uses_public_names_alone(lesson: Path) -> None:
    for node in ast.walk(ast.parse(lesson.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            assert not [name for name in names if name.startswith("_")]


@every_lesson
def test_a_lesson_opens_as_a_notebook(lesson: Path) -> None:
    text = lesson.read_text("utf-8")
    assert text.startswith("# ---\n# jupyter:\n")
    assert "#       format_name: percent\n" in text
    first = cells(lesson)[0]
    assert first.is_text
    assert first.text.startswith(f"# {lesson.name[0]} · ")


def minutes(lesson: Path) -> dict[str, int]:
    """Teaching time of each section by the rule of lessons/README.md."""
    times: dict[str, float] = {}
    section = ""
    for cell in cells(lesson):
        for part in re.split(r"^(?=##? )", cell.text, flags=re.MULTILINE) if cell.is_text else []:
            section = part.splitlines()[0].lstrip("# ") if part.startswith("#") else section
            times.setdefault(section, 0)
            words = re.sub(r"\$\$.*?\$\$", "", part, flags=re.DOTALL).split()
            times[section] += len(words) / 130 + part.count("$$") / 2 * 0.5
        if not cell.is_text and not cell.is_folded and "starter" not in cell.head:
            figures = cell.body.count("plt.show()") + ("turnable-figure" in cell.head)
            times[section] += len(cell.body.strip().splitlines()) * 4 / 60 + figures * 0.75
    del times[""], times["Solutions"]
    return {section: max(1, round(time)) for section, time in times.items()}


def test_the_minutes_of_each_section_are_those_of_the_lessons() -> None:
    rows = ["| | Sections, minutes of each | Lesson |", "|---|---|---|"]
    for lesson in LESSONS:
        first, *others = minutes(lesson).items()
        sections = " · ".join(f"{section} **{time}**" for section, time in (("beginning", first[1]), *others))
        rows.append(f"| {lesson.name[0]} | {sections} | {first[1] + sum(time for _, time in others)} |")
    table = "\n".join(rows)
    assert table in (ROOT / "lessons" / "README.md").read_text("utf-8"), table


def test_each_lesson_leads_to_the_next() -> None:
    assert [lesson.name[0] for lesson in LESSONS] == [str(number) for number in range(len(LESSONS))]
    for lesson, following in pairwise(LESSONS):
        assert f"]({following.name})" in cells(lesson)[-1].text
    assert f"lessons/{LESSONS[0].name}" in (ROOT / "README.md").read_text("utf-8")
    for lesson in LESSONS:
        assert f"]({lesson.name})" in (ROOT / "lessons" / "README.md").read_text("utf-8")


def test_every_file_that_a_lesson_links_to_exists() -> None:
    pages = {lesson: texts(lesson) for lesson in LESSONS}
    for page in (ROOT / "lessons" / "README.md", ROOT / "docs" / "glossary.md"):
        pages[page] = page.read_text("utf-8")
    for page, text in pages.items():
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_a_derivation_is_typeset_where_a_notebook_shows_it() -> None:
    shown = BYOL_IS_AFFINE_IN_SSL._repr_latex_()
    assert shown == f"$$\n{BYOL_IS_AFFINE_IN_SSL.latex()}\n$$"
