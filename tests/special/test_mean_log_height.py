"""The mean log height under another direction's distribution against series, quadrature, closed forms and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference.special import (
    power_spherical_cross_log_height,
    power_spherical_log_height_deficit,
    von_mises_fisher_cross_log_height,
)

Function = Callable[[int, Tensor, Tensor, Tensor], Tensor]
FUNCTIONS: dict[str, Function] = {
    "power_spherical": power_spherical_cross_log_height,
    "von_mises_fisher": von_mises_fisher_cross_log_height,
}
GUIDES = pytest.mark.parametrize("guide", FUNCTIONS)


@pytest.fixture(autouse=True)
def _thirty_digits() -> Iterator[None]:
    with mpmath.workdps(30):
        yield


def _at(guide: str, dim: int, tau: float, cosine: float) -> float:
    """E log(1 + μᵀz), from 1 ∓ c that are exact for the cosine's number."""
    t, e, h = (torch.tensor(x, dtype=torch.float64) for x in (tau, (1 - cosine) / 2, (1 + cosine) / 2))
    return FUNCTIONS[guide](dim, t, e, h).item() + float(mpmath.log(2))


def _series(guide: str, dim: int, tau: float, cosine: float) -> float:
    """The Gegenbauer series of C18; Chebyshev's polynomials in the plane."""
    nu, c, k = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(cosine), mpmath.mpf(tau)
    total = mpmath.log(2) + mpmath.digamma(nu + 0.5) - mpmath.digamma(2 * nu + 1)
    lower, polynomial, eigenvalue = mpmath.mpf(1), c, mpmath.mpf(1)
    if tau == 0:
        return float(total)
    first = mpmath.besseli(nu, k) if guide == "von_mises_fisher" else 1
    for degree in range(1, 4000):
        if guide == "von_mises_fisher":
            eigenvalue = mpmath.besseli(nu + degree, k) / first
        else:
            eigenvalue *= (k - degree + 1) / (k + 2 * nu + degree)
        size = (2 * degree + 2 * nu) / (degree * (degree + 2 * nu)) * eigenvalue
        total += (-1) ** (degree - 1) * size * polynomial
        if abs(size) < 1e-20:
            return float(total)
        step = 2 * (degree + nu) * c * polynomial - degree * lower
        lower, polynomial = polynomial, step / (degree + 2 * nu)
    raise AssertionError


@pytest.mark.parametrize(
    ("dim", "tau", "half_gap", "tolerance"),
    [
        *((dim, tau, e, 1e-13) for dim in (2, 3, 8) for tau in (0.01, 0.3, 1.0, 3.0) for e in (1e-4, 1e-8, 1e-13)),
        (2, 0.3, 1e-23, 1e-11),
        (3, 0.01, 1e-19, 1e-13),
        *((dim, tau, e, 1e-14) for dim in (2, 3, 4) for tau in (1e-3, 0.3) for e in (1e-26, 1e-33)),
    ],
)
def test_the_deficit_of_directions_that_nearly_agree_keeps_its_relative_accuracy(
    dim: int, tau: float, half_gap: float, tolerance: float
) -> None:
    b, t, e = mpmath.mpf(dim - 1) / 2, mpmath.mpf(tau), mpmath.mpf(half_gap)

    def lost(u: mpmath.mpf) -> mpmath.mpf:  # the integrand of the module, u = 1 − w
        return u ** (b - 1) * ((e + (1 - e) * u) ** t - u**t) / (1 - u)

    with mpmath.workdps(30 if half_gap > 1e-20 else 60):  # the difference of the powers loses as many as e is small
        expected = mpmath.quad(lost, [mpmath.mpf(0), *(mpmath.mpf(10) ** -n for n in range(40, 0, -1)), mpmath.mpf(1)])
    gap = torch.tensor(half_gap, dtype=torch.float64)
    found = power_spherical_log_height_deficit(dim, torch.tensor(tau, dtype=torch.float64), gap, 1 - gap)
    assert found.item() == pytest.approx(float(expected), rel=tolerance, abs=0)


@GUIDES
@pytest.mark.parametrize("dim", [2, 3, 8, 16, 128, 2048])
def test_integral_agrees_with_the_series_of_the_theory(guide: str, dim: int) -> None:
    for tau in (0.0, 1.0, 7.0, 60.0):  # a series that ends, for the Power Spherical
        for cosine in (-0.95, -0.3, 0.4, 0.99):
            expected = _series(guide, dim, tau, cosine)
            assert _at(guide, dim, tau, cosine) == pytest.approx(expected, abs=2e-14, rel=2e-14), (tau, cosine)


