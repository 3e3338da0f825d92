"""The sheet of least and most certain images: what is written where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.figures import Tile, contact_sheet_figure, save_figure


def tiles(count: int, first: float, channels: int = 3) -> list[Tile]:
    return [Tile(torch.rand(channels, 8, 8), first + number, f"folder/{number}.png") for number in range(count)]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts] + [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(("least", "most"), [(1, 0), (2, 1), (8, 8), (24, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_its_concentration_and_its_name(least: int, most: int, channels: int, tmp_path: Path) -> None:
    figure = contact_sheet_figure(tiles(least, 1.0, channels), tiles(most, 100.0, channels), "title")
    assert len(figure.axes) == least + most
    written = texts(figure)
    assert written[:2] == ["title", r"least certain: lowest $\kappa$ first"]
    assert (r"most certain: highest $\kappa$ first" in written) == (most > 0)
    values = [text for text in written if text.startswith(r"$\kappa$ = ")]
    assert values[:1] == [r"$\kappa$ = 1.00"]
    assert values[least : least + 1] == [r"$\kappa$ = 100"][:most]
    assert written.count("0.png") == 1 + (most > 0)
    assert save_figure(figure, tmp_path / "sheet.png").stat().st_size > 1000


def test_tiles_stand_in_rows_inside_the_figure_without_overlap() -> None:
    figure = contact_sheet_figure(tiles(5, 0.0), tiles(3, 9.0), "title", columns=2)
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
    assert [round(box.y0, 3) for box in boxes[:4:2]] == [round(box.y0, 3) for box in boxes[1:4:2]]


def test_long_names_lose_their_middle_and_nothing_is_read_as_a_formula(tmp_path: Path) -> None:
    names = ["a" * 30 + ".jpeg", "$x_{$.png", "line\nbreak.png"]
    figure = contact_sheet_figure([Tile(torch.rand(3, 4, 4), 1.0, name) for name in names], [], "cost: $1_{ and $2_{")
    written = texts(figure)
    assert "aaaaaaaaa…aaaaa.jpeg" in written
    assert r"\$x_{\$.png" in written
    assert "line�break.png" in written
    save_figure(figure, tmp_path / "sheet.png")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], []), {}, "least must hold at least one image, got none"),
        ((tiles(1, 1.0), []), {"columns": 0}, "columns must be at least 1, got 0"),
    ],
    ids=["no_image", "no_column"],
)
def test_bad_arguments_are_named(arguments: Any, options: Any, message: str) -> None:
    least, most = arguments
    with pytest.raises(ValueError, match=message):
        contact_sheet_figure(least, most, "title", **options)
