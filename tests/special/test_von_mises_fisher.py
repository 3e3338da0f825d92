"""Normalisers and moments of the von Mises–Fisher distribution against references with 60 digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import mpmath
import pytest
import torch
from mpmath import mpf
from torch import Tensor

from ssl_as_inference.special import (
    von_mises_fisher_entropy,
    von_mises_fisher_kl_to_uniform,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_tangent_variance,
)

QUANTITIES: dict[str, Callable[[int, Tensor], Tensor]] = {
    "log C": von_mises_fisher_log_normalizer,
    "log C + κ": von_mises_fisher_log_normalizer_plus_concentration,
    "A": von_mises_fisher_mean_resultant_length,
    "1 − A": von_mises_fisher_mean_resultant_complement,
    "entropy": von_mises_fisher_entropy,
    "KL": von_mises_fisher_kl_to_uniform,
}
GRID_DIMS = (2, 3, 5, 16, 64, 128, 512, 2048, 8192, 65536)
GRID_KAPPAS = (1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e6)
# both sides of the switch from the series to the expansion, and of the dimension from which the series is not needed
SWITCH_DIMS = (2, 3, 4, 5, 6, 10, 17, 29, 30, 45, 60, 61, 62, 63, 100, 300, 1000, 3000, 100_000)
SWITCH_KAPPAS = (17.3, 26.942194938773145, 29.999999, 30.0, 30.000001, 33.3)
EXTREME_KAPPAS = (0.0, 1e-45, 1e-38, 1e-20, 1e-7, 0.5, 29.9999, 30.0, 1e5, 1e12, 1e20, 1e38)


def _bessel_by_series(order: mpf, kappa: mpf) -> mpf:
    x, term, total, k = kappa * kappa / 4, mpf(1), mpf(1), 0
    while term > total * mpf(10) ** -(mpmath.mp.dps + 2):
        k += 1
        term *= x / (k * (order + k))
        total += term
    return total * mpmath.exp(order * mpmath.log(kappa / 2) - mpmath.loggamma(order + 1))


def _bessel_at_large_argument(order: mpf, kappa: mpf) -> mpf:  # exp(−κ) I, DLMF 10.40.1
    term, total, j = mpf(1), mpf(1), 0
    while abs(term) > mpf(10) ** -(mpmath.mp.dps - 2):
        j += 1
        term *= -(4 * order**2 - (2 * j - 1) ** 2) / (j * 8 * kappa)
        total += term
    return total / mpmath.sqrt(2 * mpmath.pi * kappa)


@functools.cache
def reference(dim: int, concentration: float) -> dict[str, mpf]:
    """All quantities from Bessel functions with 60 digits left after every cancellation."""
    nu, kappa = mpf(dim) / 2 - 1, mpf(concentration)
    far = kappa > 2000 and nu**2 / kappa < 3000
    with mpmath.workdps(80 + (int(nu**2 / kappa) if far else 0)):
        bessel = _bessel_at_large_argument if far else _bessel_by_series
        first, second = bessel(nu, kappa), bessel(nu + 1, kappa)
        log_i = mpmath.log(first) + (kappa if far else 0)
        log_c = nu * mpmath.log(kappa) - (nu + 1) * mpmath.log(2 * mpmath.pi) - log_i
        log_area = mpmath.log(2) + (nu + 1) * mpmath.log(mpmath.pi) - mpmath.loggamma(nu + 1)
        a = second / first
        slope = 1 - a * a - (dim - 1) * a / kappa
        return {
            "log C": log_c,
            "log C + κ": log_c + kappa,
            "A": a,
            "1 − A": 1 - a,
            "entropy": -log_c - kappa * a,
            "KL": log_c + log_area + kappa * a,
            "A′": slope,
            "A″": -2 * a * slope - (dim - 1) * (slope / kappa - a / kappa**2),
        }


def _error(value: float, exact: mpf) -> float:
    return float(abs(mpf(value) - exact) / max(mpf(1), abs(exact)))


def _derivative(function: Callable[[int, Tensor], Tensor], dim: int, kappa: Tensor, order: int) -> Tensor:
    value = function(dim, kappa)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
    return value.detach()


@pytest.mark.parametrize("dim", GRID_DIMS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_quantity_agrees_with_60_digits_on_the_grid(quantity: str, dim: int) -> None:
    double = QUANTITIES[quantity](dim, torch.tensor(GRID_KAPPAS, dtype=torch.float64)).tolist()
    single_kappas = torch.tensor(GRID_KAPPAS, dtype=torch.float32)
    single = QUANTITIES[quantity](dim, single_kappas).tolist()
    for kappa, value in zip(GRID_KAPPAS, double, strict=True):
        assert _error(value, reference(dim, kappa)[quantity]) <= 1e-14, kappa
    for kappa, value in zip(single_kappas.tolist(), single, strict=True):
        assert _error(value, reference(dim, kappa)[quantity]) <= 2e-7, kappa


@pytest.mark.parametrize("dim", SWITCH_DIMS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_quantity_is_exact_on_both_sides_of_the_switch_between_its_representations(quantity: str, dim: int) -> None:
    values = QUANTITIES[quantity](dim, torch.tensor(SWITCH_KAPPAS, dtype=torch.float64)).tolist()
    for kappa, value in zip(SWITCH_KAPPAS, values, strict=True):
        assert _error(value, reference(dim, kappa)[quantity]) <= 1e-14, kappa


@pytest.mark.parametrize("dim", [*GRID_DIMS, 61, 62, 100_000])
def test_derivatives_of_the_resultant_are_exact_relative_to_themselves(dim: int) -> None:
    kappas = (*GRID_KAPPAS, *SWITCH_KAPPAS) if dim < 100_000 else SWITCH_KAPPAS
    kappa = torch.tensor(kappas, dtype=torch.float64, requires_grad=True)
    slope = _derivative(von_mises_fisher_mean_resultant_length, dim, kappa, 1).tolist()
    curvature = _derivative(von_mises_fisher_mean_resultant_length, dim, kappa, 2).tolist()
    for point, first, second in zip(kappas, slope, curvature, strict=True):
        exact = reference(dim, point)
        assert abs(first - exact["A′"]) <= 5e-15 * abs(exact["A′"]), point
        assert abs(second - exact["A″"]) <= 1e-13 * abs(exact["A″"]), point


@pytest.mark.parametrize("dim", [2, 3, 17, 61])
def test_derivatives_of_the_formulas_hold_at_the_switch_itself(dim: int) -> None:
    kappa = torch.tensor([30.0, math.nextafter(30.0, 31.0)], dtype=torch.float64, requires_grad=True)
    ratio = _derivative(von_mises_fisher_tangent_variance, dim, kappa, 1)
    third = _derivative(von_mises_fisher_mean_resultant_length, dim, kappa, 3)
    for tensor in (ratio, third):
        assert tensor[0].item() == pytest.approx(tensor[1].item(), rel=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 61, 62, 2048, 65536])
def test_small_kl_and_small_complement_keep_their_relative_accuracy(dim: int) -> None:
    small = torch.tensor([1e-6, 1e-3, 0.1, 1.0], dtype=torch.float64)
    for kappa, value in zip(small.tolist(), von_mises_fisher_kl_to_uniform(dim, small).tolist(), strict=True):
        exact = reference(dim, kappa)["KL"]
        assert abs(value - exact) <= 1e-14 * exact, kappa
    large = torch.tensor([100.0, 1e4, 1e6], dtype=torch.float64)
    complement = von_mises_fisher_mean_resultant_complement(dim, large).tolist()
    for kappa, value in zip(large.tolist(), complement, strict=True):
        exact = reference(dim, kappa)["1 − A"]
        assert abs(value - exact) <= 1e-14 * exact, kappa


@pytest.mark.parametrize("dim", [2, 3, 4, 61, 62, 128, 65536, 100_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_value_and_two_derivatives_are_finite_at_the_extremes(quantity: str, dtype: torch.dtype, dim: int) -> None:
    kappa = torch.tensor(EXTREME_KAPPAS, dtype=dtype, requires_grad=True)
    for order in range(3):
        value = _derivative(QUANTITIES[quantity], dim, kappa, order)
        assert value.dtype == dtype
        assert value.isfinite().all(), order


@pytest.mark.parametrize("dim", [2, 3, 61, 62, 2048])
def test_limits_at_zero_concentration_are_those_of_the_uniform_distribution(dim: int) -> None:
    kappa = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_area = float(mpmath.log(2) + mpf(dim) / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(mpf(dim) / 2))
    assert _error(von_mises_fisher_entropy(dim, kappa).item(), mpf(log_area)) < 1e-14
    assert von_mises_fisher_kl_to_uniform(dim, kappa).item() == 0
    assert von_mises_fisher_mean_resultant_length(dim, kappa).item() == 0
    assert _derivative(von_mises_fisher_mean_resultant_length, dim, kappa, 1).item() == pytest.approx(
        1 / dim, rel=1e-14
    )


@pytest.mark.parametrize("dim", [2, 3, 16, 61, 62, 2048])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_autograd_agrees_with_finite_differences_twice(quantity: str, dim: int) -> None:
    kappa = torch.tensor([0.3, 29.5, 30.5, 800.0], dtype=torch.float64, requires_grad=True)
    step = 1e-6 if dim < 100 else 1e-4  # log C ~ d log d loses its last digits to the difference quotient

    def function(x: Tensor) -> Tensor:
        return QUANTITIES[quantity](dim, x)

    assert torch.autograd.gradcheck(function, kappa, eps=step, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradgradcheck(function, kappa, eps=step, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1, 4)])
def test_any_batch_shape_is_kept(shape: tuple[int, ...]) -> None:
    for function in QUANTITIES.values():
        assert function(5, torch.ones(shape)).shape == shape


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_vmap_compilation_and_autocast_change_nothing(quantity: str) -> None:
    function = functools.partial(QUANTITIES[quantity], 5)
    kappa = torch.tensor([[0.0, 0.7, 29.0], [31.0, 1e3, 1e30]], requires_grad=True)
    expected = function(kappa)
    (slope,) = torch.autograd.grad(expected.sum(), kappa)
    assert torch.equal(torch.vmap(function)(kappa), expected)
    assert torch.equal(torch.vmap(torch.vmap(torch.func.grad(function)))(kappa.detach()), slope)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")(kappa)
    assert torch.equal(compiled, expected)
    assert torch.equal(torch.autograd.grad(compiled.sum(), kappa)[0], slope)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(kappa), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dim", [2, 3, 61, 62, 2048])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_gpu_agrees_with_cpu_without_synchronising(
    quantity: str, dim: int, never_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    kappa = torch.tensor([0.0, 1e-6, 0.5, 29.0, 31.0, 1e6], dtype=torch.float64)
    on_gpu = kappa.cuda()
    with never_waiting():
        value = QUANTITIES[quantity](dim, on_gpu)
    torch.testing.assert_close(value.cpu(), QUANTITIES[quantity](dim, kappa), rtol=1e-14, atol=1e-14)
