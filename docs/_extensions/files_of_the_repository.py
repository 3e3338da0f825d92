"""Links from a page to a file of the repository: to its page here where it has one, else the name alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes


def _resolve(app: Any, _environment: Any, node: Any, contnode: Any) -> Any:
    target = str(node.get("reftarget", "")).split("#")[0]
    if target == "../lessons/README.md":  # copied to where the site has it
        return app.builder.env.domains["std"].resolve_xref(
            app.env, node["refdoc"], app.builder, "doc", "lessons/index", node, contnode
        )
    page = Path(app.srcdir) / Path(node.get("refdoc", "")).parent / target
    if target and page.exists():
        return nodes.literal("", "", *contnode.children)
    return None


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
