"""The integral of two Power Spherical densities against the terminating series, mpmath, quadrature and closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_as_inference.special import power_spherical_log_normalizer, power_spherical_pair_log_normalizer


@pytest.fixture(autouse=True)
def _many_digits() -> Iterator[None]:
    with mpmath.workdps(120):
        yield


def _log_z(dim: int, first: float, second: float, cosine: float) -> float:
    k1, k2, e, h = torch.tensor([first, second, (1 - cosine) / 2, (1 + cosine) / 2], dtype=torch.float64)
    return power_spherical_pair_log_normalizer(dim, k1, k2, e, h).item()


def _log_c(dim: int, concentration: mpmath.mpf) -> mpmath.mpf:
    b = mpmath.mpf(dim - 1) / 2
    a = concentration + b
    return mpmath.loggamma(a + b) - mpmath.loggamma(a) - (a + b) * mpmath.log(2) - b * mpmath.log(mpmath.pi)


def _terminating_series(dim: int, first: int, second: int, cosine: float) -> float:
    """C(0) Σ N(d,l) λ_l(κ₁) λ_l(κ₂) P_l(c), which ends at the smaller of two integers (C25)."""
    c, total = mpmath.mpf(cosine), mpmath.mpf(0)
    lower, polynomial, product = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(1)
    for degree in range(min(first, second) + 1):
        count = math.comb(degree + dim - 1, dim - 1) - (math.comb(degree + dim - 3, dim - 1) if degree > 1 else 0)
        total += count * product * polynomial
        for k in (first, second):
            product *= mpmath.mpf(k - degree) / (k + dim - 1 + degree)
        step = (2 * degree + dim - 2) * c * polynomial - degree * lower
        lower, polynomial = polynomial, (step / (degree + dim - 2) if degree + dim > 2 else c)
    return float(mpmath.log(total) + _log_c(dim, mpmath.mpf(0)))


@pytest.mark.parametrize("dim", [2, 3, 8, 16, 128, 2048])
def test_at_integer_concentrations_it_is_the_terminating_series(dim: int) -> None:
    for first, second in ((0, 0), (0, 40), (1, 1), (1, 300), (7, 4), (60, 60)):
        for cosine in (-0.99, -0.5, 0.0, 0.3, 0.9, 1.0):
            expected = _terminating_series(dim, first, second, cosine)
            got = _log_z(dim, first, second, cosine)
            assert got == pytest.approx(expected, rel=2e-14, abs=2e-14), (first, second, cosine)


@pytest.mark.parametrize("dim", [2, 3, 8, 16, 128, 2048, 10_000])
def test_at_any_concentration_it_is_a_hypergeometric_function(dim: int) -> None:
    b = mpmath.mpf(dim - 1) / 2
    for first, second in ((0.3, 0.2), (0.5, 1000.5), (7.3, 2.6), (1000.2, 900.7), (2e4 + 0.3, 3.5)):
        k1, k2 = mpmath.mpf(first), mpmath.mpf(second)
        for cosine in (-0.99, -0.5, 0.3, 0.9, 1 - 1e-6):
            value = mpmath.log(mpmath.hyp2f1(-k1, -k2, b, (1 + mpmath.mpf(cosine)) / 2))
            value += mpmath.loggamma(k1 + 2 * b) + mpmath.loggamma(k2 + 2 * b) - b * mpmath.log(4 * mpmath.pi)
            value -= mpmath.loggamma(b) + mpmath.loggamma(k1 + k2 + 2 * b)
            got = _log_z(dim, first, second, cosine)
            assert got == pytest.approx(float(value), rel=2e-14, abs=2e-14), (first, second, cosine)


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.01, 0.1, 1.0, 1.5])
def test_small_concentrations_have_value_and_slope_of_the_hypergeometric_function(dim: int, angle: float) -> None:
    b = mpmath.mpf(dim - 1) / 2
    for first, second in ((0.0, 0.05), (0.0, 0.1), (0.1, 0.1), (0.1, 5.0), (0.45, 0.45), (2.0, 3.0)):
        k1, k2, half_gap = mpmath.mpf(first), mpmath.mpf(second), math.sin(angle / 2) ** 2
        height = 1 - mpmath.mpf(half_gap)
        factor = mpmath.hyp2f1(-k1, -k2, b, height)
        value = mpmath.log(factor) + mpmath.loggamma(k1 + 2 * b) + mpmath.loggamma(k2 + 2 * b)
        value -= b * mpmath.log(4 * mpmath.pi) + mpmath.loggamma(b) + mpmath.loggamma(k1 + k2 + 2 * b)
        slope = -k1 * k2 / b * mpmath.hyp2f1(1 - k1, 1 - k2, b + 1, height) / factor
        e = torch.tensor(half_gap, dtype=torch.float64, requires_grad=True)
        one, other = torch.tensor([first, second], dtype=torch.float64)
        found = power_spherical_pair_log_normalizer(dim, one, other, e, 1 - e)
        (found_slope,) = torch.autograd.grad(found, e)
        assert found.item() == pytest.approx(float(value), abs=1e-14)
        by_angle = math.sin(angle) / 2  # ∂e/∂θ
        assert by_angle * found_slope.item() == pytest.approx(by_angle * float(slope), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 8, 16, 128, 2048, 10_000])
def test_equal_and_opposite_directions_have_closed_forms_at_every_concentration(dim: int) -> None:
    mpmath.mp.dps = 650  # of which log Γ(κ) at κ = 1e300 takes 303 before the point
    b = mpmath.mpf(dim - 1) / 2
    for first, second in itertools.product((0.0, 0.7, 1e3, 1e6, 1e12, 1e20, 1e38, 1e150, 1e300), repeat=2):
        k1, k2 = mpmath.mpf(first), mpmath.mpf(second)
        both = _log_c(dim, k1) + _log_c(dim, k2)
        assert _log_z(dim, first, second, 1.0) == pytest.approx(
            float(both - _log_c(dim, k1 + k2)), rel=3e-13, abs=1e-12
        )
        total = k1 + k2 + 2 * b
        beta = mpmath.loggamma(k1 + b) + mpmath.loggamma(k2 + b) - mpmath.loggamma(total)
        area = mpmath.log(2) + b * mpmath.log(mpmath.pi) - mpmath.loggamma(b)  # of a parallel's sphere
        opposite = both + area + (total - 1) * mpmath.log(2) + beta
        assert _log_z(dim, first, second, -1.0) == pytest.approx(float(opposite), rel=3e-13, abs=1e-12)


def _laplace(dim: int, k1: mpmath.mpf, k2: mpmath.mpf, e: mpmath.mpf) -> mpmath.mpf:
    """Laplace's method about the mode on the arc between the directions; errs by some d²/κ."""
    half = mpmath.asin(mpmath.sqrt(e))  # of the angle between them
    tan = mpmath.tan(half)
    # κ₁ tan u = κ₂ tan v, u + v = half: the halves of the angles from the mode to either direction
    u = mpmath.atan(2 * k2 * tan / (k1 + k2 + mpmath.sqrt((k1 + k2) ** 2 + 4 * k1 * k2 * tan**2)))
    both = ((k1, u), (k2, half - u))
    height = sum(2 * k * mpmath.log(mpmath.cos(x)) + _log_c(dim, k) + k * mpmath.log(2) for k, x in both)
    along = sum(k / (1 + mpmath.cos(2 * x)) for k, x in both)
    across = sum(k * mpmath.cos(2 * x) / (1 + mpmath.cos(2 * x)) for k, x in both)
    log_two_pi = mpmath.log(2 * mpmath.pi)
    return height + (log_two_pi - mpmath.log(along)) / 2 + (dim - 2) * (log_two_pi - mpmath.log(across)) / 2


