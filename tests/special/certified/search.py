"""Adaptive search for the points at which a bound is closest to failing; at each of them the error is enclosed.

The bound of a target at a point x is |value − f| ≤ c · max(floor, |f|, |xᵢ ∂f/∂xᵢ|) · ε, ε the distance of 1 to the
next number of the precision. Its floor is 1, the dimension, or for relative accuracy the least normal number. `certify`
returns the ball of the least c for which the bound holds at a point: a number above the ball is proved there. Between
the points nothing is proved: the search looks where the ratio is largest, but it is a search.
"""

from __future__ import annotations

import functools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from flint import arb

from tests.special.certified.arb_references import NotEnclosedError, enclose
from tests.special.certified.families import Cell, Family, Point, Reference, Target

ONE, DIMENSION, RELATIVE = "1", "d", "0"
_MARGIN = 2.0**-20  # radius of a reference, relative to what an error of one ε would be
_AT_ONCE = 2**22  # numbers in the vectors of a batch


@dataclass(frozen=True)
class Finding:
    """The error of one target at one point.

    Args:
        cell: Dimension, precision and side.
        point: Arguments, exactly those the code was given.
        value: What it returned.
        error: Ball around |value − f|.
        scale: Ball around max(floor, |f|, |xᵢ ∂f/∂xᵢ|).
        ratio: Ball around error/(scale · ε).
    """

    cell: Cell
    point: Point
    value: float
    error: Any
    scale: Any
    ratio: Any

    @property
    def at_least(self) -> float:
        return math.nextafter(float(self.ratio.lower()), -math.inf)

    @property
    def at_most(self) -> float:
        """A constant with which the bound is proved at this point."""
        return math.nextafter(float(self.ratio.upper()), math.inf)


@dataclass
class Result:
    """What a search has found.

    Args:
        points: Number of points at which every target was enclosed.
        refused: Number of points at which arb's balls stayed too large, of which nothing is claimed.
        worst: For each target the findings of largest ratio, one a cell, the worst first.
    """

    points: int = 0
    refused: int = 0
    worst: dict[Key, list[Finding]] = field(default_factory=dict)


Key = tuple[Target, str]  # a target and the floor of its bound


def _floor(floor: str, cell: Cell) -> float:
    return {ONE: 1.0, DIMENSION: float(cell.dim), RELATIVE: torch.finfo(cell.dtype).tiny}[floor]


def _scale(balls: tuple[Any, Any], floor: str, cell: Cell) -> Any:
    return abs(balls[0]).max(balls[1]).max(_floor(floor, cell))


def _is_small(floors: Callable[[Target], Iterable[str]], cell: Cell, reference: Reference) -> bool:
    """Whether the balls tell an error of one ε from any other."""
    for target, balls in reference.items():
        for floor in floors(target):
            scale = _scale(balls, floor, cell)
            allowed = _MARGIN * torch.finfo(cell.dtype).eps * scale.lower()
            if not (scale.is_finite() and balls[0].rad() <= allowed and scale.rad() <= _MARGIN * scale.lower()):
                return False
    return True


