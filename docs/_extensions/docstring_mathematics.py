"""Lets docstrings hold mathematics as Markdown does, and code in single backticks."""

from __future__ import annotations

import re
from typing import Any

_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$])\$([^$\n]+(?:\n[^$\n]+)?)\$")
_CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?![`_])")
_MATH_ROLE = re.compile(r":math:`[^`]+`")


def in_restructured_text(lines: list[str]) -> list[str]:
    """Rewrite `$…$`, `$$…$$` and `code` for Sphinx; examples stay as they are.

    Args:
        lines: A docstring.

    Returns:
        Its lines in reStructuredText.
    """
    text = _DISPLAY.sub(_display, "\n".join(lines))
    paragraphs = []
    for line in _INLINE.sub(lambda found: f":math:`{' '.join(found[1].split())}`", text).split("\n"):
        kept = line.lstrip().startswith((">>>", "...")) or line.startswith(" " * 12)
        paragraphs.append(line if kept else _code(line))
    return "\n".join(paragraphs).split("\n")


def _display(found: re.Match[str]) -> str:
    before = found.string[: found.start()]
    indent = re.match(r" *", before[before.rfind("\n") + 1 :])
    margin = indent[0] if indent else ""
    body = f"\n{margin}   ".join(line.strip() for line in found[1].strip().split("\n"))
    return f"\n\n{margin}.. math::\n\n{margin}   {body}\n\n{margin}"


def _code(line: str) -> str:
    kept = [(found.start(), found.end()) for found in _MATH_ROLE.finditer(line)]

    def double(found: re.Match[str]) -> str:
        inside = any(start <= found.start() < end for start, end in kept)
        return found[0] if inside else f"``{found[1]}``"

    # |u| would name a substitution.
    return _CODE.sub(double, re.sub(r"\|(\w+)\|", r"\\|\1\\|", line))


def _process(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)  # napoleon would take what stands before a colon for the type
    lines[:] = in_restructured_text(lines)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon makes sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
