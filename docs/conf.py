"""How Sphinx builds the site: `pip install -e '.[docs]' && python -m sphinx -W docs site`.

`python docs/check_site.py site` then looks at every page. `LESSONS_FAST=1` in the environment shortens the lessons, and
`-D nb_execution_mode=off` leaves them out, to see warnings soon.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

FAST = os.environ.get("LESSONS_FAST") == "1"
DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_extensions")]

from course import links, offer  # noqa: E402
from turnable_figures import of_a_lesson  # noqa: E402

import ssl_as_inference  # noqa: E402
from experiments.verification.report import errata_page  # noqa: E402


def _what_the_lessons_run() -> str:
    """A name for the code below the lessons: what they gave before holds only as long as that is the same."""
    digest = hashlib.sha256(str(FAST).encode())
    for room in ("ssl_as_inference", "models", "inference", "experiments"):
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


project = "ssl-as-inference"
author = "the authors of ssl-as-inference"
release = version = ssl_as_inference.__version__
copyright = f"2026 {author}, under the MIT licence. Version {version}."  # noqa: A001  # Sphinx reads this name

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "autodocsumm",
    "sphinx_codeautolink",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "sphinx-mathjax-offline",
    "myst_nb",
    "docstring_mathematics",
    "files_of_the_repository",
    "turnable_figures",
    "course",
]
exclude_patterns = ["conf.py", "check_site.py", "_extensions"]

html_theme = "furo"
html_title = "Self-supervised learning as inference"
html_theme_options: dict[str, Any] = {}
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
math_eqref_format = "Eq. ({number})"
bibtex_bibfiles = ["references.bib"]

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "lessons" / _what_the_lessons_run())
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"autosummary": True, "autosummary-nosignatures": True}
autodoc_inherit_docstrings = False
napoleon_use_ivar = True
suppress_warnings = [
    "mystnb.unknown_mime_type",
    "codeautolink.match_block",  # a program without links is still a program
]

# The lessons stand at the top of the repository, where a student finds them; the site shows copies.
LESSONS = DOCS / "lessons"
if (ROOT / "lessons").is_dir():
    shutil.rmtree(LESSONS, ignore_errors=True)
    LESSONS.mkdir()
    for lesson in sorted((ROOT / "lessons").glob("*")):
        if lesson.suffix in {".py", ".md"} and lesson.stem != "__init__":
            text = (
                lesson.read_text(encoding="utf-8").replace("](../docs/", "](../").replace("](README.md", "](index.md")
            )
            if lesson.name == "README.md":
                text = text.replace("\n## ", offer(sorted((ROOT / "lessons").glob("[0-9]*.py"))) + "\n## ", 1)
                text += "\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\n```\n"
            else:
                first = re.split(r"\n+(?=\n# %%)", text.partition("# %% [markdown]")[2], maxsplit=1)[0]
                text = text.replace(first, f"{first}\n#\n# *Download:* {links(lesson)}")
            place = LESSONS / ("index.md" if lesson.name == "README.md" else lesson.name)
            place.write_text(of_a_lesson(text), encoding="utf-8")

# The page of results stands where a reader of the repository finds it; the site shows a copy.
results = re.sub(r"\]\((?!https?://|#)", "](../", (ROOT / "RESULTS.md").read_text(encoding="utf-8"))
(DOCS / "results.md").write_text(results.replace("](../docs/", "]("), encoding="utf-8")

# The errata are programs: each computes its counterexample anew.
(DOCS / "errata.md").write_text(errata_page(), encoding="utf-8")


def _remove_notebooks(app: Any, _error: Exception | None) -> None:
    """The notebooks that the build executed stand beside the site, and are no part of it."""
    shutil.rmtree(Path(app.outdir).parent / "jupyter_execute", ignore_errors=True)


def _say_what_is_shortened(_app: Any, config: Any) -> None:
    """A banner on a site whose lessons do not show what their text describes."""
    shortened = "were not run: no figures" if config.nb_execution_mode == "off" else "ran in short settings" * FAST
    if shortened:
        config.html_theme_options["announcement"] = f"A draft: the lessons {shortened}."


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("config-inited", _say_what_is_shortened)
    app.connect("build-finished", _remove_notebooks)