@pytest.mark.parametrize("dim", [2, 3, 20, 128])
def test_at_huge_concentrations_it_is_laplaces_integral(dim: int) -> None:
    for first, ratio in itertools.product((1e18, 1e30, 1e38, 1e100), (1.0, 1e-2)):
        for gap in (1e-30, 1e-12, 0.1, 0.4, 0.6, 0.8):
            k1, k2, e = torch.tensor([first, ratio * first, gap], dtype=torch.float64)
            got = power_spherical_pair_log_normalizer(dim, k1, k2, e, 1 - e).item()
            with mpmath.workdps(250):
                exact = float(_laplace(dim, *(mpmath.mpf(x) for x in (first, ratio * first, gap))))
            assert got == pytest.approx(exact, rel=3e-13, abs=1e-12), (first, ratio, gap)


def test_the_slope_holds_where_the_concentration_is_huge() -> None:
    # For equal directions Z = C(κ₁)C(κ₂)/C(κ₁+κ₂), and in space d log Z/dκ₁ = 1/(κ₁+1) − 1/(κ₁+κ₂+1).
    for first in (1e3, 1e12, 1e20, 1e38):
        kappa = torch.tensor([first, 3 * first], dtype=torch.float64, requires_grad=True)
        zero = torch.zeros((), dtype=torch.float64)
        value = power_spherical_pair_log_normalizer(3, kappa[0], kappa[1], zero, 1 - zero)
        (slope,) = torch.autograd.grad(value, kappa)
        expected = [1 / (first + 1) - 1 / (4 * first + 1), 1 / (3 * first + 1) - 1 / (4 * first + 1)]
        assert slope.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-16)


