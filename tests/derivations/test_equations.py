"""The equations under the paper's numbers, and that the page shows them as the objects have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl_as_inference.derivations.equations import EQUATIONS
from ssl_as_inference.derivations.notation import to_latex

PAGE = Path(__file__).parents[2] / "docs" / "equations.md"


def test_every_equation_of_the_paper_is_there() -> None:
    assert list(EQUATIONS) == list(range(1, 13))


@pytest.mark.parametrize("number", EQUATIONS)
def test_the_page_shows_the_object(number: int) -> None:
    shown = re.findall(rf"^\$\$(.*)\$\$ \(eq-{number}\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == [to_latex(EQUATIONS[number])]
