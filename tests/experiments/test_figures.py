from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.special import betaln, gammaln, ive

from experiments.figures import (
    concentration_figure,
    data_flow_figure,
    loss_surface_figure,
    save_figure,
    training_curves_figure,
)
from experiments.figures.concentration import format_concentration
from experiments.figures.glossary import GLOSSARY
from experiments.figures.loss_surface import POWER_SPHERICAL, VON_MISES_FISHER
from experiments.figures.normalizer_errors import normalizer_errors_figure

BOTH = (POWER_SPHERICAL, VON_MISES_FISHER)
EPOCHS = range(30)
HISTORIES = {
    "SimSiam": {
        "loss": [(e, -40 * (1 - math.exp(-e / 9))) for e in EPOCHS],
        "kNN accuracy": [(e, 0.97 - 0.4 * math.exp(-e / 8)) for e in EPOCHS],
        "standard deviation": [(e, 0.9 - 0.3 * math.exp(-e / 5)) for e in EPOCHS],
    },
    "VI-SimSiam": {
        "loss": [(e, -400 * (1 - math.exp(-e / 9))) for e in EPOCHS],
        "kNN accuracy": [(e, 0.95 - 0.4 * math.exp(-e / 8)) for e in EPOCHS],
        "standard deviation": [(e, 0.8 - 0.3 * math.exp(-e / 5)) for e in EPOCHS],
        "concentration/q05": [(e, 2 + 0.3 * e) for e in EPOCHS],
        "concentration/q50": [(e, 3 + 5.0 * e) for e in EPOCHS],
        "concentration/q95": [(e, 4 + 20.0 * e) for e in EPOCHS],
    },
}


def log_uniform(images: int) -> torch.Tensor:
    return torch.logspace(-1, 5, images)[torch.randperm(images, generator=torch.Generator().manual_seed(0))]


