"""Figures that one can turn, in any page: by the directive `turnable-figure`, or as the output of a lesson's cell.

All of them share one copy of the plotting program, which only the pages that have a figure load.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import plotly
from docutils import nodes
from docutils.parsers.rst import Directive

from experiments.figures import interactive
from experiments.figures.interactive.style import CONFIG, FIT

PROGRAM = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
_CELL_OF_A_LESSON = re.compile(r'^# %% tags=\["turnable-figure", "remove-cell"\]\n(\w+)\(\)\n', re.MULTILINE)


def of_a_lesson(text: str) -> str:
    """Let the directive follow each cell of a lesson that shows a figure to turn: the page has that, and not the cell.

    In a notebook the cell shows the figure, with what Plotly brings there. A site of such outputs would hold Plotly's
    program once a figure.
    """
    return _CELL_OF_A_LESSON.sub(r"\g<0>\n# %% [markdown]\n# ```{turnable-figure} \1\n# ```\n", text)


class TurnableFigure(Directive):
    """`turnable-figure` with the name of a function of `experiments.figures.interactive`."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """The figure, drawn when the site is built."""
        name = self.arguments[0]
        figure = getattr(interactive, name)()
        text = figure.to_html(config=CONFIG, full_html=False, include_plotlyjs=False, div_id=name)
        return [nodes.raw("", text, format="html")]


def _share_the_program(_app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    if "plotly-graph-div" in context.get("body", ""):
        program = f'<script src="{context["pathto"](f"_static/{PROGRAM.name}", resource=True)}"></script>'
        fit = f"<script>addEventListener('load', () => {{{FIT}}});</script>"
        context["body"] = program + context["body"] + fit


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.config.html_static_path.append(str(PROGRAM))
    app.add_directive("turnable-figure", TurnableFigure)
    app.connect("html-page-context", _share_the_program)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
