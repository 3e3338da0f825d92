"""What all figures share: their style sheet, colours that people with colour-blindness can tell apart, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inference.fitting.checkpointing import replace_file

SETTINGS: Final = mpl.rc_params_from_file(Path(__file__).with_name("style.mplstyle"), use_default_template=False)

styled: Final = mpl.rc_context(SETTINGS)
"""A decorator: the function draws in this style, and Matplotlib's settings are afterwards what they were."""

# The qualitative palette of Okabe and Ito (2008), without its yellow and black.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LOW, HIGH = PALETTE[1], PALETTE[0]
INK: Final = "#222222"
MUTED: Final = "#666666"


def panel_title(axes: Axes, letter: str, text: str) -> None:
    """Write `(a) text` above the axes."""
    axes.set_title(f"({letter})  {text}")


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Save a figure in one piece, making the folders above it; the ending of `path` chooses the format.

    Args:
        figure: What a function of `experiments.figures` returned.
        path: Where to, for example `runs/figures/loss_surface.png`.

    Returns:
        The path, for a message that says where.
    """
    path = Path(path)
    form = path.suffix.removeprefix(".") or None
    replace_file(path, lambda temporary: figure.savefig(temporary, format=form, dpi=200, facecolor="white"))
    return path
