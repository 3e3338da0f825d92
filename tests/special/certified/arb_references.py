"""What the functions of the spherical distributions are, enclosed by arb's balls (python-flint).

Everything here is written from the definitions: Bessel functions, log Γ and its derivatives, hypergeometric functions
and Gegenbauer polynomials, never a formula of `ssl_as_inference`. A ball is an interval that is proved to hold the
exact value; one that contains zero says nothing about signs. Arguments are binary floating-point numbers, which balls
of radius zero hold exactly. Where terms cancel a ball grows; `enclose` raises the precision until every ball is small
against what it is to be compared with.

A *jet* is the list f, f′, f″, … of a function of the concentration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flint import acb, arb, arb_series, ctx

_Balls = TypeVar("_Balls")
Jet = list[Any]  # arb has no types: balls
FIRST_BITS, MOST_BITS = 192, 200_000
_NEGLIGIBLE = arb(2) ** -150  # a rest of a series; what is left out is enclosed all the same
_MOST_TERMS = 40_000
LENGTH = 4  # value, two derivatives, and one more for the scale of the second one's bound


class NotEnclosedError(ArithmeticError):
    """The balls are too large even with `MOST_BITS` bits."""


def enclose(reference: Callable[[], _Balls], small: Callable[[_Balls], bool]) -> _Balls:
    """The balls of `reference`, with as many bits as make them `small`; arb's working precision is put back after."""
    before = ctx.prec
    bits = FIRST_BITS
    try:
        while bits <= MOST_BITS:
            ctx.prec = bits
            balls = reference()
            if small(balls):
                return balls
            bits *= 2
    finally:
        ctx.prec = before
    raise NotEnclosedError(f"the balls are not small with {MOST_BITS} bits")


def times_argument(x: Any, jet: Jet) -> Jet:
    """The jet of x f(x), by Leibniz' rule: (x f)⁽ⁿ⁾ = x f⁽ⁿ⁾ + n f⁽ⁿ⁻¹⁾."""
    return [x * value + (n * jet[n - 1] if n else 0) for n, value in enumerate(jet)]


def plus(*jets: Jet) -> Jet:
    return [sum(values[1:], values[0]) for values in zip(*jets, strict=False)]


def minus(jet: Jet) -> Jet:
    return [-value for value in jet]


def log_area(dim: int) -> Any:
    """Logarithm of 2π^{d/2}/Γ(d/2)."""
    half = arb(dim) / 2
    return arb(2).log() + half * arb.pi().log() - half.lgamma()


def _resultant_jet(dim: int, kappa: Any, resultant: Any, length: int) -> tuple[Jet, Jet]:
    """A and its derivatives, A/κ and its: A′ = 1 − A² − (d−1)A/κ is the recurrences of I_ν (DLMF 10.29.2); Leibniz."""
    jet = [resultant]
    ratio: Jet = []  # of A/κ: κ·r = A, so that κ r⁽ⁿ⁾ = A⁽ⁿ⁾ − n r⁽ⁿ⁻¹⁾
    for n in range(length - 1):
        ratio.append((jet[n] - (n * ratio[n - 1] if n else 0)) / kappa)
        square = sum((math.comb(n, i) * jet[i] * jet[n - i] for i in range(1, n + 1)), jet[0] * jet[n])
        jet.append((1 if n == 0 else 0) - square - (dim - 1) * ratio[n])
    ratio.append((jet[-1] - (length - 1) * ratio[-1]) / kappa)
    return jet, ratio


def _uniform_jets(dim: int, length: int) -> tuple[Jet, Jet]:
    """A and A/κ at κ = 0, from A/κ = 1/d − κ²/{d²(d+2)} + 2κ⁴/{d³(d+2)(d+4)} − …."""
    d = arb(dim)
    series = [1 / d, arb(0), -1 / (d**2 * (d + 2)), arb(0), 2 / (d**3 * (d + 2) * (d + 4)), arb(0)]
    ratio = [math.factorial(n) * value for n, value in enumerate(series)][:length]
    resultant = [arb(0), *(math.factorial(n) * value for n, value in enumerate(series, start=1))][:length]
    return resultant, ratio


def von_mises_fisher(dim: int, concentration: float) -> dict[str, Jet]:
    """Jets of all quantities of the von Mises–Fisher distribution, from I_{d/2−1} and I_{d/2}."""
    kappa, nu = arb(concentration), arb(dim) / 2 - 1
    longer = LENGTH + 2
    area = log_area(dim)
    if concentration == 0:
        resultant, ratio = _uniform_jets(dim, longer)
        peak = -area
    else:
        # arb's complex function takes the uniform and the convergent series alike; scaled: e^{−κ} I
        low, high = (acb(kappa).bessel_i(acb(order), scaled=True).real for order in (nu, nu + 1))
        resultant, ratio = _resultant_jet(dim, kappa, high / low, longer)
        peak = nu * kappa.log() - (nu + 1) * (2 * arb.pi()).log() - low.log()
    one, identity = [arb(1)] + [arb(0)] * LENGTH, [kappa, arb(1)] + [arb(0)] * LENGTH
    complement = plus(one, minus(resultant))
    log_c = [peak - kappa, *minus(resultant)]
    divergence = plus(log_c, [area] + [arb(0)] * LENGTH, times_argument(kappa, resultant))
    jets = {
        "log C": log_c,
        "log C + κ": plus(log_c, identity) if concentration == 0 else [peak, *complement],
        "A": resultant,
        "1 − A": complement,
        "A/κ": ratio,
        "A′": resultant[1:],
        "entropy": plus([area] + [arb(0)] * LENGTH, minus(divergence)),
        "KL to uniform": divergence,
    }
    return {name: jet[:LENGTH] for name, jet in jets.items()}


