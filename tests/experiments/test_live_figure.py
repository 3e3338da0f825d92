"""A live figure is redrawn where somebody can look, and shown once where nobody can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.figures import live as module
from experiments.figures.live import LiveFigure


@pytest.fixture
def figure() -> Iterator[Figure]:
    plt.switch_backend("agg")
    yield plt.figure()
    plt.close("all")


class Place:
    """Stands for the handle of a notebook's output."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def update(self, figure: Figure) -> None:
        self.shown.append(len(figure.axes[0].lines[0].get_xdata()))  # type: ignore[arg-type]


def test_in_a_notebook_the_curve_grows_below_the_cell_and_the_figure_is_closed(
    figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place()
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    screen = SimpleNamespace(display=lambda _, display_id: place if display_id else None)
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", screen)
    monkeypatch.setattr("experiments.figures.live.time.monotonic", lambda: 0.0)
    live = LiveFigure(figure)
    show = live.curves({"loss": figure.subplots()}, over="step", color="black")
    for steps in (1, 2, 3):
        show({"step": list(range(steps)), "loss": [0.5] * steps, "other": []})
    live.finish()
    assert place.shown == [1, 2, 3, 3]
    assert not plt.get_fignums(), "the notebook would show it a second time"


def test_a_redraw_waits_twice_as_long_as_the_last_one_took(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    now = iter([0.0, 1.0, 2.9, 3.0, 3.5])  # a redraw from 0 to 1, one too early, one from 3 on
    monkeypatch.setattr(module, "_place_in_a_notebook", lambda _: SimpleNamespace(update=drawn.append))
    monkeypatch.setattr("experiments.figures.live.time.monotonic", lambda: next(now))
    live = LiveFigure(figure)
    for _ in range(3):
        live.redraw()
    assert len(drawn) == 2


def test_where_nobody_can_look_the_figure_is_shown_once(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(plt, "pause", lambda _: called.append("pause"))
    monkeypatch.setattr(plt, "show", lambda: called.append("show"))
    live = LiveFigure(figure)
    live.redraw()
    live.finish()
    assert called == ["show"]


def test_in_a_window_the_figure_is_redrawn(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(figure.canvas, "required_interactive_framework", "tk", raising=False)
    monkeypatch.setattr(plt, "pause", called.append)
    LiveFigure(figure).redraw()
    assert len(called) == 1
