"""What the interactive figures share: look, sliders, and the page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from plotly.graph_objects import Figure

from experiments.figures.style import INK
from inference.fitting.checkpointing import replace_text

NARROW: Final = 560
"""Below this width, in pixels, a figure has its parts below each other."""

# On a phone; without a mode of dragging a finger scrolls the page.
_ON_A_PHONE: Final = {"margin.l": 45, "margin.r": 15, "title.font.size": 14, "font.size": 12, "dragmode": False}
_HEAD: Final = '<meta name="viewport" content="width=device-width, initial-scale=1"><style>body { margin: 0 }</style>'
CONFIG: Final = {"responsive": True, "displayModeBar": False}
"""Plotly's settings; its bar would cover the title of a narrow figure."""

FIT: Final = f"""
for (const plot of document.querySelectorAll('.plotly-graph-div')) {{
  const isNarrow = () => plot.clientWidth < {NARROW};
  const began = isNarrow();
  if (began && plot.layout.meta) Plotly.relayout(plot, plot.layout.meta.narrow);
  window.addEventListener('resize', () => {{ if (isNarrow() !== began) location.reload(); }});
}}
"""
"""The program that gives every figure of a page the layout for its width."""


STACKED: Final = {
    "xaxis.domain": [0, 1], "yaxis.domain": [0.64, 1], "annotations[0].x": 0.5,
    "xaxis2.domain": [0, 1], "yaxis2.domain": [0, 0.44], "annotations[1].x": 0.5, "annotations[1].y": 0.44,
    "margin.t": 130,
}  # fmt: skip
"""How two plots with titles come to stand below each other, for `narrow` of `dress`."""


def slider(name: str, steps: Mapping[str, Sequence[Any]], *, at: int = 0, y: float = 0.0) -> Any:
    """A slider whose steps are sent to Plotly as `restyle`.

    Args:
        name: What the slider changes, shown before the value.
        steps: Label of each step to its arguments: `[changes]` or `[changes, indices of the traces]`.
        at: Step at which the figure starts.
        y: Height below the figure, as a fraction of the plot; a second slider stands lower.
    """
    current = {"prefix": f"{name} = ", "font": {"size": 15}}
    made = [{"method": "restyle", "label": label, "args": list(step)} for label, step in steps.items()]
    return {"active": at, "currentvalue": current, "pad": {"t": 45, "b": 5}, "y": y, "steps": made}


def dress(figure: Figure, title: str, *, below: int = 130, narrow: Mapping[str, Any] | None = None) -> Figure:
    """Give a figure the common look.

    Args:
        figure: Changed in place.
        title: One line.
        below: Room for sliders, in pixels.
        narrow: What else changes in the layout on a phone, as Plotly's `relayout` takes it.
    """
    figure.update_layout(
        title={"text": title, "x": 0.02, "y": 0.98, "yanchor": "top", "font": {"size": 17}},
        template="plotly_white",
        font={"family": "STIX Two Text, Georgia, serif", "size": 14, "color": INK},
        margin={"l": 60, "r": 55, "t": 110, "b": below},
        legend={"orientation": "h", "yref": "container", "y": 0.92, "yanchor": "top", "x": 0},
        meta={"narrow": {**_ON_A_PHONE, **(narrow or {})}},
    )
    return figure


def write(figure: Figure, path: Path | str) -> Path:
    """Save a figure as one self-contained HTML page, the plotting program included (4 MB), and return its path."""
    text = figure.to_html(config=CONFIG, include_plotlyjs=True, include_mathjax=False, post_script=FIT)
    return replace_text(Path(path), text.replace("<head>", f"<head>{_HEAD}", 1))
