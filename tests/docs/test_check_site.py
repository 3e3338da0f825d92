"""The check of a built site finds what it is there to find."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "docs" / "check_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check: Any = load()

GOOD = """<html><head><link rel="stylesheet" href="style.css"><link rel="canonical" href="https://example.org/"></head>
<body><h1 id="top">Title</h1><a href="#top">up</a><a href="https://example.org">away</a>
<a href="other.html#place">on</a>
<img src="dot.svg" alt="dot"></body></html>"""
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><circle cx="2" cy="2" r="2"/></svg>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD, "utf-8")
    (tmp_path / "other.html").write_text('<html><body><p id="place">Here.</p></body></html>', "utf-8")
    (tmp_path / "style.css").write_text("body { background: url(dot.svg) }", "utf-8")
    (tmp_path / "dot.svg").write_text(DOT, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "https://cdn.example.org/x.js from a network"),
        ('<img src="//example.org/x.png">', "//example.org/x.png from a network"),
        ('<link rel="stylesheet" href="http://example.org/x.css">', "http://example.org/x.css from a network"),
        ('<p style="background: url(https://example.org/x.png)">', "https://example.org/x.png from a network"),
        ('<img src="none.png">', "loads none.png, which does not exist"),
        ('<a href="none.html">', "leads to none.html, which does not exist"),
        ('<a href="other.html#nowhere">', "leads to other.html#nowhere, a place that does not exist"),
    ],
)
def test_a_fault_of_a_page_is_found_in_its_files(found: str, fault: str, site: Path) -> None:
    assert list(check.faults_of_files(site)) == []
    (site / "page.html").write_text(f"<html><body>{found}</body></html>", "utf-8")
    assert [line for line in check.faults_of_files(site) if line.startswith("page.html") and line.endswith(fault)]


def test_a_style_that_loads_from_a_network_is_found(site: Path) -> None:
    (site / "more.css").write_text("@import 'https://example.org/x.css';", "utf-8")
    assert list(check.faults_of_files(site)) == ["more.css loads https://example.org/x.css from a network"]


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="site must be a folder with HTML pages, got"):
        list(check.faults_of_files(tmp_path))


def test_the_command_fails_where_something_is_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(site), "--no-browser"]) == 0
    (site / "page.html").write_text('<a href="none.html">', "utf-8")
    assert check.main([str(site), "--no-browser"]) == 1
    assert "page.html leads to none.html" in capsys.readouterr().out


@pytest.mark.slow
def test_a_browser_sees_what_overflows_and_what_is_not_drawn(site: Path) -> None:
    pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra 'docs'")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs the programs chromium and chromedriver")
    assert list(check.faults_in_a_browser(site)) == []
    (site / "page.html").write_text(
        '<html><body style="margin:0"><div class="wide" style="width:600px">.</div><span class="math">x^2</span>'
        '<img src="none.png"><script src="http://127.0.0.1:9/x.js"></script></body></html>',
        "utf-8",
    )
    faults = "\n".join(check.faults_in_a_browser(site))
    assert "page.html at 390 px is 600 px wide where 390 are seen: div.wide" in faults
    assert "page.html at 1280 px is" not in faults
    assert "does not typeset x^2" in faults
    assert "does not draw the image" in faults
    assert "asks a network for http://127.0.0.1:9/x.js" in faults
