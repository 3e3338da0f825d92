"""The site builds without a warning, and all it loads and leads to is there. (Lessons are run by tests/lessons.)"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_leads_nowhere_in_vain(tmp_path: Path) -> None:
    for needed in (
        "sphinx", "myst_nb", "furo", "sphinxcontrib.bibtex", "sphinx-mathjax-offline", "autodocsumm",
        "sphinx_codeautolink", "sphinx_copybutton", "pypandoc", "typst",
    ):  # fmt: skip
        pytest.importorskip(needed, reason="needs the extra 'docs'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-D", "nb_execution_mode=off"]
    built = subprocess.run(  # noqa: S603  # our own command
        [*command, "-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    check = runpy.run_path(str(ROOT / "docs" / "check_site.py"))
    assert list(check["faults_of_files"](tmp_path / "site")) == []
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text("utf-8") for path in
             (tmp_path / "site").rglob("*.html")}  # fmt: skip
    # One copy of the plotting program, which the pages without a figure do not load.
    assert len(list((tmp_path / "site").rglob("plotly*.js"))) == 1
    assert pages["turnable.html"].count("_static/plotly.min.js") == 1
    assert pages["turnable.html"].count("plotly-graph-div") >= 4
    assert "plotly.min.js" not in pages["index.html"]
    assert "the lessons were not run" in pages["index.html"]
    assert "favicon.svg" in pages["index.html"]
    assert "under the MIT licence" in pages["index.html"]
    lesson = pages["lessons/2_distributions_on_the_sphere.html"]
    assert "distributions.html#ssl_as_inference.distributions.VonMisesFisher" in lesson
    assert lesson.count("_static/plotly.min.js") == 1
    assert not list(ROOT.glob("**/jupyter_execute"))
