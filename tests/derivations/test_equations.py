"""The equations under the paper's numbers, and that the page shows them as the objects have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sympy import Expr

from ssl_as_inference.derivations.equations import EQUATIONS, NAMED
from ssl_as_inference.derivations.notation import to_latex

INLINE = r"(?<!\$)\$([^$\n]+)\$(?!\$)"
PAGE = Path(__file__).parents[2] / "docs" / "equations.md"


def test_every_equation_of_the_paper_is_there() -> None:
    assert list(EQUATIONS) == list(range(1, 13))


@pytest.mark.parametrize(("name", "equation"), [*EQUATIONS.items(), *NAMED.items()])
def test_the_page_shows_the_object(name: int | str, equation: Expr) -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = re.findall(rf"^\$\$(.*)\$\$ \(eq-{name}\)$", text, re.MULTILINE) or re.findall(INLINE, text)
    assert to_latex(equation) in shown


def test_no_formula_of_the_page_is_typed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    printed = {to_latex(equation) for equation in (*EQUATIONS.values(), *NAMED.values())}
    shown = re.findall(r"^\$\$(.*)\$\$", text, re.MULTILINE) + re.findall(INLINE, text)
    assert set(shown) == printed
    assert text.count("$") == 2 * sum(f"$${formula}$$" in text for formula in shown) + 2 * len(shown)