def test_integral_agrees_with_the_series_at_a_fractional_concentration() -> None:
    for dim, tau in ((8, 9.5), (16, 4.25), (128, 30.5)):
        for cosine in (-0.95, -0.3, 0.4, 0.99):
            expected = _series("power_spherical", dim, tau, cosine)
            assert _at("power_spherical", dim, tau, cosine) == pytest.approx(expected, abs=2e-14)


def _direct_in_space(guide: str, tau: float, cosine: float) -> float:
    """d = 3: the mean of log(1 + μᵀz) over a parallel is harmonic on either side of the one through −μ."""
    c, k = mpmath.mpf(cosine), mpmath.mpf(tau)

    def log_density(w: mpmath.mpf) -> mpmath.mpf:
        if guide == "von_mises_fisher":
            return -k * w + mpmath.log(k / -mpmath.expm1(-2 * k))
        return k * mpmath.log1p(-w / 2) + mpmath.log((k + 1) / 2) if w < 2 else -mpmath.inf

    def integrand(w: mpmath.mpf) -> mpmath.mpf:  # w = 1 − t
        height = (2 - w) * (1 + c) if w < 1 + c else w * (1 - c)
        return mpmath.exp(log_density(w)) * mpmath.log(height / 2)

    scale = 1 / (k + 1)
    points = {mpmath.mpf(0), mpmath.mpf(2), 1 + c, *(scale * 2**i for i in range(-1, 8))}
    return float(mpmath.quad(integrand, sorted(p for p in points if p <= 2)))


@GUIDES
def test_integral_agrees_with_quadrature_over_the_sphere_in_space(guide: str) -> None:
    for tau in (0.3, 12.5, 500.0, 1e6):
        for cosine in (-0.999, -0.4, 0.7, 0.9999):
            expected = _direct_in_space(guide, tau, cosine)
            got = _at(guide, 3, tau, cosine)
            assert got == pytest.approx(expected, abs=1e-13, rel=1e-13), (tau, cosine)


@GUIDES
def test_integral_agrees_with_quadrature_over_the_circle(guide: str) -> None:
    for tau, cosine in ((0.5, -0.4), (3.5, 0.7), (40.0, -0.9)):
        away = mpmath.acos(cosine)

        cuts = sorted({-mpmath.pi, mpmath.mpf(0), mpmath.pi, away - mpmath.pi})  # where a logarithm is singular

        def weight(angle: mpmath.mpf, k: float = tau) -> mpmath.mpf:
            half = mpmath.cos(angle / 2) ** 2
            return mpmath.exp(2 * k * (half - 1)) if guide == "von_mises_fisher" else half**k

        def weighted(
            angle: mpmath.mpf, a: mpmath.mpf = away, w: Callable[[mpmath.mpf], mpmath.mpf] = weight
        ) -> mpmath.mpf:
            return w(angle) * mpmath.log(2 * mpmath.cos((angle - a) / 2) ** 2 + mpmath.mpf(10) ** -60)

        expected = float(mpmath.quad(weighted, cuts) / mpmath.quad(weight, cuts))
        assert _at(guide, 2, tau, cosine) == pytest.approx(expected, abs=1e-12), (tau, cosine)


@pytest.mark.parametrize("dim", [2, 3, 8, 16, 128, 2048, 10_000])
def test_power_spherical_at_equal_and_opposite_directions_is_a_difference_of_digammas(dim: int) -> None:
    b = mpmath.mpf(dim - 1) / 2
    for tau in (0.0, 1e-3, 1.0, 33.3, 1e3, 1e6, 1e12):
        kappa = torch.tensor(tau, dtype=torch.float64)
        zero, one = torch.zeros_like(kappa), torch.ones_like(kappa)
        same = power_spherical_cross_log_height(dim, kappa, zero, one).item()
        opposite = power_spherical_cross_log_height(dim, kappa, one, zero).item()
        assert same == pytest.approx(float(mpmath.digamma(tau + b) - mpmath.digamma(tau + 2 * b)), rel=1e-14)
        assert opposite == pytest.approx(float(mpmath.digamma(b) - mpmath.digamma(tau + 2 * b)), rel=1e-13)


