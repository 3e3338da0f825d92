"""Checks a built site: `python docs/check_site.py site` finds what is broken, needs a network or overflows a phone.

The files alone: every script, style and image is part of the site, and every link leads to a page and a place that
exist. With Chromium, its driver and selenium (of the extra `docs`) each page is also opened at the width of a phone and
of a screen: nothing is asked of a network, all mathematics is typeset, all images are drawn, nothing stands out beyond
the right edge. The exit status is 1 if something is found.
"""
# ruff: noqa: T201 - a command

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

WIDTHS = (390, 1280)
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
_NOT_LOADED = {"canonical", "author", "license", "next", "prev", "index", "search", "genindex"}
_IN_A_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")
_SETTLED = """
const done = arguments[arguments.length - 1];
for (const image of document.images) image.loading = 'eager';
const settled = Promise.all([
  window.MathJax && MathJax.startup ? MathJax.startup.promise : null,
  document.fonts.ready,
  ...[...document.images].map(image => image.complete || new Promise(seen => image.onload = image.onerror = seen)),
]);
settled.then(() => requestAnimationFrame(() => done(true)));
"""
_MEASURED = """
const wide = document.scrollingElement.scrollWidth, seen = document.documentElement.clientWidth, found = [];
if (wide > seen) {
  const out = [...document.body.querySelectorAll('*')].filter(one => one.getBoundingClientRect().right > seen + 1);
  const name = one => one.tagName.toLowerCase() + (typeof one.className === 'string' ? '.' + one.className : '');
  found.push(`is ${wide} px wide where ${seen} are seen: ` + out.slice(0, 4).map(name).join(', '));
}
for (const one of document.querySelectorAll('.math'))
  if (!one.querySelector('mjx-container')) found.push('does not typeset ' + one.textContent.slice(0, 60));
const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (words.nextNode())
  if (/\\\\[a-zA-Z]{2,}|\\$\\S[^$]*\\$/.test(words.currentNode.data)
      && !words.currentNode.parentElement.closest('pre, code, script, style, mjx-container, svg, .math'))
    found.push('shows what may be mathematics: ' + words.currentNode.data.trim().slice(0, 60));
for (const one of document.querySelectorAll('mjx-merror'))
  found.push('has mathematics that cannot be read: ' + one.textContent.slice(0, 60));
for (const one of document.images) if (!one.naturalWidth) found.push('does not draw the image ' + one.src);
for (const one of document.fonts) if (one.status === 'error') found.push('does not find the font ' + one.family);
return found;
"""


@dataclass
class Page(HTMLParser):
    """What a page loads, where it leads, and the places in it that others may lead to."""

    path: Path
    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read the page."""
        super().__init__()
        self.feed(self.path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every tag."""
        found = {name: value for name, value in attrs if value}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        self.loads += _IN_A_STYLE.findall(found.get("style", ""))
        target = found.get(_LOADED.get(tag, ""), "")
        if target and not _NOT_LOADED & set(found.get("rel", "").split()):
            self.loads.append(target)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


def faults_of_files(site: Path) -> Iterator[str]:
    """What a look at the files of a built site finds, a line each.

    Args:
        site: The folder that Sphinx wrote.

    Raises:
        ValueError: If there is no page in it.
    """
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        raise ValueError(f"site must be a folder with HTML pages, got {site}")
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        yield from (f"{name} {fault}" for fault in _faults_of_loads(path, page))
        yield from (f"{name} {fault}" for fault in _faults_of_links(path, page, pages))
    for style in sorted(site.rglob("*.css")):
        for target in _IN_A_STYLE.findall(style.read_text("utf-8")):
            yield f"{style.relative_to(site)} loads {target} from a network"


def _faults_of_loads(path: Path, page: Page) -> Iterator[str]:
    for target in page.loads:
        if urlsplit(target).netloc:
            yield f"loads {target} from a network"
        elif not target.startswith("data:") and not _file(path, target).is_file():
            yield f"loads {target}, which does not exist"


def _faults_of_links(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for target in page.links:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = _file(path, target)
        if not there.is_file():
            yield f"leads to {target}, which does not exist"
        elif there in pages and parts.fragment and unquote(parts.fragment) not in pages[there].places:
            yield f"leads to {target}, a place that does not exist"


def _file(page: Path, target: str) -> Path:
    path = unquote(urlsplit(target).path)
    return (page.parent / path).resolve() if path else page


def faults_in_a_browser(site: Path, widths: tuple[int, ...] = WIDTHS) -> Iterator[str]:
    """What Chromium finds on the pages of a built site, a line each.

    Args:
        site: The folder that Sphinx wrote.
        widths: Of the window, in pixels.
    """
    driver = _browser()
    try:
        for path in sorted(site.resolve().rglob("*.html")):
            for width in widths:
                name = f"{path.relative_to(site.resolve())} at {width} px"
                driver.execute_cdp_cmd(
                    "Emulation.setDeviceMetricsOverride",
                    {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
                )
                driver.get(path.as_uri())
                driver.execute_async_script(_SETTLED)
                yield from (f"{name} {fault}" for fault in driver.execute_script(_MEASURED))
                yield from (f"{name} asks a network for {address}" for address in _asked(driver))
                for entry in driver.get_log("browser"):
                    if entry["level"] == "SEVERE":
                        yield f"{name} reports {entry['message']}"
    finally:
        driver.quit()


def _asked(driver: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    addresses = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [address for address in addresses if urlsplit(address).scheme in {"http", "https", "ws", "wss"}]


def _browser() -> Any:
    from selenium import webdriver  # noqa: PLC0415  # an optional package

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(service=webdriver.ChromeService(shutil.which("chromedriver")), options=options)
    driver.set_script_timeout(60)
    return driver


def main(arguments: list[str] | None = None) -> int:
    """Print what is found, and return 1 if there is something."""
    parser = argparse.ArgumentParser(description="Check a built site.")
    parser.add_argument("site", type=Path, help="folder that Sphinx wrote")
    parser.add_argument("--no-browser", action="store_true", help="look at the files alone")
    options = parser.parse_args(arguments)
    faults = list(faults_of_files(options.site))
    looked = "the files"
    if not options.no_browser:
        if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
            parser.error("needs the programs chromium and chromedriver, or --no-browser")
        faults += faults_in_a_browser(options.site)
        looked += f" and, at {' and '.join(map(str, WIDTHS))} px, the pages"
    print("\n".join([*faults, f"{len(list(options.site.rglob('*.html')))} pages, {looked}: {len(faults)} faults"]))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
