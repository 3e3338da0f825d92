"""What all figures share: fonts, colours that people with colour-blindness can tell apart, and saving."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inference.fitting.checkpointing import replace_file

SETTINGS: Final[Any] = {  # Any: newer Matplotlib types its keys, older does not
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}

P = ParamSpec("P")

# The qualitative palette of Okabe and Ito (2008), without its yellow and black.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LOW, HIGH = PALETTE[1], PALETTE[0]
INK: Final = "#222222"
MUTED: Final = "#666666"


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Give what `draw` makes the style of this project, and leave Matplotlib's settings as they were."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(SETTINGS):
            return draw(*args, **kwargs)

    return in_style


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