def _log_gamma_jet(x: Any, length: int) -> Jet:
    series = arb_series([x, 1], length).lgamma().coeffs()
    return [math.factorial(n) * value for n, value in enumerate(series)]


def power_spherical_peak(dim: int, concentration: float, length: int) -> Jet:
    """Log C + κ log 2 = log Γ(κ+2b) − log Γ(κ+b) − b log 4π."""
    b = arb(dim - 1) / 2
    kappa = arb(concentration)
    before = ctx.cap
    ctx.cap = length
    try:
        jet = plus(_log_gamma_jet(kappa + 2 * b, length), minus(_log_gamma_jet(kappa + b, length)))
    finally:
        ctx.cap = before
    return [jet[0] - b * (4 * arb.pi()).log(), *jet[1:]]


def power_spherical(dim: int, concentration: float) -> dict[str, Jet]:
    """Jets of all quantities of the Power Spherical distribution."""
    longer = LENGTH + 2
    kappa, zeros = arb(concentration), [arb(0)] * longer
    log_2 = arb(2).log()
    peak = power_spherical_peak(dim, concentration, longer)
    log_c = plus(peak, minus([kappa * log_2, log_2, *zeros]))
    height = minus(log_c[1:])
    area = log_area(dim)
    divergence = plus(log_c, [area, *zeros], times_argument(kappa, height))
    m = arb(dim - 1)
    slopes = [(-1) ** (n + 1) * math.factorial(n) * m / (kappa + m) ** (n + 1) for n in range(1, longer)]  # m/(κ+m)²
    resultant = [kappa / (kappa + m), *slopes]
    jets = {
        "log C": log_c,
        "log C + κ log 2": peak,
        "E log(1 + t)": height,
        "E t": resultant,
        "entropy": plus([area, *zeros], minus(divergence)),
        "KL to uniform": divergence,
    }
    return {name: jet[:LENGTH] for name, jet in jets.items()}


def _with_radius(bound: Any) -> Any:
    """The ball [−bound, bound]."""
    return arb(0, bound.abs_upper())


def _normalized_gegenbauer(dim: int, cosine: Any) -> Iterator[Any]:
    """P_1, P_2, …: the zonal harmonics, 1 at c = 1 and at most 1 in between; Chebyshev's polynomials in the plane."""
    lower, value, degree = arb(1), cosine, 1
    while True:
        yield value
        following = ((2 * degree + dim - 2) * cosine * value - degree * lower) / (degree + dim - 2)
        lower, value, degree = value, following, degree + 1


def _power_spherical_eigenvalues(dim: int, tau: Any, concentration: float) -> tuple[list[Any], Any]:
    """Mean of P_l(fᵀz) under PS(f, τ), l = 1 … L, and a bound of the sum of those beyond."""
    values: list[Any] = []
    value, rest, degree = arb(1), arb(1), 0
    while True:
        value = value * (tau - degree) / (tau + dim - 1 + degree)
        degree += 1
        if value == 0:
            return values, arb(0)
        values.append(value)
        if degree > _MOST_TERMS:
            raise NotEnclosedError(f"the series needs more than {_MOST_TERMS} terms")
        # For l > τ+1, |λ_{l+1}/λ_l| = (l−τ)/(l+τ+d−1), and Σ_{l≥L} |λ_l| = |λ_L| (L+τ+d−2)/(2τ+d−2), which telescopes.
        # Up to there the ratio (τ−l)/(τ+d−1+l) falls with l: a geometric series, and the former from l ≤ τ+2 on.
        if degree > concentration + 1:
            rest = abs(value) * (degree + tau + dim - 2) / (2 * tau + dim - 2)
        elif degree <= concentration:
            ratio = (tau - degree) / (tau + dim - 1 + degree)
            rest = abs(value) * (1 / (1 - ratio) + (2 * tau + dim) / (2 * tau + dim - 2))
        if rest < _NEGLIGIBLE:
            return values[:-1], rest