def certify(
    family: Family, floors: Callable[[Target], Iterable[str]], cell: Cell, points: Iterable[Point]
) -> tuple[list[dict[Key, Finding]], int]:
    """Enclose the errors of all targets at these points.

    Args:
        family: What is computed.
        floors: Of the bounds of a target.
        cell: Where the points are.
        points: Are rounded to the precision of the cell first.

    Returns:
        The findings at each point, and the number of points at which the reference could not be enclosed.
    """
    epsilon = torch.finfo(cell.dtype).eps
    tensor = torch.tensor([*points], dtype=torch.float64).reshape(-1, len(family.arguments)).to(cell.dtype)
    found, refused = [], 0

    for batch in tensor.split(max(1, _AT_ONCE // cell.dim)):
        values = {target: row.tolist() for target, row in family.values(cell, [*batch.unbind(-1)]).items()}
        for index, row in enumerate(batch.tolist()):
            point = tuple(row)
            try:
                reference = enclose(
                    functools.partial(family.reference, cell, point), functools.partial(_is_small, floors, cell)
                )
            except NotEnclosedError:
                refused += 1
                continue
            findings = {}
            for target, balls in reference.items():
                value = values[target][index]
                error = abs(value - balls[0]) if math.isfinite(value) else arb.pos_inf()
                for floor in floors(target):
                    scale = _scale(balls, floor, cell)
                    findings[target, floor] = Finding(cell, point, value, error, scale, error / (scale * epsilon))
            found.append(findings)
    return found, refused


def _keep(result: Result, found: list[dict[Key, Finding]], cells: int) -> None:
    for findings in found:
        for key, finding in findings.items():
            best = result.worst.setdefault(key, [])
            here = [other for other in best if other.cell == finding.cell]
            if here and here[0].ratio.mid() >= finding.ratio.mid():
                continue
            best[:] = [other for other in best if other.cell != finding.cell] + [finding]
            best.sort(key=lambda one: one.at_most, reverse=True)
            del best[cells:]


def _moved(family: Family, finding: Finding, generator: random.Random, largest_dim: int) -> tuple[Cell, Point]:
    """A point nearby: a random step of a random size, from one unit in the last place to a factor e, sometimes in d."""
    size = 10 ** generator.uniform(math.log10(torch.finfo(finding.cell.dtype).eps), 0)
    cell = finding.cell
    if generator.random() < 0.3:
        step = generator.choice((-2, -1, 1, 2)) + round(cell.dim * generator.gauss(0, 0.3) * (generator.random() < 0.5))
        cell = cell._replace(dim=min(max(2, cell.dim + step), largest_dim))
    point = []
    for index, x in enumerate(finding.point):
        moved = x * math.exp(size * generator.gauss(0, 1))
        bounded_by_half = len(finding.point) > 1 and index == len(finding.point) - 1
        point.append(
            min(moved, (1.0 if "tan" in family.arguments[index] else 0.5) if bounded_by_half else family.largest)
        )
    return cell, tuple(point)


def search(
    family: Family,
    floors: Callable[[Target], Iterable[str]],
    dims: Iterable[int],
    dtype: torch.dtype,
    *,
    rounds: int,
    proposals: int = 12,
    cells: int = 4,
    seed: int = 0,
    starts: int | None = None,
) -> Result:
    """Begin at the family's starts and look around the worst points of every target, again and again.

    Args:
        family: What is computed.
        floors: Of the bounds of a target.
        dims: Dimensions to begin with; the search leaves them, but not their range.
        dtype: Precision of the arguments and results.
        rounds: How often to look around.
        proposals: Points around each of the worst, a round.
        cells: How many of the worst to keep for a target, in different cells.
        seed: Of the random steps.
        starts: How many of the family's starts to take in a cell, drawn at random; all if None.
    """
    dims = sorted(dims)
    generator, result = random.Random(seed), Result()  # noqa: S311  # nothing secret
    sides = (True, False) if family.two_sided else (True,)
    todo = {}
    for dim in dims:
        for side in sides:
            cell = Cell(dim, dtype, side)
            points = sorted(set(family.starts(cell)))
            todo[cell] = points if starts is None else generator.sample(points, min(starts, len(points)))
    for turn in range(rounds + 1):
        for cell, points in todo.items():
            found, refused = certify(family, floors, cell, points)
            result.points += len(found)
            result.refused += refused
            _keep(result, found, cells)
        if turn == rounds:
            break
        nearby: dict[Cell, set[Point]] = defaultdict(set)
        for findings in result.worst.values():
            for finding in findings:
                for _ in range(proposals):
                    cell, point = _moved(family, finding, generator, dims[-1])
                    nearby[cell].add(point)
        todo = {cell: sorted(points) for cell, points in nearby.items()}
    return result