@pytest.mark.parametrize("dim", [3, 16, 128, 2048])
def test_von_mises_fisher_at_equal_and_opposite_directions_agrees_with_quadrature_of_the_cosine(dim: int) -> None:
    power = mpmath.mpf(dim - 3) / 2
    for tau in (0.5, 40.0, 1e3):
        k = mpmath.mpf(tau)
        mode = (mpmath.sqrt(power**2 + k**2) - power) / k
        reach = 30 / mpmath.sqrt(k + dim)
        cuts = sorted(
            {mpmath.mpf(-1), mpmath.mpf(1), max(mpmath.mpf(-1), mode - reach), min(mpmath.mpf(1), mode + reach)}
        )

        def mean(sign: int, k: mpmath.mpf = k, m: mpmath.mpf = mode, cuts: list[mpmath.mpf] = cuts) -> float:
            def weight(t: mpmath.mpf) -> mpmath.mpf:
                return mpmath.exp(k * (t - m)) * (((1 - t * t) / (1 - m * m)) ** power if power else 1)

            def weighted(t: mpmath.mpf) -> mpmath.mpf:
                return weight(t) * mpmath.log((1 + sign * t) / 2) if 1 + sign * t > 0 else mpmath.mpf(0)

            return float(mpmath.quad(weighted, cuts) / mpmath.quad(weight, cuts))

        for sign in (1, -1):
            got = _at("von_mises_fisher", dim, tau, float(sign)) - float(mpmath.log(2))
            assert got == pytest.approx(mean(sign), rel=1e-12, abs=1e-13)


@GUIDES
def test_concentrated_guide_leaves_the_log_height_of_its_direction(guide: str) -> None:
    for dim in (2, 3, 16, 128, 2048):
        for cosine in (-0.9, 0.0, 0.9):
            for tau in (1e9, 1e12):
                bias = _at(guide, dim, tau, cosine) - float(mpmath.log1p(cosine))
                # −(d−1)c/(1+c) − (1−c)/(1+c) to first order, over 2τ (vMF) or τ (PS), from the Laplacian of the sphere
                slope = -((dim - 1) * cosine + 1 - cosine) / (1 + cosine)
                expected = slope / (2 * tau) if guide == "von_mises_fisher" else slope / tau
                assert bias == pytest.approx(expected, rel=1e-4, abs=1e-15)


def test_deficit_keeps_its_relative_accuracy_beside_zero() -> None:
    # dΔ/de at e = 0 is τ/(τ+b−1), from the hypergeometric series of E log height
    for dim, tau in ((3, 5.0), (16, 1e4), (2048, 3.0)):
        b = (dim - 1) / 2
        e = torch.tensor(1e-13, dtype=torch.float64)
        got = power_spherical_log_height_deficit(dim, torch.tensor(tau, dtype=torch.float64), e, 1 - e).item()
        assert got == pytest.approx(1e-13 * tau / (tau + b - 1), rel=1e-8)
        assert power_spherical_log_height_deficit(dim, e.new_tensor(tau), e * 0, e * 0 + 1).item() == 0


@GUIDES
def test_value_and_two_derivatives_are_finite_everywhere(guide: str) -> None:
    concentration = torch.tensor([0.0, 1e-45, 1e-6, 1.0, 1e3, 1e6, 1e12, 1e20, 1e38], dtype=torch.float64)
    gap = torch.tensor([0.0, 1e-300, 1e-30, 1e-16, 1e-8, 0.5, 1 - 1e-12, 1.0], dtype=torch.float64)
    for dim in (2, 3, 61, 62, 2048, 100_000):
        tau = concentration[:, None].expand(9, 8).clone().requires_grad_()
        e = gap.expand(9, 8).clone().requires_grad_()
        value = FUNCTIONS[guide](dim, tau, e, 1 - e)
        first = torch.autograd.grad(value.sum(), (tau, e), create_graph=True)
        second = torch.autograd.grad(first[0].sum() + first[1].sum(), (tau, e))
        for tensor in (value, *first, *second):
            assert tensor.isfinite().all()
        assert (value <= 0).all()


@GUIDES
@pytest.mark.parametrize("dim", [2, 3, 70])
def test_derivatives_pass_gradcheck(guide: str, dim: int) -> None:
    tau = torch.tensor([0.5, 3.0, 40.0, 500.0], dtype=torch.float64, requires_grad=True)
    e = torch.tensor([0.1, 0.5, 0.9, 0.01], dtype=torch.float64, requires_grad=True)

    def function(t: Tensor, x: Tensor) -> Tensor:
        return FUNCTIONS[guide](dim, t, x, 1 - x)

    assert torch.autograd.gradcheck(function, (tau, e), atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (tau, e), atol=1e-5, rtol=1e-3)


@GUIDES
def test_vmap_and_compilation_change_nothing(guide: str) -> None:
    tau, e = torch.logspace(-2, 4, 5).double(), torch.linspace(0, 1, 5).double()

    def both(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([FUNCTIONS[guide](dim, t, x, 1 - x) for dim in (3, 64)])

    expected = both(tau, e)
    torch.testing.assert_close(torch.vmap(both, out_dims=1)(tau, e), expected)
    torch.testing.assert_close(torch.compile(both, backend="aot_eager", fullgraph=True)(tau, e), expected)
