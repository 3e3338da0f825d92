"""At the top of `experiments` lie commands and nothing else; each is listed, and says what it takes without delay."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import GROUPS, main, purpose

ROOT = Path(__file__).parents[2]
FILES = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", "__main__"}
PARSE_FIRST = (
    "add_uncertainty",
    "benchmark", "draw", "embed", "evaluate", "figure4", "on_a_gpu", "quickstart", "results", "uncertainty",
)  # fmt: skip


def test_every_file_at_the_top_is_a_command_that_is_listed_once() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_command_says_in_a_line_what_it_does_and_runs_by_its_main(name: str) -> None:
    assert purpose(name).endswith((".", ":", "?"))
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text("utf-8"))
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def test_the_list_shows_every_command_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    printed = capsys.readouterr().out
    for group, names in GROUPS.items():
        assert f"\n{group}\n" in printed
        for name in names:
            assert f"  {name} " in printed
            assert purpose(name) in printed


@pytest.mark.parametrize("name", ["", *PARSE_FIRST])
def test_help_imports_no_torch(name: str) -> None:
    module = f"experiments.{name}".rstrip(".") if name else "experiments.__main__"
    program = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "slow = {'torch', 'lightning', 'numpy', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules)\n"
        "assert not slow, f'imported: {slow}'"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
