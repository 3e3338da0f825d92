"""Links from a page to a file of the repository: to its page here where it has one, else a copy or the name alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes


def to_the_copies_here(text: str, page: str) -> str:
    """Lead links to the lessons and results, which stand at the top of the repository, to where the site has copies.

    Args:
        text: A page in Markdown.
        page: Its name, from `docs` on.
    """
    below = "../" * page.count("/")
    text = text.replace(f"]({below}../RESULTS.md", f"]({below}results.md")
    text = text.replace(f"]({below}../lessons/README.md", f"]({below}lessons/index.md")
    return text.replace(f"]({below}../lessons/", f"]({below}lessons/")


def _read(_app: Any, page: str, source: list[str]) -> None:
    source[0] = to_the_copies_here(source[0], page)


def _resolve(app: Any, _environment: Any, node: Any, contnode: Any) -> Any:
    target = str(node.get("reftarget", "")).split("#")[0]
    page = Path(app.srcdir) / Path(node.get("refdoc", "")).parent / target
    if target and page.exists():
        return nodes.literal("", "", *contnode.children)
    return None


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
