"""The drawings of the method."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import graphviz
import pytest
import torch

from experiments import draw, figures
from experiments.figures import graphical_model
from experiments.figures.glossary import GLOSSARY
from experiments.figures.loss_surface import POWER_SPHERICAL, VON_MISES_FISHER, Family


def test_without_graphviz_the_other_figures_are_drawn_and_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(path: Path) -> Path:  # noqa: ARG001
        raise graphviz.ExecutableNotFound(["dot"])

    monkeypatch.setattr(graphical_model, "graphical_model", missing)
    assert draw.main(["--out", str(tmp_path), "--dim", "8"]) == 1
    drawn = {"data_flow.png", "loss_surface.png", "normalizer_errors.png", "glossary"}
    assert {path.name for path in tmp_path.iterdir()} == drawn
    assert {path.stem for path in (tmp_path / "glossary").iterdir()} == set(GLOSSARY)
    assert "`dot` is not installed" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_the_graphical_model_is_drawn_from_the_program(tmp_path: Path) -> None:
    path = graphical_model.graphical_model(tmp_path / "graphical_model.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_interactive_figures_are_pages_that_need_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        draw.main(["--out", str(tmp_path), "--interactive", "--dim", "8"])
    assert "--dim says nothing beside --interactive" in capsys.readouterr().err
    assert draw.main(["--out", str(tmp_path), "--interactive"]) == 0
    pages = [Path(line) for line in capsys.readouterr().out.split()]
    assert len(pages) == 4
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert '<script src="' not in text
        assert "<script src='" not in text
        assert "Plotly.newPlot" in text


@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [(KeyboardInterrupt(), 130, "draw: stopped\n"), (OSError(28, "No space left"), 2, "No space left\n")],
)
def test_what_stops_the_drawing_is_told_in_a_line(
    stop: BaseException, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stopped(*_: object) -> None:
        raise stop

    monkeypatch.setattr(figures, "save_figure", stopped)
    assert draw.main(["--out", str(tmp_path)]) == status
    assert capsys.readouterr().err.endswith(said)


def test_a_dimension_that_no_number_holds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        draw.main(["--out", str(tmp_path), "--dim", str(10**30)])
    assert "argument --dim: expected a whole number from 2 to 1000000, got" in capsys.readouterr().err


@pytest.mark.parametrize("family", [POWER_SPHERICAL, VON_MISES_FISHER], ids=lambda family: family.symbol)
def test_the_loss_surface_is_finite_in_the_largest_dimension(family: Family) -> None:
    cosine = torch.linspace(-0.9999, 0.9999, 20, dtype=torch.float64)
    kappa = 1e6 * torch.logspace(-2, 2, 20, dtype=torch.float64)[:, None]
    assert family.relative_loss(10**6, cosine, kappa).isfinite().all()
    assert family.best_cosine(10**6, kappa).isfinite().all()


def test_the_glossary_shows_every_picture_that_the_command_draws_for_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert re.findall(r"\(figures/glossary/(\w+)\.png\)", page) == list(GLOSSARY)
