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
    for needed in ("sphinx", "myst_nb", "furo", "sphinxcontrib.bibtex", "sphinx-mathjax-offline"):
        pytest.importorskip(needed, reason="needs the extra 'docs'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-D", "nb_execution_mode=off"]
    built = subprocess.run(  # noqa: S603  # our own command
        [*command, "-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    check = runpy.run_path(str(ROOT / "docs" / "check_site.py"))
    assert list(check["faults_of_files"](tmp_path / "site")) == []
