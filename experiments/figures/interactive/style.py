"""What the interactive figures share: look, sliders, and the page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotly.graph_objects import Figure

from experiments.figures.style import INK


def slider(name: str, labels: Sequence[str], steps: Sequence[Sequence[Any]], *, at: int = 0, y: float = 0.0) -> Any:
    """A slider whose step k is sent to Plotly as `restyle`.

    Args:
        name: What the slider changes, shown before the value.
        labels: One for each step.
        steps: The arguments of each step: `[changes]` or `[changes, indices of the traces]`.
        at: Step at which the figure starts.
        y: Height below the figure, as a fraction of the plot; a second slider stands lower.
    """
    return {
        "active": at,
        "currentvalue": {"prefix": f"{name} = ", "font": {"size": 15}},
        "pad": {"t": 45, "b": 5},
        "y": y,
        "steps": [
            {"method": "restyle", "label": label, "args": list(step)} for label, step in zip(labels, steps, strict=True)
        ],
    }


def dress(figure: Figure, title: str, *, below: int = 130) -> Figure:
    """Give a figure the common look.

    Args:
        figure: Changed in place.
        title: One line.
        below: Room for sliders, in pixels.
    """
    figure.update_layout(
        title={"text": title, "x": 0.02, "y": 0.98, "yanchor": "top", "font": {"size": 17}},
        template="plotly_white",
        font={"family": "STIX Two Text, Georgia, serif", "size": 14, "color": INK},
        margin={"l": 60, "r": 55, "t": 110, "b": below},
        legend={"orientation": "h", "yref": "container", "y": 0.92, "yanchor": "top", "x": 0},
    )
    return figure


def write(figure: Figure, path: Path | str) -> Path:
    """Save a figure as one self-contained HTML page, the plotting program included (4 MB), and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(
        path, include_plotlyjs=True, include_mathjax=False, config={"responsive": True, "displaylogo": False}
    )
    return path