FIGURES: dict[str, Callable[[], Figure]] = {
    "loss_surface_d3": lambda: loss_surface_figure(3),
    "loss_surface_d2048": lambda: loss_surface_figure(2048),
    "loss_surfaces_d3": lambda: loss_surface_figure(3, BOTH),
    "loss_surfaces_d2048": lambda: loss_surface_figure(2048, BOTH),
    "concentration_grey": lambda: concentration_figure(log_uniform(300), torch.rand(300, 1, 8, 8).__getitem__),
    "concentration_rgb": lambda: concentration_figure(20 + log_uniform(99) / 1e5, torch.rand(99, 3, 8, 8).__getitem__),
    "concentration_few": lambda: concentration_figure(log_uniform(5), torch.rand(5, 1, 8, 8).__getitem__),
    "concentration_wide": lambda: concentration_figure(
        1e5 * torch.rand(50), torch.rand(50, 1, 8, 8).__getitem__, rows=1, columns=9
    ),
    "training_curves": lambda: training_curves_figure(HISTORIES),
    "training_curves_one": lambda: training_curves_figure({"BYOL": {"loss": [(0, 1.0)]}}),
    "data_flow": data_flow_figure,
    "normalizer_errors": lambda: normalizer_errors_figure((3, 128)),
    **{f"glossary_{name}": draw for name, draw in GLOSSARY.items()},
}


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """The texts that are put on the page (so no tick outside the view), with their boxes in pixels."""
    drawn: list[Text] = []
    original: Any = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        drawn.append(self)
        original(self, renderer, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", record)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [(text.get_text(), text.get_window_extent()) for text in drawn if text.get_visible() and text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_texts_stay_on_the_page_and_do_not_overlap(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = FIGURES[name]()
    shown = drawn_texts(figure, monkeypatch)
    width, height = figure.get_size_inches() * figure.dpi
    assert shown
    for text, box in shown:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (one, a), (other, b) in itertools.combinations(shown, 2):
        overlap = Bbox.intersection(a.padded(-1), b.padded(-1))
        assert overlap is None or overlap.width * overlap.height == 0, (one, other)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_leave_matplotlib_settings_alone(name: str) -> None:
    with mpl.rc_context():
        mpl.rcdefaults()  # a leak of an earlier figure would hide that of this one
        before = dict(mpl.rcParams)
        FIGURES[name]()
        assert dict(mpl.rcParams) == before


def test_figures_need_no_display_and_no_pyplot() -> None:
    program = "import sys, experiments.figures as f; f.data_flow_figure(); sys.exit('matplotlib.pyplot' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0  # noqa: S603


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_save_figure_makes_folders_and_returns_the_path(tmp_path: Path, ending: str) -> None:
    figure = training_curves_figure({"BYOL": {"loss": [(0, 1.0), (1, 0.5)]}})
    path = save_figure(figure, tmp_path / "a" / "b" / f"curves.{ending}")
    assert path == tmp_path / "a" / "b" / f"curves.{ending}"
    assert path.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    figure = training_curves_figure({"BYOL": {"loss": [(0, 1.0)]}})

    def fill_the_disk(temporary: Path, **_: Any) -> None:
        temporary.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dim", [2, 3, 128, 2048])
def test_relative_loss_is_the_beta_density_of_the_height(dim: int) -> None:
    # t = (1 + cosine)/2: PS is Beta(b + κ, b) in t and the uniform distribution Beta(b, b): their log ratio by SciPy.
    b = (dim - 1) / 2
    cosine = torch.linspace(-0.99, 1, 50, dtype=torch.float64)
    for kappa in (1e-3, 1.0, 50.0, 1e5):
        t = (1 + cosine.numpy()) / 2
        expected = -(kappa * np.log(t) - betaln(b + kappa, b) + betaln(b, b)) / dim
        actual = POWER_SPHERICAL.relative_loss(dim, cosine, torch.tensor(kappa, dtype=torch.float64))
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_best_concentration_is_at_the_minimum_of_each_column() -> None:
    surface = loss_surface_figure(128).axes[0]
    line = next(line for line in surface.lines if "best" in str(line.get_label()))
    ratio = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    for cosine, best in np.asarray(line.get_xydata())[20:-20:20]:
        loss = POWER_SPHERICAL.relative_loss(128, torch.tensor(cosine, dtype=torch.float64), 128 * ratio)
        assert ratio[loss.argmin()].item() == pytest.approx(best, rel=5e-3)


@pytest.mark.parametrize("dim", [2, 3, 128])
def test_relative_loss_of_von_mises_fisher_is_that_of_scipys_bessel_function(dim: int) -> None:
    cosine = torch.linspace(-1, 1, 9, dtype=torch.float64)
    order = dim / 2 - 1
    for kappa in (0.1, 5.0, 300.0):
        log_bessel = np.log(ive(order, kappa)) + kappa
        # log C(κ) − log C(0), C(0) = Γ(d/2)/(2 π^{d/2})
        log_ratio = order * np.log(kappa) - log_bessel - order * np.log(2) - gammaln(dim / 2)
        expected = -(kappa * cosine.numpy() + log_ratio) / dim
        actual = VON_MISES_FISHER.relative_loss(dim, cosine, torch.tensor(kappa, dtype=torch.float64))
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_best_concentration_of_von_mises_fisher_is_at_the_minimum_of_each_column() -> None:
    surface = next(axes for axes in loss_surface_figure(128, BOTH).axes if "vMF" in axes.get_title(loc="left"))
    line = next(line for line in surface.lines if "best" in str(line.get_label()))
    ratio = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    for cosine, best in np.asarray(line.get_xydata())[20:-20:20]:
        loss = VON_MISES_FISHER.relative_loss(128, torch.tensor(cosine, dtype=torch.float64), 128 * ratio)
        assert ratio[loss.argmin()].item() == pytest.approx(best, rel=5e-3)


def test_sections_flatten_as_the_concentration_falls() -> None:
    sections = loss_surface_figure(128).axes[1]
    curves = [np.asarray(line.get_ydata()) for line in sections.lines if not str(line.get_label()).startswith("_")]
    ranges = [np.ptp(curve) for curve in curves]
    assert len(curves) == 4
    assert ranges == sorted(ranges)
    assert all((np.diff(curve) < 0).all() for curve in curves)


@pytest.mark.parametrize("dim", [1, 0, -3])
def test_loss_surface_needs_two_dimensions(dim: int) -> None:
    with pytest.raises(ValueError, match=f"dim must be an integer >= 2, got {dim}"):
        loss_surface_figure(dim)
    with pytest.raises(ValueError, match=f"dim must be an integer >= 2, got {dim}"):
        loss_surface_figure(dim, BOTH)


def shown_images(figure: Figure) -> list[tuple[float, str]]:
    """Mean pixel and label of each image, in the order of the page."""
    slots = [axes for axes in figure.axes if axes.images]
    return [(float(np.mean(np.asarray(axes.images[0].get_array()))), axes.texts[0].get_text()) for axes in slots]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_shown_are_those_of_lowest_and_highest_concentration(channels: int) -> None:
    kappa = log_uniform(100)
    images = (kappa.argsort().argsort() / 100)[:, None, None, None].expand(-1, channels, 4, 4)  # brightness is the rank
    shown = shown_images(concentration_figure(kappa, images.__getitem__, rows=2, columns=3))
    ranks = [round(100 * brightness) for brightness, _ in shown]
    assert ranks == [0, 1, 2, 3, 4, 5, 99, 98, 97, 96, 95, 94]
    in_order = kappa.sort().values.tolist()
    assert [label for _, label in shown] == [format_concentration(in_order[rank]) for rank in ranks]


def test_a_note_belongs_to_the_image_above_it() -> None:
    kappa = log_uniform(20)
    pixels = (torch.arange(20) / 20.0)[:, None, None, None].expand(-1, 1, 4, 4)  # brightness is the number
    shown = shown_images(concentration_figure(kappa, pixels.__getitem__, rows=1, columns=4, note="no. {}".format))
    assert len(shown) == 8
    for brightness, label in shown:
        number = round(20 * brightness)
        assert label == f"{format_concentration(float(kappa[number]))}\nno. {number}"


@pytest.mark.parametrize(("images", "expected"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 2, 4, 3]), (11, None)])
def test_with_few_images_none_is_shown_twice(images: int, expected: list[int] | None) -> None:
    kappa = torch.arange(images) + 1.0
    pixels = (torch.arange(images) / 20.0)[:, None, None, None].expand(-1, 1, 4, 4)
    shown = [round(20 * brightness) for brightness, _ in shown_images(concentration_figure(kappa, pixels.__getitem__))]
    assert sorted(shown) == list(range(images))
    assert expected is None or shown == expected


