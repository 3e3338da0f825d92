"""The images that an encoder is least and most certain of, with their κ: what to look at first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.concentration import draw_images, format_concentration, write_below
from experiments.figures.style import HIGH, LOW, MUTED, styled

_COLUMNS = 8
_LONGEST_NAME = 20


@dataclass(frozen=True)
class Tile:
    """An image with values in [0, 1], shape `(1 or 3, height, width)`, its κ and its name."""

    image: Tensor
    concentration: float
    name: str


@styled
def contact_sheet_figure(least: Sequence[Tile], most: Sequence[Tile], title: str) -> Figure:
    """Draw two groups of images, κ and name under each.

    Args:
        least: Images of lowest κ, the lowest first.
        most: Images of highest κ, the highest first; may be empty.
        title: What the images are of, above all.

    Raises:
        ValueError: If there is no image among the least certain.
    """
    if not least:
        raise ValueError("least must hold at least one image, got none")
    groups = [(least, r"least certain: lowest $\kappa$ first", LOW)]
    if most:
        groups.append((most, r"most certain: highest $\kappa$ first", HIGH))
    rows = [math.ceil(len(tiles) / _COLUMNS) for tiles, _, _ in groups]
    figure = Figure(figsize=(1.4 * _COLUMNS, 1.8 * sum(rows) + 0.5 * len(groups) + 0.4), layout="constrained")
    figure.suptitle(_plain(title), x=0.02, horizontalalignment="left", color=MUTED, fontsize=11)
    parts = figure.subfigures(len(groups), 1, height_ratios=rows, squeeze=False)[:, 0]
    for part, (tiles, heading, colour), count in zip(parts, groups, rows, strict=True):
        texts = [rf"$\kappa$ = {format_concentration(tile.concentration)}" for tile in tiles]
        places = draw_images(part, heading, colour, [tile.image for tile in tiles], texts, (count, _COLUMNS))
        for axes, tile in zip(places, tiles, strict=False):
            write_below(axes, _plain(_shortened(tile.name)), 18, fontsize=7, color=MUTED)
    return figure


def _shortened(name: str) -> str:
    """The last part of a path, without its middle where it is long."""
    name = name.rsplit("/", 1)[-1]
    if len(name) <= _LONGEST_NAME:
        return name
    kept = _LONGEST_NAME - 1
    return f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"


def _plain(text: str) -> str:
    """Text in which Matplotlib sees no formula, and which has no line breaks."""
    printable = "".join(character if character.isprintable() else "�" for character in text)
    return printable.replace("$", r"\$")
