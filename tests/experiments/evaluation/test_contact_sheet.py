"""The sheet of least and most certain images: what is written where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.text import Text

from experiments.figures import Tile, contact_sheet_figure, save_figure


def tiles(count: int, first: float, channels: int = 3) -> list[Tile]:
    return [Tile(torch.rand(channels, 8, 8), first + number, f"folder/{number}.png") for number in range(count)]


def texts(figure: Any) -> list[str]:
    """What is written, the title of the figure first."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def with_images(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.images]


@pytest.mark.parametrize(("least", "most"), [(1, 0), (2, 1), (8, 8), (24, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_its_concentration_and_its_name(least: int, most: int, channels: int, tmp_path: Path) -> None:
    figure = contact_sheet_figure(tiles(least, 1.0, channels), tiles(most, 100.0, channels), "title")
    assert len(with_images(figure)) == least + most
    written = [text for text in texts(figure) if not re.fullmatch(r"[0-9.]+", text)]  # no ticks, which are not drawn
    assert written[0] == "title"
    assert r"least certain: lowest $\kappa$ first" in written
    assert (r"most certain: highest $\kappa$ first" in written) == (most > 0)
    values = [text for text in written if text.startswith(r"$\kappa$ = ")]
    assert values[:1] == [r"$\kappa$ = 1.00"]
    assert values[least : least + 1] == [r"$\kappa$ = 100"][:most]
    assert written.count("0.png") == 1 + (most > 0)
    assert save_figure(figure, tmp_path / "sheet.png").stat().st_size > 1000


def test_tiles_stand_in_rows_inside_the_figure_without_overlap() -> None:
    figure = contact_sheet_figure(tiles(19, 0.0), tiles(9, 9.0), "title")
    figure.draw_without_rendering()  # this places them
    width, height = figure.bbox.size
    # with κ and name below
    boxes = [axes.get_tightbbox() for axes in with_images(figure)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
    rows = [boxes[0:8], boxes[8:16], boxes[16:19], boxes[19:27], boxes[27:28]]
    assert all(len({round(box.y1) for box in row}) == 1 for row in rows)
    heights = [row[0].y1 for row in rows]
    assert heights == sorted(heights, reverse=True)


def test_long_names_lose_their_middle_and_nothing_is_read_as_a_formula(tmp_path: Path) -> None:
    names = ["a" * 30 + ".jpeg", "$x_{$.png", "line\nbreak.png"]
    figure = contact_sheet_figure([Tile(torch.rand(3, 4, 4), 1.0, name) for name in names], [], "cost: $1_{ and $2_{")
    written = texts(figure)
    assert "aaaaaaaaa…aaaaa.jpeg" in written
    assert r"\$x_{\$.png" in written
    assert "line�break.png" in written
    save_figure(figure, tmp_path / "sheet.png")


def test_a_sheet_of_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="least must hold at least one image, got none"):
        contact_sheet_figure([], [], "title")
