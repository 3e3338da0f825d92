"""Count lines of code by room: `python .ci/count_code.py [FOLDER ...]`; docstrings, comments and blank lines are none.

A room is a folder that holds Python files. Without arguments all of the project's own folders are counted, lessons and
tests among them.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("ssl_as_inference", "models", "inference", "experiments", "lessons", "tests")
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER
}  # fmt: skip


def lines_of_code(source: str) -> int:
    r"""Lines of a program that hold code.

    A text that stands alone as a statement is a docstring, wherever it stands; any other text counts, however long.

    Example:
        >>> lines_of_code("'Say what it does.'\n\nx = 1  # one\n# a comment\n")
        1
    """
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def by_room(folder: Path) -> Counter[str]:
    """Lines of code of each folder with Python files, from `folder` down."""
    counted: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        counted[path.parent.relative_to(folder.parent).as_posix()] += lines_of_code(path.read_text(encoding="utf-8"))
    return counted


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit status."""
    folders = [Path(name).resolve() for name in arguments] or [ROOT / name for name in FOLDERS]
    for folder in folders:
        rooms = by_room(folder)
        if not rooms:
            print(f"error: {folder} holds no Python files", file=sys.stderr)
            return 2
        for room, count in sorted(rooms.items()):
            print(f"{count:7,}  {room}")
        print(f"{rooms.total():7,}  in all of {folder.name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
