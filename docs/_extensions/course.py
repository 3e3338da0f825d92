"""What a lecturer and a student take away: slides and notebooks of the lessons, and a sheet of the derivation.

The slides are the lessons, abridged: each section with its figures, its formulas, the sentences that lead to a formula
and those in which something is emphasised. The sheet is printed from the derivations that the project verifies.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pypandoc
import typst
from jupyter_cache import get_cache

from ssl_as_inference.derivations import multimodal_vi, simsiam, vi_simsiam
from ssl_as_inference.derivations.equations import EQUATIONS
from ssl_as_inference.derivations.notation import to_latex
from ssl_as_inference.derivations.step import Derivation

TEMPLATE = Path(__file__).with_suffix(".typ")
SHEET: tuple[tuple[str, Sequence[int | Derivation]], ...] = (
    ("The loss that is to be explained", [1]),
    ("Variational inference", [2, 3, multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE, 4]),
    ("A posterior of one's own", [multimodal_vi.KL_IS_CROSS_ENTROPY_MINUS_ENTROPY, 5]),
    ("SimSiam: von Mises–Fisher experts of one κ", [6, 7, 8, simsiam.LOSS, 9, simsiam.CROSS_PAIRS]),
    ("VI-SimSiam: Power Spherical experts", [10, 11, vi_simsiam.CORRECTED_LOSS, 12]),
)
"""What stands on the sheet: equations by their numbers, and derivations."""

NOTEBOOKS = {"notebook": False, "notebook_with_solutions": True}
"""Folders of notebooks, and whether they have solutions."""

OFFER = """
## Take away

- <a href="../course/slides.pdf">Slides of the course</a>: the figures, formulas, programs and key sentences, with
  the minutes of each section. Lessons 1 to 5 fill two hours.
- <a href="../course/derivation.pdf">The derivation on one page</a>: Eqs. (1)–(12), printed from what is verified
- Notebooks: with or without the solutions of the exercises. They run where the project is installed.

| Lesson | Download |
|---|---|
"""
"""What the page of the lessons says of all this; a row for each lesson follows."""

INTRODUCTION = """# From the divergence to SimSiam and VI-SimSiam