@pytest.mark.parametrize(
    ("kappa", "scale"),
    [
        (torch.linspace(100, 200, 40), "linear"),
        (torch.logspace(-2, 4, 40), "log"),
        (torch.cat([torch.zeros(3), torch.logspace(0, 3, 37)]), "log"),
        (torch.full((40,), 7.0), "linear"),
        (torch.zeros(40), "linear"),
    ],
    ids=["narrow", "decades", "zeros_and_decades", "constant", "all_zero"],
)
def test_histogram_counts_every_image_on_a_fitting_axis(kappa: torch.Tensor, scale: str) -> None:
    histogram: Axes = concentration_figure(kappa, torch.rand(40, 1, 4, 4).__getitem__).axes[0]
    bars = [container for container in histogram.containers if hasattr(container, "datavalues")]
    assert np.sum(bars[0].datavalues) == 40
    assert histogram.get_xscale() == scale


def test_panels_hold_one_quantity_each() -> None:
    figure = training_curves_figure(HISTORIES)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "loss, SimSiam",
        "loss, VI-SimSiam",
        "kNN accuracy",
        "standard deviation",
        "concentration (5, 50, 95 %)",
    ]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 2, 2, 1]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear"] * 4 + ["log"]
    np.testing.assert_array_equal(figure.axes[2].lines[1].get_xydata(), HISTORIES["VI-SimSiam"]["kNN accuracy"])
    np.testing.assert_array_equal(figure.axes[4].lines[0].get_xydata(), HISTORIES["VI-SimSiam"]["concentration/q50"])


@pytest.mark.parametrize("epochs", [1, 2, 3, 60])
def test_epochs_are_marked_by_whole_numbers(epochs: int) -> None:
    (axes,) = training_curves_figure({"BYOL": {"loss": [(e, 1.0) for e in range(epochs)]}}).axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) for tick in ticks)


K, PIXELS = torch.ones(4), torch.rand(4, 1, 8, 8).__getitem__

ERRORS: dict[str, tuple[Callable[..., Figure], tuple[Any, ...], dict[str, Any], str]] = {
    "no_images": (concentration_figure, (K[:0], PIXELS), {}, r"concentration must have shape \(images,\).*\(0,\)"),
    "kappa_matrix": (concentration_figure, (K[:, None], PIXELS), {}, r"concentration must .* got \(4, 1\)"),
    "kappa_nan": (concentration_figure, (K * math.nan, PIXELS), {}, "concentration must be finite and at least 0"),
    "kappa_negative": (concentration_figure, (-K, PIXELS), {}, "concentration must be finite and at least 0"),
    "two_channels": (
        concentration_figure,
        (K, torch.rand(4, 2, 8, 8).__getitem__),
        {},
        r"an image must .* got \(2, 8, 8\)",
    ),
    "no_rows": (concentration_figure, (K, PIXELS), {"rows": 0}, "Number of rows must be a positive integer, not 0"),
    "no_methods": (training_curves_figure, ({},), {}, r"histories must hold at least one method.*got lengths \{\}"),
    "no_series": (training_curves_figure, ({"BYOL": {}},), {}, r"histories must hold .* \{'BYOL': \{\}\}"),
    "no_values": (training_curves_figure, ({"BYOL": {"loss": []}},), {}, r"histories must hold .* \{'loss': 0\}"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_are_named(case: str) -> None:
    draw, arguments, options, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        draw(*arguments, **options)