def _von_mises_fisher_eigenvalues(dim: int, tau: Any) -> tuple[list[Any], Any]:
    """I_{ν+l}(τ)/I_ν(τ), l = 1 … L, and a bound of the sum of those beyond."""
    nu = arb(dim) / 2 - 1
    first = acb(tau).bessel_i(acb(nu), scaled=True).real
    count = 8
    while not (last := acb(tau).bessel_i(acb(nu + count), scaled=True).real / first) < _NEGLIGIBLE:
        count = 3 * count // 2
        if count > _MOST_TERMS:
            raise NotEnclosedError(f"the series needs more than {_MOST_TERMS} terms")
    ratio = acb(tau).bessel_i(acb(nu + count + 1), scaled=True).real / first / last
    rest = last * ratio / (1 - ratio)  # the ratio of neighbours falls with l
    ratios = [ratio]
    for degree in range(count, 0, -1):  # I_{μ−1}/I_μ = 2μ/τ + I_{μ+1}/I_μ
        ratios.append(1 / (2 * (nu + degree) / tau + ratios[-1]))
    values, value = [], arb(1)
    for one in reversed(ratios[1:]):
        value = value * one
        values.append(value)
    return values, rest


def mean_log_height_by_series(law: str, dim: int, concentration: float, cosine: Any) -> Any:
    """E log{(1 + μᵀz)/2} for z ~ law(f, τ), c = μᵀf, from the Gegenbauer series (C18), the rest enclosed."""
    half, tau = arb(dim - 1) / 2, arb(concentration)
    total = half.digamma() - (2 * half).digamma()
    if concentration == 0:
        return total
    if law == "PS":
        values, rest = _power_spherical_eigenvalues(dim, tau, concentration)
    else:
        values, rest = _von_mises_fisher_eigenvalues(dim, tau)
    # The recurrence of the polynomials lets a ball grow by up to log₂(1+√2) bits a degree.
    with ctx.extraprec(len(values) * 4 // 3):
        series = arb(0)
        for degree, (value, polynomial) in enumerate(zip(values, _normalized_gegenbauer(dim, cosine), strict=False), 1):
            term = value * polynomial * (2 * degree + dim - 2) / (degree * (degree + dim - 2))
            series += term if degree % 2 else -term
    degree = len(values) + 1
    return total + series + _with_radius(rest * (2 * degree + dim - 2) / (degree * (degree + dim - 2)))


def mean_log_height_by_hypergeometric_function(dim: int, concentration: float, height: Any) -> Any:
    """The same for the Power Spherical: ψ(b) − ψ(τ+2b) + (τh/b) ₃F₂(1, 1, 1−τ; 2, b+1; h), 0 ≤ h < 1.

    It is the derivative at s = 0 of E[((1+μᵀz)/2)^s] = Γ(τ+2b)Γ(s+b)/{Γ(b)Γ(τ+s+2b)} ₂F₁(−τ, −s; b; h).
    """
    b, tau = arb(dim - 1) / 2, arb(concentration)
    if concentration == 0:
        return b.digamma() - (2 * b).digamma()
    sum_of_terms = acb(height).hypgeom([acb(1), acb(1), acb(1 - tau)], [acb(2), acb(b + 1)]).real
    return b.digamma() - (tau + 2 * b).digamma() + tau * height / b * sum_of_terms


def mean_log_height(law: str, dim: int, concentration: float, gap: Any, height: Any) -> Any:
    """The same, at c = ±1 in closed form where there is one, and for little concentration without the series."""
    if law == "PS":
        b, tau = arb(dim - 1) / 2, arb(concentration)
        if gap == 0:
            return (tau + b).digamma() - (tau + 2 * b).digamma()
        if height == 0:
            return b.digamma() - (tau + 2 * b).digamma()
        if 2 * concentration + dim < 30 or concentration == int(concentration) < 100:
            if height > 0.99 and concentration != int(concentration):
                raise NotEnclosedError("the hypergeometric series converges too slowly next to h = 1")
            return mean_log_height_by_hypergeometric_function(dim, concentration, height)
    return mean_log_height_by_series(law, dim, concentration, height - gap)


def power_spherical_pair(dim: int, first: float, second: float, gap: Any, height: Any) -> Any:
    """Log of the integral of PS(μ₁, κ₁) PS(μ₂, κ₂) from ₂F₁(−κ₁, −κ₂; b; h)."""
    b, k1, k2 = arb(dim - 1) / 2, arb(first), arb(second)
    if first == 0 or second == 0:
        return -log_area(dim)
    if gap == 0:  # ₂F₁ at 1 by Gauß
        function = (b + k1 + k2).lgamma() + b.lgamma() - (b + k1).lgamma() - (b + k2).lgamma()
    else:
        function = acb(height).hypgeom_2f1(acb(-k1), acb(-k2), acb(b)).real.log()
    total = (k1 + 2 * b).lgamma() + (k2 + 2 * b).lgamma() - b.lgamma() - (k1 + k2 + 2 * b).lgamma()
    return total - b * (4 * arb.pi()).log() + function


def power_spherical_pair_slope(dim: int, first: float, second: float, height: Any) -> Any:
    """∂ log Z/∂h = (κ₁κ₂/b) ₂F₁(1−κ₁, 1−κ₂; b+1; h)/₂F₁(−κ₁, −κ₂; b; h) (DLMF 15.5.1)."""
    b, k1, k2 = arb(dim - 1) / 2, acb(first), acb(second)
    value, slope = acb(height).hypgeom_2f1(-k1, -k2, acb(b)), acb(height).hypgeom_2f1(1 - k1, 1 - k2, acb(b + 1))
    return arb(first) * arb(second) / b * (slope / value).real
