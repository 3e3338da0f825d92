"""The directive `turnable-figure`, which draws a figure of `experiments.figures.interactive` into the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from experiments.figures import interactive

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
        """A frame that holds the figure, whose page is drawn when the site is built."""
        name = self.arguments[0]
        environment = self.state.document.settings.env
        depth = environment.docname.count("/")
        interactive.write(getattr(interactive, name)(), Path(environment.app.outdir) / "_turnable" / f"{name}.html")
        source = "../" * depth + f"_turnable/{name}.html"
        frame = f'<iframe class="turnable" src="{source}" title="{name.replace("_", " ")}" loading="lazy"></iframe>'
        return [nodes.raw("", frame, format="html")]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("turnable-figure", TurnableFigure)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