def test_in_space_it_agrees_with_quadrature_over_the_sphere() -> None:
    nodes, weights = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(200))
    angle = torch.arange(400, dtype=torch.float64) * (2 * torch.pi / 400)
    for first, second, cosine in ((2.5, 3.5, 0.3), (9.25, 4.5, -0.6), (30.0, 20.5, 0.8)):
        across = ((1 - nodes**2) * (1 - cosine**2)).clamp_min(0).sqrt()[:, None] * angle.cos()
        integrand = (1 + nodes[:, None]) ** first * (1 + cosine * nodes[:, None] + across).clamp_min(0) ** second
        integral = (integrand.mean(1) * weights).sum() * 2 * torch.pi
        kappa = torch.tensor([first, second], dtype=torch.float64)
        expected = integral.log() + power_spherical_log_normalizer(3, kappa).sum()
        assert _log_z(3, first, second, cosine) == pytest.approx(expected.item(), abs=1e-8)


def test_it_is_symmetric_and_one_uniform_factor_leaves_the_area() -> None:
    for dim, cosine in itertools.product((2, 3, 128), (-1.0, -0.3, 0.8, 1.0)):
        for first, second in ((0.4, 90.0), (3e5, 2e5), (1.5, 1e9)):
            assert _log_z(dim, first, second, cosine) == _log_z(dim, second, first, cosine)
            assert _log_z(dim, first, 0.0, cosine) == pytest.approx(
                float(_log_c(dim, mpmath.mpf(0))), rel=1e-13, abs=1e-13
            )


def test_it_falls_as_the_directions_part() -> None:
    cosine = torch.linspace(1, -1, 201, dtype=torch.float64)
    for dim, first, second in ((2, 0.1, 0.2), (3, 5.5, 1e4), (16, 1e6, 2e6), (2048, 500.0, 1e5)):
        k1, k2 = torch.full_like(cosine, first), torch.full_like(cosine, second)
        value = power_spherical_pair_log_normalizer(dim, k1, k2, (1 - cosine) / 2, (1 + cosine) / 2)
        assert (value.diff() < 0).all()


@pytest.mark.parametrize("dim", [2, 3, 70])
def test_derivatives_pass_gradcheck(dim: int) -> None:
    first = torch.tensor([0.5, 3.0, 40.0, 500.0, 7.0], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([0.7, 4.0, 10.0, 300.0, 7.5], dtype=torch.float64, requires_grad=True)
    gap = torch.tensor([0.1, 0.6, 0.9, 0.01, 0.4], dtype=torch.float64, requires_grad=True)

    def function(k1: Tensor, k2: Tensor, e: Tensor) -> Tensor:
        return power_spherical_pair_log_normalizer(dim, k1, k2, e, 1 - e)

    assert torch.autograd.gradcheck(function, (first, second, gap), atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (first, second, gap), atol=1e-5, rtol=1e-3)


def test_equal_concentrations_have_the_derivatives_of_their_neighbours() -> None:
    gap = torch.tensor(0.3, dtype=torch.float64)

    def hessian(first: float, second: float) -> Tensor:
        kappa = torch.tensor([first, second], dtype=torch.float64)
        result: Tensor = torch.autograd.functional.hessian(
            lambda k: power_spherical_pair_log_normalizer(5, k[0], k[1], gap, 1 - gap), kappa
        )
        return result

    torch.testing.assert_close(hessian(4.0, 4.0), hessian(4.0, 4.0 + 1e-9), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(hessian(4.0, 4.0), hessian(4.0, 4.0).flip(0, 1), rtol=1e-9, atol=1e-12)


def test_value_and_two_derivatives_are_finite_up_to_the_end_of_the_domain() -> None:
    concentration = (0.0, 1e-45, 1e-6, 1.0, 1e3, 1e6, 1e12, 1e20, 1e38)
    gap = (0.0, 1e-300, 1e-30, 1e-16, 1e-8, 0.5, 1 - 1e-12, 1.0)
    grid = torch.tensor([*itertools.product(concentration, concentration, gap)], dtype=torch.float64)
    for dim in (2, 3, 2048, 100_000):
        arguments = [column.clone().requires_grad_() for column in grid.unbind(-1)]
        k1, k2, e = arguments
        value = power_spherical_pair_log_normalizer(dim, k1, k2, e, 1 - e)
        first = torch.autograd.grad(value.sum(), arguments, create_graph=True)
        second = torch.autograd.grad(torch.stack(first).sum(), arguments)
        for tensor in (value, *first, *second):
            assert tensor.isfinite().all()


def test_vmap_and_compilation_change_nothing() -> None:
    kappa, e = torch.logspace(-2, 4, 5).double(), torch.linspace(0, 1, 5).double()

    def both(k: Tensor, x: Tensor) -> Tensor:
        return torch.stack([power_spherical_pair_log_normalizer(dim, k, 2 * k, x, 1 - x) for dim in (2, 64)])

    expected = both(kappa, e)
    torch.testing.assert_close(torch.vmap(both, out_dims=1)(kappa, e), expected)
    torch.testing.assert_close(torch.compile(both, backend="aot_eager", fullgraph=True)(kappa, e), expected)
