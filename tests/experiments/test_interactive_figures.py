"""The figures that one can turn: their numbers, and their sliders in a real browser where there is one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.graph_objects import Figure
from scipy.integrate import trapezoid
from scipy.stats import vonmises

from experiments.figures.interactive import (
    density_on_the_sphere,
    loss_over_cosine,
    narrowing_guide,
    product_of_experts,
    write,
)
from experiments.figures.interactive.narrowing_guide import GUIDE_CONCENTRATIONS
from experiments.figures.interactive.product_of_experts import ANGLES, CONCENTRATIONS

FIGURES: list[Callable[..., Figure]] = [density_on_the_sphere, loss_over_cosine, product_of_experts, narrowing_guide]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def changes(figure: Figure, step: int) -> dict[str, Any]:
    sent: dict[str, Any] = figure.layout.sliders[0].steps[step].args[0]
    return sent


def test_the_product_on_the_circle_is_von_mises_around_the_resultant() -> None:
    figure = product_of_experts()
    for step, angle in enumerate(ANGLES):
        half = math.radians(angle) / 2
        eta = sum(k * np.exp(1j * a) for k, a in zip(CONCENTRATIONS, (-half, half), strict=True))
        sent = changes(figure, step)
        expected = vonmises.pdf(np.deg2rad(sent["x"][2]), abs(eta), loc=np.angle(eta))
        np.testing.assert_allclose(sent["y"][2], expected, atol=6e-5)
        assert f"R = {abs(eta):.1f}" in figure.layout.sliders[0].steps[step].label


def test_the_cross_entropy_of_the_narrowing_guide_falls_to_that_of_the_diracs() -> None:
    figure = narrowing_guide()
    losses, limit = np.array(figure.data[2].y), figure.data[4].y[0]
    assert (np.diff(losses) < 0).all()
    # The excess falls as 1/τ (C19).
    tau = np.array(GUIDE_CONCENTRATIONS)
    assert (losses - limit)[-1] * tau[-1] == pytest.approx((losses - limit)[-2] * tau[-2], rel=0.02)
    for step in range(len(tau)):
        sent = changes(figure, step)
        assert trapezoid(sent["y"][0], np.deg2rad(sent["x"][0])) == pytest.approx(1, abs=2e-3)


def test_both_families_cost_the_same_at_the_mode_in_high_dimension_only_and_nothing_at_no_concentration() -> None:
    figure = loss_over_cosine()
    nearly_uniform = np.array(changes(figure, 0)["y"])[:, np.array(figure.data[0].x) > -0.5]
    assert abs(nearly_uniform).max() < 0.1
    concentrated = changes(figure, 8)["y"]
    assert all(curve[-1] < -0.5 for curve in concentrated)


def test_the_density_on_the_sphere_is_largest_at_the_mode_and_uniform_without_concentration() -> None:
    figure = density_on_the_sphere()
    uniform, narrow = (np.array(changes(figure, step)["surfacecolor"]) for step in (0, 8))
    assert (uniform == 1).all()
    assert narrow.max() <= 1
    assert narrow.mean() < 0.1
    # Colour alone is the density: no lamp makes a side of the sphere darker.
    for surface in figure.data:
        assert (surface.lighting.ambient, surface.lighting.diffuse, surface.lighting.specular) == (1, 0, 0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra 'docs'")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs the programs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
        "--disable-component-update",
        "--window-size=1100,750",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(service=webdriver.ChromeService(DRIVER), options=options)
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_moving_a_slider_in_the_browser_changes_the_curve(
    draw: Callable[..., Figure], browser: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415  # an optional package
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

    page = write(draw(), tmp_path / "figure.html")
    browser.get(page.as_uri())
    shown = (
        "const plot = document.querySelector('.plotly-graph-div');"
        "return plot && plot.data ? JSON.stringify(plot.data.map("
        "trace => [trace.visible, trace.surfacecolor || trace.y])) : null"
    )
    wait = WebDriverWait(browser, 30)
    before = wait.until(lambda driver: driver.execute_script(shown))
    rails = wait.until(lambda driver: driver.find_elements("css selector", ".slider-rail-touch-rect"))

    def changed() -> str | None:
        now: str = browser.execute_script(shown)
        return now if now != before else None

    for rail in rails:
        ActionChains(browser).move_to_element_with_offset(rail, int(rail.size["width"] * 0.45), 0).click().perform()
        before = wait.until(lambda _: changed())
    assert_no_errors(browser)


@pytest.mark.slow
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_on_a_phone_each_plot_has_the_width_and_the_page_does_not_scroll(
    draw: Callable[..., Figure], browser: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415  # an optional package

    size = {"width": 358, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(write(draw(), tmp_path / "figure.html").as_uri())
        widths = (
            "return [...document.querySelectorAll('.nsewdrag, .gl-container canvas')]"
            ".map(plot => plot.getBoundingClientRect().width)"
        )
        drawn = "const plot = document.querySelector('.plotly-graph-div'); return plot && plot.layout.margin.l == 45"
        WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(drawn))
        found = WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(widths))
        assert min(found) > 120, "a square of arrows is the smallest; side by side it would have 60"
        seen = "const page = document.scrollingElement; return [page.scrollWidth, page.scrollHeight]"
        assert browser.execute_script(seen) == [358, 700]
        assert_no_errors(browser)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def assert_no_errors(browser: Any) -> None:
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors
