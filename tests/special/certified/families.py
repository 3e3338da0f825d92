"""What is certified: for each family of functions what the code gives, what is exact, and where to begin looking.

A family has arguments x (concentrations, and a direction where two distributions meet) and *cells*: the dimension, and
whether the two directions are on the same side (the smaller of gap and height is then the gap). At every point it has
several *targets*: a quantity or one of its derivatives. The reference of a target is a pair of balls, the exact value f
and its *sensitivity* max_i |x_i ∂f/∂x_i|, by how much it moves when the arguments are rounded.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from flint import arb
from torch import Tensor
from torch.distributions import kl_divergence

from ssl_as_inference import special
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from tests.special.certified import arb_references as exact

Point = tuple[float, ...]


class Cell(NamedTuple):
    dim: int
    dtype: torch.dtype = torch.float64
    same_side: bool = True


class Target(NamedTuple):
    quantity: str
    derivative: str = ""


Reference = dict[Target, tuple[Any, Any]]


@dataclass(frozen=True)
class Family:
    """See the module.

    Args:
        name: Of the family.
        arguments: Symbols of the arguments.
        values: What the code gives at many points of a cell.
        reference: Balls at one point.
        starts: Points of a cell at which the search begins: a grid, and every point at which the code changes its
            method or a quantity its sign.
        two_sided: Whether the cells are those of both sides.
    """

    name: str
    arguments: tuple[str, ...]
    values: Callable[[Cell, list[Tensor]], dict[Target, Tensor]]
    reference: Callable[[Cell, Point], Reference]
    starts: Callable[[Cell], list[Point]]
    two_sided: bool = False
    largest: float = 1e38


PRIMES = ("", "′", "″")

_VON_MISES_FISHER: dict[str, Callable[[int, Tensor], Tensor]] = {
    "log C": special.von_mises_fisher_log_normalizer,
    "log C + κ": special.von_mises_fisher_log_normalizer_plus_concentration,
    "A": special.von_mises_fisher_mean_resultant_length,
    "1 − A": special.von_mises_fisher_mean_resultant_complement,
    "A/κ": special.von_mises_fisher_tangent_variance,
    "A′": special.von_mises_fisher_resultant_slope,
    "entropy": special.von_mises_fisher_entropy,
    "KL to uniform": special.von_mises_fisher_kl_to_uniform,
}
_POWER_SPHERICAL: dict[str, Callable[[int, Tensor], Tensor]] = {
    "log C": special.power_spherical_log_normalizer,
    "log C + κ log 2": special.power_spherical_log_normalizer_plus_peak,
    "E log(1 + t)": special.power_spherical_mean_log_height,
    "E t": special.power_spherical_mean_resultant_length,
    "entropy": special.power_spherical_entropy,
    "KL to uniform": special.power_spherical_kl_to_uniform,
}


def _one_argument(functions: dict[str, Callable[[int, Tensor], Tensor]]) -> Any:
    def values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
        kappa = arguments[0].clone().requires_grad_()
        found = {}
        for name, function in functions.items():
            value = function(cell.dim, kappa)
            found[Target(name)] = value.detach()
            for prime in PRIMES[1:]:
                (value,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
                found[Target(name, prime)] = value.detach()
        return found

    return values


def _one_reference(jets: Callable[[int, float], dict[str, exact.Jet]]) -> Any:
    def reference(cell: Cell, point: Point) -> Reference:
        kappa = arb(point[0])
        return {
            Target(name, prime): (jet[order], abs(kappa * jet[order + 1]))
            for name, jet in jets(cell.dim, point[0]).items()
            for order, prime in enumerate(PRIMES)
        }

    return reference


def _crossing(function: Callable[[float], float], low: float, high: float) -> list[float]:
    """Where a monotone function changes its sign: two neighbouring numbers, or none."""
    sign = function(low) > 0
    if (function(high) > 0) == sign:
        return []
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if (function(middle) > 0) == sign else (low, middle)
    return [low, high]


_GRID = (0.0, *(10.0**n for n in (-45, -20, -8)), *(10.0 ** (n / 4) for n in range(-16, 33)), 1e12, 1e20, 1e38)


def neighbourhood(x: float) -> list[float]:
    """The number, those next to it and a few of those around it."""
    return [x, math.nextafter(x, 0), math.nextafter(x, math.inf), *(x * (1 + s) for s in (-1e-12, 1e-9, -1e-5, 1e-3))]


def _scalar(function: Callable[[int, Tensor], Tensor], dim: int) -> Callable[[float], float]:
    return lambda x: function(dim, torch.tensor(x, dtype=torch.float64)).item()


@functools.cache
def _switches_of_the_von_mises_fisher(dim: int) -> tuple[float, ...]:
    resultant = _scalar(special.von_mises_fisher_mean_resultant_length, dim)
    return (
        30.0,
        *_crossing(_scalar(special.von_mises_fisher_log_normalizer, dim), 1e-9, 1e8)[:1],
        *_crossing(_scalar(special.von_mises_fisher_entropy, dim), 1e-9, 1e8)[:1],
        *_crossing(lambda x: resultant(x) - 0.5, 1e-9, 1e8)[:1],
    )


@functools.cache
def _switches_of_the_power_spherical(dim: int) -> tuple[float, ...]:
    b = (dim - 1) / 2
    steps = max(0, math.ceil(16 - b))
    shifted = {b, 2 * b, b + steps, 2 * b + steps, b + steps / 2}
    return (
        *_crossing(_scalar(special.power_spherical_log_normalizer, dim), 1e-9, 1e8)[:1],
        *_crossing(_scalar(special.power_spherical_entropy, dim), 1e-9, 1e8)[:1],
        *_crossing(_scalar(special.power_spherical_mean_log_height, dim), 1e-9, 1e8)[:1],
        *(x for p in sorted(shifted) for x in (p, 2 * p)),
    )


def _one_argument_starts(switches: Callable[[int], tuple[float, ...]]) -> Callable[[Cell], list[Point]]:
    def starts(cell: Cell) -> list[Point]:
        around = [x for switch in switches(cell.dim) for x in neighbourhood(switch)]
        return [(x,) for x in (*_GRID, *around)]

    return starts


# Two distributions. The directions are the first axis and y = ±(cos θ, sin θ, 0, …), rounded; gap and height are those
# of the rounded vectors, from the chord to the nearer of y and −y, exactly.


def _second_direction(cell: Cell, tangent: Tensor) -> Tensor:
    """(1−t², 2t)/(1+t²) in the plane of the first two axes, t = tan θ/2."""
    direction = tangent.new_zeros(len(tangent), cell.dim)
    direction[:, 0] = (1 - tangent) * (1 + tangent) / (1 + tangent.square())
    direction[:, 1] = 2 * tangent / (1 + tangent.square())
    return direction if cell.same_side else -direction


def _exact_direction(cell: Cell, tangent: float) -> tuple[Any, Any]:
    direction = _second_direction(cell._replace(dim=2), torch.tensor([tangent], dtype=cell.dtype))
    first, second = direction[0].tolist()
    return arb(first), arb(second)


LAWS = {"vMF": VonMisesFisher, "PS": PowerSpherical}
_JETS = {"vMF": exact.von_mises_fisher, "PS": exact.power_spherical}
_STATISTIC = {"vMF": "A", "PS": "E t"}


def _pair_values(guide: str, expert: str) -> Any:
    def values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
        direction = _second_direction(cell, arguments[2])
        axis = torch.zeros_like(direction)
        axis[:, 0] = 1
        first, second = (x.clone().requires_grad_() for x in arguments[:2])
        q, p = LAWS[guide](axis, first, validate_args=False), LAWS[expert](direction, second, validate_args=False)
        value, entropy = kl_divergence(q, p), cross_entropy(q, p)
        kl, ce = f"KL({guide}‖{expert})", f"CE({guide}, {expert})"
        found = {Target(kl): value.detach(), Target(ce): entropy.detach()}
        for name, variable in (("₁", first), ("₂", second)):
            (slope,) = torch.autograd.grad(value.sum(), variable, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.sum(), variable, retain_graph=True)
            if name == "₂" or expert == "vMF":
                found[Target(kl, f"∂{name}")], found[Target(kl, f"∂{name}²")] = slope.detach(), curvature.detach()
        return found

    return values


def _largest(*balls: Any) -> Any:
    return functools.reduce(lambda one, other: one.max(other), (abs(ball) for ball in balls))


def _to_von_mises_fisher(guide: str) -> Callable[[Cell, Point], Reference]:
    """KL = −H(κ₁) − log C(κ₂) − κ₂ c R(κ₁), c = 1 − 2e, and its derivatives by hand."""

    def reference(cell: Cell, point: Point) -> Reference:
        y = _exact_direction(cell, point[2])
        e = ((1 - y[0]) ** 2 + y[1] ** 2) / 4
        q, p = _JETS[guide](cell.dim, point[0]), exact.von_mises_fisher(cell.dim, point[1])
        k1, k2, c = arb(point[0]), arb(point[1]), 1 - 2 * e
        h, log_c, r = q["entropy"], p["log C"], q[_STATISTIC[guide]]
        in_first = [-h[n] - k2 * c * r[n] for n in range(4)]  # derivatives in κ₁, but for the term of κ₂ alone
        in_second = [-log_c[1] - c * r[0], -log_c[2], -log_c[3]]
        value, turn = in_first[0] - log_c[0], 2 * k2 * e
        kl = f"KL({guide}‖vMF)"
        references = {
            Target(kl): (value, _largest(k1 * in_first[1], k2 * in_second[0], turn * r[0])),
            Target(kl, "∂₂"): (in_second[0], _largest(k2 * in_second[1], k1 * c * r[1], 2 * e * r[0])),
            Target(kl, "∂₂²"): (in_second[1], abs(k2 * in_second[2])),
            Target(f"CE({guide}, vMF)"): (
                value + h[0],
                _largest(k1 * k2 * c * r[1], k2 * in_second[0], turn * r[0], p["log C + κ"][0]),
            ),
        }
        for n, label in ((1, "∂₁"), (2, "∂₁²")):
            sensitivity = _largest(k1 * in_first[n + 1], k2 * c * r[n], turn * r[n])
            references[Target(kl, label)] = (in_first[n], sensitivity)
        return references

    return reference


def _to_power_spherical(guide: str) -> Callable[[Cell, Point], Reference]:
    """KL = −H(κ₁) − log C(κ₂) − κ₂ E log(1 + μᵀz); here the sensitivity is that in κ₂ alone."""

    def reference(cell: Cell, point: Point) -> Reference:
        y = _exact_direction(cell, point[2])
        near = ((1 - abs(y[0])) ** 2 + y[1] ** 2) / 4
        e, h = (near, 1 - near) if cell.same_side else (1 - near, near)
        q, p = _JETS[guide](cell.dim, point[0]), exact.power_spherical(cell.dim, point[1])
        k2, log_c = arb(point[1]), p["log C"]
        height = arb(2).log() + exact.mean_log_height(guide, cell.dim, point[0], e, h)
        crossed = -log_c[0] - k2 * height
        slope = -log_c[1] - height
        kl = f"KL({guide}‖PS)"
        return {
            Target(kl): (crossed - q["entropy"][0], abs(k2 * slope)),
            Target(kl, "∂₂"): (slope, abs(k2 * log_c[2])),
            Target(kl, "∂₂²"): (-log_c[2], abs(k2 * log_c[3])),
            Target(f"CE({guide}, PS)"): (crossed, _largest(k2 * slope, p["log C + κ log 2"][0])),
        }

    return reference


_ANGLES = (0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.3, 0.9)  # tan θ/2
_LEAST_TURN = 1e-25
_RATIOS = (0.0, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-8, 1.0, 1 + 1e-12, 1.01, 1.4, 2.0, 30.0, 1e5)


def _pair_starts(largest: float) -> Callable[[Cell], list[Point]]:
    """Beside a grid: where the divergence of concentrations goes from quadrature to a difference, and τ + κ = d."""

    def starts(cell: Cell) -> list[Point]:
        kappas = [
            x for x in (0.0, 1e-8, 1e-3, 0.3, 5.0, 29.0, 31.0, cell.dim / 3, 400.0, 2e4, 1e9, 1e20) if x <= largest
        ]
        points: list[Point] = []
        for kappa in kappas:
            switch = math.hypot(kappa, cell.dim / 2 + 1) / 2
            seconds = [*(kappa * ratio for ratio in _RATIOS), kappa + switch, max(0.0, cell.dim - kappa)]
            # Where the divergence is smaller still, arb takes minutes and then refuses.
            angles = [angle for angle in _ANGLES if not 0 < kappa * angle**2 < _LEAST_TURN]
            points += [(kappa, second, angle) for second in seconds if second <= largest for angle in angles]
        return points

    return starts


# E log{(1 + μᵀz)/2} and the product of two Power Spherical densities; the last argument is min(gap, height).


def _sides(cell: Cell, small: Any) -> tuple[Any, Any]:
    return (small, 1 - small) if cell.same_side else (1 - small, small)


def _height_values(law: str) -> Any:
    def values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
        tau, small = arguments
        gap, height = _sides(cell, small)
        if law == "vMF":
            return {Target("E log h"): special.von_mises_fisher_cross_log_height(cell.dim, tau, gap, height)}
        return {
            Target("E log h"): special.power_spherical_cross_log_height(cell.dim, tau, gap, height),
            Target("E log h at c = 1, less E log h"): special.power_spherical_log_height_deficit(
                cell.dim, tau, gap, height
            ),
        }

    return values


def _height_reference(law: str) -> Any:
    def reference(cell: Cell, point: Point) -> Reference:
        gap, height = _sides(cell, arb(point[1]))
        value = exact.mean_log_height(law, cell.dim, point[0], gap, height)
        found = {Target("E log h"): (value, arb(0))}
        if law == "PS":
            equal = exact.mean_log_height("PS", cell.dim, point[0], arb(0), arb(1))
            found[Target("E log h at c = 1, less E log h")] = (equal - value, arb(0))
        return found

    return reference


def _height_starts(cell: Cell) -> list[Point]:
    kappas = (0.0, 1e-6, 0.02, 0.7, 3.0, 29.9, 30.1, 200.0, cell.dim / 2, 3e3, 1e5)
    return [(kappa, small) for kappa in kappas for small in (0.5, 0.31, 1e-2, 1e-6, 1e-10)]


def _product_values(cell: Cell, arguments: list[Tensor]) -> dict[Target, Tensor]:
    first, second, small = arguments
    gap, height = _sides(cell, small)
    value = special.power_spherical_pair_log_normalizer(cell.dim, first, second, gap, height)
    return {Target("log Z"): value}


def _product_reference(cell: Cell, point: Point) -> Reference:
    gap, height = _sides(cell, arb(point[2]))
    value = exact.power_spherical_pair(cell.dim, point[0], point[1], gap, height)
    modes = [exact.power_spherical_peak(cell.dim, x, 2)[0] for x in point[:2]]
    turn = exact.power_spherical_pair_slope(cell.dim, point[0], point[1], height) if gap != 0 else arb(0)
    return {Target("log Z"): (value, _largest(*modes, arb(point[2]) * turn))}


def _product_starts(_: Cell) -> list[Point]:
    kappas = (0.0, 1e-6, 0.1, 0.3, 1.0, 7.5, 60.25, 1e3, 3e3)
    pairs = [(one, other) for i, one in enumerate(kappas) for other in kappas[i:]]
    return [(*pair, small) for pair in pairs for small in (0.5, 0.3, 1e-3, 1e-9, 0.0)]


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "vMF",
            ("κ",),
            _one_argument(_VON_MISES_FISHER),
            _one_reference(exact.von_mises_fisher),
            _one_argument_starts(_switches_of_the_von_mises_fisher),
        ),
        Family(
            "PS",
            ("κ",),
            _one_argument(_POWER_SPHERICAL),
            _one_reference(exact.power_spherical),
            _one_argument_starts(_switches_of_the_power_spherical),
        ),
        *(
            Family(
                f"{guide} to {expert}",
                ("κ₁", "κ₂", "tan θ/2"),
                _pair_values(guide, expert),
                _to_von_mises_fisher(guide) if expert == "vMF" else _to_power_spherical(guide),
                _pair_starts(largest),
                two_sided=True,
                largest=largest,
            )
            for guide, expert, largest in (
                ("vMF", "vMF", 1e38),
                ("PS", "vMF", 1e38),
                ("PS", "PS", 1e5),
                ("vMF", "PS", 1e5),
            )
        ),
        *(
            Family(
                f"{law}, turned",
                ("τ", "min(e, h)"),
                _height_values(law),
                _height_reference(law),
                _height_starts,
                two_sided=True,
                largest=1e5,
            )
            for law in LAWS
        ),
        Family(
            "product of two PS",
            ("κ₁", "κ₂", "min(e, h)"),
            _product_values,
            _product_reference,
            _product_starts,
            two_sided=True,
            largest=1e4,
        ),
    )
}
