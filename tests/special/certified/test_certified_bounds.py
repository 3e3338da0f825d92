"""The bounds hold at the points where the search begins and at the published worst ones; and the check can fail."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.special.certified.__main__ import SCALES
from tests.special.certified.bounds import DOUBLE, constant, floors
from tests.special.certified.families import FAMILIES, Cell, Family, Target
from tests.special.certified.search import ONE, RELATIVE, Finding, Key, certify, search

PAGE = Path(__file__).parents[3] / "docs/results/certified_bounds.md"
QUICK_DIMS = {1: (2, 3, 19, 20, 33, 61, 62, 2048, 100_000), 2: (2, 3, 61, 128, 2048), 3: (2, 3, 61, 2048)}
QUICK_STARTS = {1: None, 2: 16, 3: 16}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
KAPPA = 7293.5282249127185  # near the zero of log C at d = 2048


def _check(family: Family, key: Key, finding: Finding, slack: float = 1.0) -> None:
    allowed = slack * constant(family.name, key, finding.cell.dtype)
    assert finding.at_most <= allowed, (key, finding.cell, finding.point, finding.at_most, allowed)


@DTYPES
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_are_proved_where_the_search_begins(name: str, dtype: torch.dtype) -> None:
    family = FAMILIES[name]
    arguments = len(family.arguments)
    found = search(
        family,
        functools.partial(floors, name),
        QUICK_DIMS[arguments],
        dtype,
        rounds=0,
        starts=QUICK_STARTS[arguments],
    )
    assert found.points > 10 * found.refused
    assert {target for target, _ in found.worst} == set(DOUBLE[name])
    for key, findings in found.worst.items():
        _check(family, key, findings[0])


@DTYPES
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_bounds_are_proved_where_a_search_finds_them_closest(name: str, dtype: torch.dtype) -> None:
    family, several = FAMILIES[name], len(FAMILIES[name].arguments) > 1
    found = search(
        family,
        functools.partial(floors, name),
        (2, 3, 20, 61, 62, 128, 2048),
        dtype,
        rounds=2,
        starts=40 if several else None,
        seed=1,  # the page's search has another one
    )
    for key, findings in found.worst.items():
        # Another search, or another processor's rounding, may find a little more than the page's: a reason to raise c.
        _check(family, key, findings[0], slack=1.5)


class Row(NamedTuple):
    family: str
    key: Key
    constant: float
    largest: float
    cell: Cell
    point: tuple[float, ...]


def _published() -> list[Row]:
    """The rows of the page's table for float64."""
    scales = {text: floor for floor, text in SCALES.items()}
    rows = []
    for line in PAGE.read_text(encoding="utf-8").split("## float32")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 8 or cells[2] not in scales:
            continue
        name, quantity, scale, allowed, largest, _, dim, place = cells
        target = next(target for target in DOUBLE[name] if ", ".join(filter(None, target)) == quantity)
        point = tuple(float(x) for x in re.findall(r"= ([-+.e\d]+)", place))
        cell = Cell(int(dim), torch.float64, same_side="opposite" not in place)
        rows.append(Row(name, (target, scales[scale]), float(allowed), float(largest.split("±")[0]), cell, point))
    return rows


def test_page_is_that_of_these_bounds_and_none_of_them_is_slack() -> None:
    rows = _published()
    expected = {
        (name, (target, floor)) for name, bounds in DOUBLE.items() for target in bounds for floor in bounds[target]
    }
    assert {(row.family, row.key) for row in rows} == expected
    assert len(rows) == len(expected)
    for row in rows:
        assert row.constant == constant(row.family, row.key, torch.float64), row
        assert row.largest <= row.constant <= 4 * row.largest, row  # a quarter of the constant would be violated


def test_bounds_are_proved_at_the_published_worst_points() -> None:
    for row in _published():
        family = FAMILIES[row.family]
        ((findings,), refused) = certify(family, functools.partial(floors, row.family), row.cell, [row.point])
        assert refused == 0
        for key, finding in findings.items():
            _check(family, key, finding)


def test_next_to_a_zero_of_the_normaliser_the_rounding_of_kappa_counts() -> None:
    """Relative to max(1, |log C|) alone the error there is thousands of ε: log C is 0.8, and κA is 6,341."""
    target = Target("log C")
    ((findings,), _) = certify(FAMILIES["vMF"], lambda _: (ONE,), Cell(2048), [(KAPPA,)])
    finding = findings[target, ONE]
    assert abs(finding.value) < 1
    assert finding.scale > 6000
    assert finding.error > 1e-14
    _check(FAMILIES["vMF"], (target, ONE), finding)


def _spoilt(name: str, spoil: dict[Target, float]) -> Family:
    """The family with values multiplied."""
    whole = FAMILIES[name]

    def values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
        return {target: value * spoil.get(target, 1.0) for target, value in whole.values(cell, arguments).items()}

    return Family(whole.name, whole.arguments, values, whole.reference, whole.starts)


@pytest.mark.parametrize("factor", [1 + 2.0**-46, math.nan, math.inf])
@pytest.mark.parametrize(("name", "quantity"), [("vMF", "A"), ("PS", "KL to uniform")])
def test_an_error_of_64_roundings_or_a_value_that_is_no_number_is_reported(
    name: str, quantity: str, factor: float
) -> None:
    target = Target(quantity)
    family = _spoilt(name, {target: factor})
    ((findings,), _) = certify(family, lambda _: (RELATIVE,), Cell(3), [(2.5,)])
    assert findings[target, RELATIVE].at_least > constant(name, (target, RELATIVE), torch.float64)
    sound = [key for key in findings if key[0] != target and RELATIVE in floors(name, key[0])]
    assert sound
    for key in sound:
        _check(family, key, findings[key])


def test_the_search_finds_an_error_that_no_start_shows() -> None:
    """An error that grows towards κ = 51.7, of 3 ε at the nearest start and of 300 ε there."""
    whole, target = FAMILIES["PS"], Target("E t")

    def values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
        exact = whole.values(cell, arguments)
        bump = 300 * 2.0**-52 * torch.exp(-((arguments[0] / 51.7).log() / 0.05).square())
        return exact | {target: exact[target] * (1 + bump)}

    spoilt = Family(whole.name, whole.arguments, values, whole.reference, whole.starts)
    allowed = constant("PS", (target, RELATIVE), torch.float64)
    at_starts, later = (
        search(spoilt, lambda _: (RELATIVE,), [3], torch.float64, rounds=rounds).worst[target, RELATIVE][0].at_least
        for rounds in (0, 3)
    )
    assert later > 10 * max(allowed, at_starts)


@DTYPES
def test_a_point_is_certified_as_the_code_is_given_it(dtype: torch.dtype) -> None:
    """0.1 is another number in either precision, and so is the exact value."""
    ((findings,), _) = certify(FAMILIES["vMF"], functools.partial(floors, "vMF"), Cell(5, dtype), [(0.1,)])
    for key, finding in findings.items():
        assert finding.point == (torch.tensor(0.1, dtype=dtype).item(),)
        _check(FAMILIES["vMF"], key, finding)
