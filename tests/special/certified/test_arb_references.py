"""The references of the certified bounds against each other: closed forms, other series, integrals, and mpmath."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mpmath
import pytest
from flint import acb, arb, arb_series, ctx

from tests.special.certified import arb_references as exact


@pytest.fixture(autouse=True)
def _many_bits() -> Iterator[None]:
    with ctx.workprec(400):
        yield


def _agree(one: Any, other: Any, digits: int = 40) -> bool:
    """Whether the two balls have a point in common, both being small."""
    size = max(1.0, float(abs(one).mid()))
    return bool(one.overlaps(other)) and float(one.rad()) + float(other.rad()) < 10.0**-digits * size


@pytest.mark.parametrize("concentration", [1e-3, 0.7, 30.0, 1e4])
def test_von_mises_fisher_in_space_is_elementary(concentration: float) -> None:
    """Log C = log κ/(4π sinh κ), with all derivatives as a power series."""
    kappa = arb(concentration)
    with ctx.workprec(800):
        x = arb_series([kappa, 1], 6)
        sinh = (x.exp() - (-x).exp()) / 2
        log_c = (x / (4 * arb.pi() * sinh)).log()
        jet = exact.von_mises_fisher(3, concentration)["log C"]
        factorial = 1
        for order, value in enumerate(jet):
            factorial *= max(1, order)
            assert _agree(value, factorial * log_c[order])


@pytest.mark.parametrize("dim", [2, 3, 17, 2048])
@pytest.mark.parametrize("concentration", [1e-8, 0.3, 45.0, 3e3])
def test_jets_of_the_von_mises_fisher_agree_with_mpmath(dim: int, concentration: float) -> None:
    with mpmath.workdps(60), ctx.workprec(1200):
        order, kappa = mpmath.mpf(dim) / 2, mpmath.mpf(concentration)

        def log_c(k: mpmath.mpf) -> mpmath.mpf:
            area = mpmath.log(2) + order * mpmath.log(mpmath.pi) - mpmath.loggamma(order)
            return -area - mpmath.log(mpmath.hyp0f1(order, k * k / 4, maxterms=10**6))

        jets = exact.von_mises_fisher(dim, concentration)
        expected = mpmath.taylor(log_c, kappa, 2, relative=True)
        for n, tolerance in ((0, 1e-25), (1, 1e-20), (2, 1e-12)):
            value = float((jets["log C"][n] - arb(str(expected[n] * mpmath.factorial(n)))).mid())
            assert abs(value) <= tolerance * max(1, abs(float(jets["log C"][n].mid())))


@pytest.mark.parametrize("dim", [2, 3, 50])
def test_jets_at_no_concentration_are_limits(dim: int) -> None:
    with ctx.workprec(1500):
        tiny = exact.von_mises_fisher(dim, 1e-45)
    none = exact.von_mises_fisher(dim, 0.0)
    for name, jet in none.items():
        for value, near in zip(jet, tiny[name], strict=True):
            assert abs(float((value - near).mid())) < 1e-40


@pytest.mark.parametrize("dim", [2, 3, 16, 300])
@pytest.mark.parametrize("law", ["vMF", "PS"])
def test_density_of_the_reference_integrates_to_one(law: str, dim: int) -> None:
    """By arb's rigorous integration over the cosine t, for d = 2 over the angle."""
    concentration = 7.25
    jets = (exact.von_mises_fisher if law == "vMF" else exact.power_spherical)(dim, concentration)
    with ctx.workprec(120):
        strip = exact.log_area(dim - 1)

        def integrand(angle: Any, _: bool) -> Any:
            t = angle.cos()
            tilt = t * concentration if law == "vMF" else (1 + t).log() * concentration
            log_density = jets["log C"][0] + tilt
            return (log_density + strip + (dim - 2) * angle.sin().log()).exp() if dim > 2 else 2 * log_density.exp()

        ends = arb(1) / 10**6, arb.pi() - arb(1) / 10**6  # sin is zero at the ends, and the rest is below 1e-5
        total = acb.integral(integrand, *ends, rel_tol=arb(10) ** -20, abs_tol=arb(10) ** -20).real
    assert abs(float(total.mid()) - 1) < 1e-5


@pytest.mark.parametrize(("dim", "tau"), [(2, 31.5), (3, 20.25), (16, 12.5), (128, 0.5), (300, 77.7)])
@pytest.mark.parametrize("cosine", [-0.99, -0.3, 0.4, 0.9])
def test_mean_log_height_by_two_series_is_one_number(dim: int, tau: float, cosine: float) -> None:
    c = arb(cosine)
    with ctx.workprec(6000):
        by_function = exact.mean_log_height_by_hypergeometric_function(dim, tau, (1 + c) / 2)
    assert _agree(exact.mean_log_height_by_series("PS", dim, tau, c), by_function)


@pytest.mark.parametrize("law", ["vMF", "PS"])
@pytest.mark.parametrize(("tau", "cosine"), [(3.0, 0.5), (40.0, -0.25), (41.5, 0.875)])
def test_mean_log_height_in_space_is_an_integral(law: str, tau: float, cosine: float) -> None:
    """The mean of log(1 + μᵀz) over a parallel is harmonic on either side of the one through −μ."""
    k, c = arb(tau), arb(cosine)

    def density(w: Any) -> Any:
        if law == "vMF":
            return (-k * w).exp() * k / (1 - (-2 * k).exp())
        return (1 - w / 2) ** k * (k + 1) / 2

    with ctx.workprec(200):
        near = acb.integral(lambda w, _: density(w) * ((2 - w) * (1 + c) / 4).log(), 0, acb(1 + c)).real
        far = acb.integral(lambda w, _: density(w) * (w * (1 - c) / 4).log(), acb(1 + c), acb(2) - acb(10) ** -12).real
        value = exact.mean_log_height_by_series(law, 3, tau, c)
    assert abs(float((near + far - value).mid())) < 1e-11


@pytest.mark.parametrize(("dim", "first", "second"), [(2, 1, 3), (3, 4, 2), (16, 7, 5)])
def test_product_of_two_power_spherical_densities_is_a_finite_series(dim: int, first: int, second: int) -> None:
    """C(0) Σ N(d,l) λ_l(κ₁) λ_l(κ₂) P_l(c) at integers (C25)."""

    cosine = arb("0.3")
    total, product = arb(1), arb(1)
    for degree, polynomial in zip(
        range(1, min(first, second) + 1), exact._normalized_gegenbauer(dim, cosine), strict=False
    ):
        for k in (first, second):
            product *= arb(k - degree + 1) / (k + dim - 2 + degree)
        count = math.comb(degree + dim - 1, dim - 1) - (math.comb(degree + dim - 3, dim - 1) if degree > 1 else 0)
        total += count * product * polynomial
    expected = total.log() - exact.log_area(dim)
    assert _agree(exact.power_spherical_pair(dim, first, second, (1 - cosine) / 2, (1 + cosine) / 2), expected)


def test_precision_is_raised_until_the_balls_are_small_and_not_for_ever() -> None:
    asked: list[int] = []

    def reference() -> dict[str, exact.Jet]:
        asked.append(ctx.prec)
        return {"f": [arb(10) ** 100 + arb(1).exp() - arb(10) ** 100]}

    balls = exact.enclose(reference, lambda found: found["f"][0].rad() < 1e-30)
    assert len(asked) > 1
    assert abs(float(balls["f"][0].mid()) - 2.718281828459045) < 1e-15
    with pytest.raises(exact.NotEnclosedError, match="not small"):
        exact.enclose(reference, lambda _: False)
