"""The programs in README and docs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "how_to").glob("*.md")),
]
# The first has a test of its own, which makes the files that its programs read; the second's programs start clusters.
ELSEWHERE = {"use_the_encoder_elsewhere.md", "run_on_a_cluster.md"}
PROGRAMS = [
    pytest.param(match.group(1), id=f"{page.name}:{page.read_text('utf-8')[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    if page.name not in ELSEWHERE
    for match in re.finditer(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_on_a_page_runs(program: str) -> None:
    exec(compile(program, "<page>", "exec"), {"__name__": "__main__"})  # noqa: S102  # our own pages


def test_every_file_that_a_page_links_to_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"(?:\]\(|src=\")(?!https?://|#)([^)#\"]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tables_on_a_page_are_those_that_a_command_wrote() -> None:
    marked = re.compile(r"<!-- table of (\S+) -->\n(.*?)\n<!-- end of table -->", re.DOTALL)
    found = [(page, *match) for page in PAGES for match in marked.findall(page.read_text("utf-8"))]
    assert found
    for page, source, table in found:
        assert table in (ROOT / source).read_text("utf-8"), f"{page.name} differs from {source}"


def test_the_readme_is_short_and_its_commands_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 130
    commands = set(re.findall(r"python -m experiments\.(\w+)", text))
    assert commands
    assert all((ROOT / "experiments" / f"{command}.py").is_file() for command in commands)
    assert all((ROOT / path).is_file() for path in re.findall(r"experiments/configs/\S+\.yaml", text))
