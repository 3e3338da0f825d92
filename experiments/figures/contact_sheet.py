"""The images that an encoder is least and most certain of, with their κ: what to look at first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.concentration import format_concentration
from experiments.figures.style import HIGH, LOW, MUTED, styled

_TILE = 1.3  # inches
_TEXT = 0.42  # inches below a tile: κ and the name
_HEADING = 0.4
_LONGEST_NAME = 20


@dataclass(frozen=True)
class Tile:
    """An image with values in [0, 1], shape `(1 or 3, height, width)`, its κ and its name."""

    image: Tensor
    concentration: float
    name: str


@styled
def contact_sheet_figure(least: Sequence[Tile], most: Sequence[Tile], title: str, *, columns: int = 8) -> Figure:
    """Draw two groups of images, κ and name under each.

    Args:
        least: Images of lowest κ, the lowest first.
        most: Images of highest κ, the highest first; may be empty.
        title: What the images are of, above all.
        columns: Images in a row.

    Raises:
        ValueError: If there is no image among the least certain, or `columns` is less than 1.
    """
    if not least:
        raise ValueError("least must hold at least one image, got none")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    groups = [(least, r"least certain: lowest $\kappa$ first", LOW)]
    if most:
        groups.append((most, r"most certain: highest $\kappa$ first", HIGH))
    rows = [math.ceil(len(tiles) / columns) for tiles, _, _ in groups]
    heights = [_HEADING + count * (_TILE + _TEXT) for count in rows]
    figure = Figure(figsize=(columns * (_TILE + 0.1) + 0.2, sum(heights) + _HEADING))
    figure.text(0.1 / figure.get_figwidth(), 1 - 0.12 / figure.get_figheight(), _plain(title), va="top", color=MUTED)
    top = figure.get_figheight() - _HEADING
    for (tiles, heading, colour), height in zip(groups, heights, strict=True):
        _draw_group(figure, tiles, heading, colour, top=top, columns=columns)
        top -= height
    return figure


def _draw_group(figure: Figure, tiles: Sequence[Tile], heading: str, colour: str, *, top: float, columns: int) -> None:
    """Place a group below `top`, in inches from the lower edge: a tile is then equally large however many there are."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.text(0.1 / width, (top - 0.08) / height, heading, va="top", color=colour, fontsize=12)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left = 0.15 + column * (_TILE + 0.1)
        bottom = top - _HEADING - row * (_TILE + _TEXT) - _TILE
        slot: Any = figure.add_axes((left / width, bottom / height, _TILE / width, _TILE / height))
        slot.set_axis_off()
        # One channel is grey, three are red, green and blue.
        slot.imshow(tile.image.float().clamp(0, 1).permute(1, 2, 0).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        text = rf"$\kappa$ = {format_concentration(tile.concentration)}"
        slot.text(0.5, -0.03, text, transform=slot.transAxes, ha="center", va="top", fontsize=10)
        name = _plain(_shortened(tile.name))
        slot.text(0.5, -0.17, name, transform=slot.transAxes, ha="center", va="top", fontsize=7, color=MUTED)


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