Eqs. (1)–(12) of arXiv:2203.11437v1 in the form in which they hold. μᵢ and fⱼ are unit vectors, the outputs of predictor
and target for the M views $\\mathbb{X}$ of an image; κ is a concentration and C its normaliser.
"""
"""The head of the sheet."""

_TO_A_LESSON = re.compile(r"]\((\d_\w+)\.py\)")
_MINUTES = re.compile(r"^\| (\d) \| (.*\*\*.*) \| (\d+) \|$", re.MULTILINE)
_DISPLAY = re.compile(r"(\$\$.+?\$\$)", re.DOTALL)
_WHOLE = re.compile(r"\*\*[^*]+\*\*|\*[^*]+\*|\$[^$]+\$|`[^`]+`|(?:Eqs?|Fig|al)\. ")
_END = re.compile(r"(?<=[.!?]) |(?<=[.!?][*\")]) |(?<=[.!?]\*\*) ")
_LINK = re.compile(r"\[([^]]+)]\((?!https?:)[^)]+\)")
_SIZE = re.compile(r"\\(?:[bB]igg?[lr]?(?![a-zA-Z])|;)")
_FORMULAS_BESIDE_A_PICTURE = 2
_WORDS_OF_A_BEGINNING = 40
_LINES_OF_A_PROGRAM = 18


def notebook(lesson: Path, *, solutions: bool) -> Any:
    """A lesson as a Jupyter notebook, with or without the solutions of its exercises."""
    book = jupytext.read(lesson, fmt="py:percent")
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = _TO_A_LESSON.sub(r"](\1.ipynb)", cell.source)
    if not solutions:
        book.cells = _without_solutions(book.cells)
    return book


def _without_solutions(cells: list[Any]) -> list[Any]:
    return [
        cell
        for cell in cells
        if "solution" not in cell.metadata.get("tags", []) and cell.source.strip() != "## Solutions"
    ]


@dataclass
class Slide:
    """One slide in Markdown, with the picture below it."""

    title: str
    text: str = ""
    picture: bytes = field(default=b"", repr=False)

    def has_room_for(self, what: str) -> bool:
        """Whether a text, or where that is empty a picture, may stand on it as well."""
        if what:
            return "```" not in self.text and not (self.picture and "$$" in what)
        formulas = len(_DISPLAY.findall(self.text))
        return "```" not in self.text and not self.picture and formulas <= _FORMULAS_BESIDE_A_PICTURE


def slides(book: Any) -> list[Slide]:
    """The slides of a lesson, of which the first one opens it with the whole of its introduction.

    Args:
        book: The lesson with the outputs that it had when it was run.
    """
    found: list[Slide] = []
    for cell in _without_solutions(book.cells):
        if cell.cell_type == "markdown":
            for part in filter(None, re.split(r"^(?=##? )", cell.source, flags=re.MULTILINE)):
                heading, _, rest = part.partition("\n") if part.startswith("#") else ("", "", part)
                text = abridged(rest, begins=bool(heading)) if found else _LINK.sub(r"\1", rest)
                if heading or (text and not found[-1].has_room_for(text)):
                    found.append(Slide(heading.lstrip("# ") or found[-1].title))
                found[-1].text = "\n\n".join(filter(None, (found[-1].text, text)))
        elif not cell.metadata.get("tags"):
            if _is_a_program(cell.source):
                found.append(Slide(found[-1].title, f"```python\n{cell.source}\n```"))
            for picture in _pictures(cell):
                if not found[-1].has_room_for(""):
                    found.append(Slide(found[-1].title))
                found[-1].picture = picture
    return [one for one in found if one.text.strip() or one.picture]


def _is_a_program(source: str) -> bool:
    """Whether a cell defines something, and not how to draw it."""
    defines = re.search(r"^(def|class) ", source, re.MULTILINE)
    return bool(defines) and "axis" not in source and len(source.splitlines()) <= _LINES_OF_A_PROGRAM


def _pictures(cell: Any) -> Iterator[bytes]:
    for output in cell.get("outputs", []):
        if "image/png" in output.get("data", {}):
            yield base64.b64decode(output["data"]["image/png"])


def abridged(text: str, *, begins: bool = False) -> str:
    r"""The formulas of a text, the sentences that lead to one, those in which something is emphasised, and exercises.

    Args:
        text: In Markdown.
        begins: A section begins: keep its first sentences.

    Example:
        >>> abridged("One. Two is **bold**. Three. Four:\n\n$$x$$\n\nFive.")
        'Two is **bold**. Four:\n\n$$x$$'
    """
    kept: list[str] = []
    apart = _DISPLAY.sub(r"\n\n\1\n\n", _LINK.sub(r"\1", text))
    paragraphs = re.split(r"\n\s*\n", apart.strip())
    for place, paragraph in enumerate(paragraphs):
        leads = any(following.startswith("$$") for following in paragraphs[place + 1 : place + 2])
        words = _WORDS_OF_A_BEGINNING if begins and not kept else 0
        kept.append(_kept(paragraph, leads=leads, words=words))
    return "\n\n".join(filter(None, kept))


def _kept(paragraph: str, *, leads: bool, words: int) -> str:
    if paragraph.startswith(("$$", "**Exercise")):
        return paragraph
    if paragraph.startswith(("|", "```", "![", "**Next")):
        return ""
    if paragraph.startswith("- "):
        return paragraph if "**" in paragraph else ""
    # What is emphasised, a formula or a reference is not taken apart.
    whole = _WHOLE.sub(lambda found: found[0].replace(" ", "\xa0"), " ".join(paragraph.split()))
    sentences = _END.split(whole)
    chosen = []
    for place, sentence in enumerate(sentences):
        begins = len(" ".join(sentences[:place]).split()) < words
        is_last = place + 1 == len(sentences)
        if begins or "**" in sentence or sentence.startswith("*") or (leads and is_last):
            chosen.append(sentence)
    return " ".join(chosen).replace("\xa0", " ")


def write_slides(books: Sequence[Any], minutes: Sequence[tuple[str, str]], path: Path) -> None:
    """Compile the slides of lessons to a PDF file.

    Args:
        books: The lessons with their outputs.
        minutes: Of each lesson those of its sections, as a text, and their sum.
        path: Of the file.
    """
    decks = [slides(book) for book in books]
    rows = [f"| {deck[0].title} | {total} |" for deck, (_, total) in zip(decks, minutes, strict=True)]
    text = [
        _call(
            "opening", "Self-supervised learning as inference", "\n".join(["| Lesson | Minutes |", "|:--|--:|", *rows])
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, (deck, (sections, _)) in enumerate(zip(decks, minutes, strict=True)):
            deck[0].text += f"\n\n*Minutes:* {sections}"
            for place, one in enumerate(deck):
                name = f"{number}_{place}.png"
                if one.picture:
                    (Path(folder) / name).write_bytes(one.picture)
                picture = f', picture: "{name}"' if one.picture else ""
                text.append(_call("slide" if place else "opening", one.title, one.text, picture))
        _compile("slides", "\n\n".join(text), Path(folder), path)


def minutes_of_sections(page: Path) -> list[tuple[str, str]]:
    """The minutes of each lesson's sections, and their sum, from the table in the lessons' README.md."""
    return [(sections, total) for _, sections, total in _MINUTES.findall(page.read_text("utf-8"))]


def write_sheet(path: Path) -> None:
    """Compile the derivation of the losses, Eqs. (1)–(12), to a PDF file of one page."""
    text = [INTRODUCTION]
    for title, items in SHEET:
        text.append(f"## {title}")
        for item in items:
            if isinstance(item, int):
                text.append(_call("numbered", f"({item})", f"$${to_latex(EQUATIONS[item])}$$"))
            else:
                text.append(_call("titled", item.title[0].upper() + item.title[1:], f"$${item.latex()}$$"))
    with tempfile.TemporaryDirectory() as folder:
        _compile("sheet", "\n\n".join(text), Path(folder), path)


def _call(function: str, title: str, body: str, more: str = "") -> str:
    """A call of a function of the template, whose arguments Pandoc translates."""
    raw = "\n\n```{{=typst}}\n{}\n```\n\n"
    return raw.format(f"#{function}([") + title + raw.format("], [") + body + raw.format(f"]{more})")


def _compile(style: str, markdown: str, folder: Path, path: Path) -> None:
    body = pypandoc.convert_text(
        _SIZE.sub(" ", markdown), "typst", format="markdown-auto_identifiers", extra_args=["--wrap=preserve"]
    )
    source = folder / "main.typ"
    source.write_text(f"{TEMPLATE.read_text('utf-8')}\n#show: {style}\n\n{body}", "utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    typst.compile(str(source), output=str(path))


def executed(lesson: Path, cache: str) -> Any:
    """A lesson with the outputs that the site's build has kept.

    Raises:
        KeyError: If it was not run as it stands.
    """
    return get_cache(cache).merge_match_into_notebook(notebook(lesson, solutions=True))[1]


def write(lessons: Sequence[Path], folder: Path, cache: str = "") -> None:
    """Write the slides, the sheet and the notebooks.

    Args:
        lessons: In jupytext's percent format.
        folder: For slides.pdf, derivation.pdf and the folders of `NOTEBOOKS`.
        cache: Where the build has kept the outputs of the lessons; without it the slides have no pictures of them.
    """
    books = [executed(lesson, cache) if cache else notebook(lesson, solutions=True) for lesson in lessons]
    write_slides(books, minutes_of_sections(lessons[0].parent / "README.md"), folder / "slides.pdf")
    write_sheet(folder / "derivation.pdf")
    for name, solutions in NOTEBOOKS.items():
        (folder / name).mkdir(exist_ok=True)
        for lesson in lessons:
            nbformat.write(notebook(lesson, solutions=solutions), folder / name / f"{lesson.stem}.ipynb")


def links(lesson: Path) -> str:
    """Links from the pages of the lessons to the notebooks of one of them."""
    return " · ".join(
        f'<a href="../course/{name}/{lesson.stem}.ipynb" download>{name.replace("_", " ")}</a>' for name in NOTEBOOKS
    )


def offer(lessons: Sequence[Path]) -> str:
    """What the page of the lessons says of all this, in Markdown."""
    rows = [f"| {lesson.stem[0]} | {links(lesson)} |" for lesson in lessons]
    return OFFER + "\n".join(rows) + "\n"


def _finish(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        lessons = sorted((Path(app.srcdir).parent / "lessons").glob("[0-9]*.py"))
        ran = app.config.nb_execution_mode != "off"
        write(lessons, Path(app.outdir) / "course", app.config.nb_execution_cache_path if ran else "")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
