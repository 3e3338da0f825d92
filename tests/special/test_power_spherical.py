"""Normaliser, moments and entropies of the Power Spherical distribution against mpmath."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference import special
from ssl_as_inference.sphere import log_surface_area

MPMATH_DIGITS = 150  # the reference cancels, too: κ² at 1e-45 takes 90 digits

Function = Callable[[int, Tensor], Tensor]
FUNCTIONS: dict[str, Function] = {
    "log_normalizer": special.power_spherical_log_normalizer,
    "log_normalizer_plus_peak": special.power_spherical_log_normalizer_plus_peak,
    "mean_log_height": special.power_spherical_mean_log_height,
    "mean_resultant_length": special.power_spherical_mean_resultant_length,
    "entropy": special.power_spherical_entropy,
    "kl_to_uniform": special.power_spherical_kl_to_uniform,
}
DIMS = (2, 3, 5, 16, 20, 33, 34, 40, 100, 128, 300, 1000, 2048, 65536, 100_000)
CONCENTRATIONS = (0.0, 1e-45, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e6, 1e9, 1e17, 1e38)


@cache
def reference(dim: int, concentration: float) -> dict[str, tuple[mpmath.mpf, mpmath.mpf]]:
    """Value and first derivative of each function."""
    kappa, b = mpmath.mpf(concentration), mpmath.mpf(dim - 1) / 2
    a = b + kappa
    log_c0 = mpmath.loggamma(2 * b) - mpmath.loggamma(b) - 2 * b * mpmath.log(2) - b * mpmath.log(mpmath.pi)
    peak = mpmath.loggamma(a + b) - mpmath.loggamma(a) - 2 * b * mpmath.log(2) - b * mpmath.log(mpmath.pi)
    digamma_gap = mpmath.digamma(a + b) - mpmath.digamma(a)
    height = mpmath.log(2) - digamma_gap
    variance = mpmath.psi(1, a) - mpmath.psi(1, a + b)
    log_c = peak - kappa * mpmath.log(2)
    entropy = -log_c - kappa * height
    return {
        "log_normalizer": (log_c, -height),
        "log_normalizer_plus_peak": (peak, digamma_gap),
        "mean_log_height": (height, variance),
        "mean_resultant_length": (kappa / (kappa + 2 * b), 2 * b / (kappa + 2 * b) ** 2),
        "entropy": (entropy, -kappa * variance),
        "kl_to_uniform": (-entropy - log_c0, kappa * variance),
    }


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 2e-7)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivative_agree_with_sixty_digits(name: str, dtype: torch.dtype, bound: float) -> None:
    for dim in DIMS:
        kappa = torch.tensor(CONCENTRATIONS, dtype=dtype, requires_grad=True)
        value = FUNCTIONS[name](dim, kappa)
        (slope,) = torch.autograd.grad(value.sum(), kappa)
        assert value.dtype == dtype
        for k, v, s in zip(kappa.tolist(), value.tolist(), slope.tolist(), strict=True):
            for got, expected in zip((v, s), reference(dim, k)[name], strict=True):
                assert float(abs(got - expected)) <= bound * max(1.0, abs(float(expected))), (dim, k, got, expected)


@pytest.mark.parametrize("dim", [*range(18, 42), 100, 300, 1000, 2048, 65536, 100_000])
def test_log_normalizer_loses_nothing_next_to_its_zero(dim: int) -> None:
    start = dim if dim > 25 else 3
    zero = 0.0
    if dim > 18:  # on the spheres below, whose area is more than one, log C is negative throughout
        zero = float(mpmath.findroot(lambda k: reference(dim, k)["log_normalizer"][0], (start, 9 * dim), "anderson"))
    near = [zero * (1 + step) for step in (0, 1e-15, -1e-12, 1e-9, -1e-6, 1e-4, -1e-3, 0.01, -0.1, 0.3, -0.6, 2)]
    kappa = torch.tensor([*near, 0.01, 1.0, 20.0, 500.0, 1e5], dtype=torch.float64)
    for k, value in zip(kappa.tolist(), special.power_spherical_log_normalizer(dim, kappa).tolist(), strict=True):
        exact = reference(dim, k)["log_normalizer"][0]
        assert float(abs(value - exact)) <= 5e-15 * max(1.0, abs(float(exact))), (k, value)


@pytest.mark.parametrize("name", ["kl_to_uniform", "mean_resultant_length"])
def test_what_vanishes_with_the_concentration_keeps_its_relative_accuracy(name: str) -> None:
    for dim, kappa in itertools.product(DIMS, (1e-45, 1e-12, 1e-6, 1e-3, 0.1, 1.0)):
        value = FUNCTIONS[name](dim, torch.tensor(kappa, dtype=torch.float64)).item()
        assert float(abs(value / reference(dim, kappa)[name][0] - 1)) < 1e-14


def test_slope_of_the_peak_keeps_its_relative_accuracy_where_it_vanishes() -> None:
    for dim, concentration in itertools.product(DIMS, CONCENTRATIONS):
        kappa = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(special.power_spherical_log_normalizer_plus_peak(dim, kappa), kappa)
        expected = reference(dim, concentration)["log_normalizer_plus_peak"][1]
        assert float(abs(slope.item() / expected - 1)) < 2e-15


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_two_derivatives_are_finite_everywhere(name: str, dtype: torch.dtype) -> None:
    for dim in (2, 3, 1000, 100_000):
        kappa = torch.cat([torch.zeros(1), torch.logspace(-45, 38, 250, dtype=torch.float64).to(dtype)]).to(dtype)
        kappa.requires_grad_()
        value = FUNCTIONS[name](dim, kappa)
        (first,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), kappa)
        for tensor in (value, first, second):
            assert tensor.isfinite().all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dim", [2, 5, 40, 2048])
def test_derivatives_pass_gradcheck(name: str, dim: int) -> None:
    kappa = torch.tensor([0.3, 2.0, 77.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: FUNCTIONS[name](dim, k), kappa)
    assert torch.autograd.gradgradcheck(lambda k: FUNCTIONS[name](dim, k), kappa)


@pytest.mark.parametrize("dim", DIMS)
def test_no_concentration_is_the_uniform_distribution(dim: int) -> None:
    zero = torch.zeros((), dtype=torch.float64)
    area = log_surface_area(dim)
    assert special.power_spherical_entropy(dim, zero).item() == area
    assert special.power_spherical_log_normalizer(dim, zero).item() == pytest.approx(-area, rel=1e-14, abs=1e-14)
    assert special.power_spherical_kl_to_uniform(dim, zero).item() == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_batch_shape_and_half_precision_are_taken(name: str) -> None:
    for shape in ((), (0,), (3,), (2, 0, 4), (2, 3)):
        assert FUNCTIONS[name](7, torch.ones(shape)).shape == shape
    half = torch.tensor([1.0, 8.0], dtype=torch.bfloat16)
    value = FUNCTIONS[name](7, half)
    torch.testing.assert_close(value, FUNCTIONS[name](7, half.float()))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dim", [3, 64])
def test_vmap_and_autocast_change_nothing(name: str, dim: int) -> None:
    function = FUNCTIONS[name]
    kappa = torch.logspace(-3, 6, 10)
    expected = function(dim, kappa)
    torch.testing.assert_close(torch.vmap(lambda k: function(dim, k))(kappa), expected)
    slope = torch.vmap(torch.func.grad(lambda k: function(dim, k)))(kappa)
    kappa.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(dim, kappa)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), kappa)[0], slope)


@pytest.mark.slow
def test_compilation_in_one_graph_changes_nothing() -> None:
    kappa = torch.logspace(-3, 6, 10, requires_grad=True)

    def everything(k: Tensor) -> Tensor:
        return torch.stack([function(dim, k) for function in FUNCTIONS.values() for dim in (3, 64)])

    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    expected = everything(kappa)
    torch.testing.assert_close(compiled(kappa), expected)
    torch.testing.assert_close(
        torch.autograd.grad(compiled(kappa).sum(), kappa)[0], torch.autograd.grad(expected.sum(), kappa)[0]
    )
