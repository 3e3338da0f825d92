"""Normalisers of products of experts: vMF in closed form (C4), Power Spherical pairs (C25), Monte Carlo beyond."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ssl_as_inference.distributions import (
    PowerSpherical,
    ProductOfExperts,
    SphericalUniform,
    VonMisesFisher,
    monte_carlo_log_normalizer,
)
from ssl_as_inference.special import von_mises_fisher_log_normalizer_plus_concentration
from ssl_as_inference.sphere import log_surface_area, normalize


def _directions(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def _exact_vmf(mean_direction: Tensor, concentration: Tensor) -> float:
    """Σ log C(κ_i) − log C(R) with 60 digits, the directions taken as the unit vectors that they round."""
    with mpmath.workdps(60):
        dim = mean_direction.size(-1)
        kappa = [mpmath.mpf(k) for k in concentration.tolist()]
        vectors = [[mpmath.mpf(x) for x in row] for row in mean_direction.tolist()]
        lengths = [mpmath.sqrt(mpmath.fsum(x * x for x in row)) for row in vectors]
        eta = [
            mpmath.fsum(k * row[i] / length for k, row, length in zip(kappa, vectors, lengths, strict=True))
            for i in range(dim)
        ]
        length = mpmath.sqrt(mpmath.fsum(x * x for x in eta))

        def log_c(k: mpmath.mpf) -> mpmath.mpf:
            return -mpmath.log(mpmath.hyp0f1(mpmath.mpf(dim) / 2, k * k / 4))

        area = (len(kappa) - 1) * (
            mpmath.log(2) + mpmath.mpf(dim) / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(mpmath.mpf(dim) / 2)
        )
        return float(mpmath.fsum(log_c(k) for k in kappa) - log_c(length) - area)


@pytest.mark.parametrize("dim", [2, 3, 8, 128, 2048])
@pytest.mark.parametrize("views", [1, 2, 3, 8])
def test_von_mises_fisher_normaliser_is_exact_for_experts_that_agree_and_that_do_not(dim: int, views: int) -> None:
    axis = _directions(dim, seed=1)
    for spread in (1e-6, 1e-2, 1.0, 30.0):
        mu = normalize(axis + spread * _directions(views, dim, seed=2))
        for scale in (1e-2, 5.0, 1e3, 1e5):
            kappa = scale * torch.linspace(1, 3, views, dtype=torch.float64)
            got = ProductOfExperts(VonMisesFisher(mu, kappa)).log_normalizer().item()
            # What is left is the rounding of the directions' lengths, which moves Σκ_i − R relatively by 1e-16.
            assert got == pytest.approx(_exact_vmf(mu, kappa), rel=1e-12, abs=1e-12), (spread, scale)


def test_von_mises_fisher_normaliser_keeps_its_digits_in_single_precision() -> None:
    for dim in (3, 128):
        mu = normalize(_directions(dim, seed=1) + 1e-3 * _directions(2, dim, seed=2)).float()
        kappa = torch.tensor([1e6, 2e6])
        got = ProductOfExperts(VonMisesFisher(mu, kappa)).log_normalizer()
        assert got.dtype == torch.float32
        assert got.item() == pytest.approx(_exact_vmf(mu.double(), kappa.double()), abs=1e-4, rel=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 16, 2048])
def test_experts_that_cancel_leave_a_finite_gradient_and_the_exact_curvature(dim: int) -> None:
    mu = _directions(dim).expand(2, dim) * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)

    def log_z(kappa: Tensor) -> Tensor:
        return ProductOfExperts(VonMisesFisher(mu, kappa, validate_args=False)).log_normalizer()

    kappa = torch.tensor([7.0, 7.0], dtype=torch.float64, requires_grad=True)
    gradient, hessian = (
        torch.autograd.functional.jacobian(log_z, kappa),
        torch.autograd.functional.hessian(log_z, kappa),
    )
    # log Z = Σ log C(κ_i) + R²/2d + …, R = κ₁ − κ₂
    single = VonMisesFisher(mu, kappa)
    slope = -single.mean_resultant_length
    (curvature,) = torch.autograd.grad(slope.sum(), kappa)
    torch.testing.assert_close(gradient, slope.detach(), rtol=1e-12, atol=1e-14)
    expected = torch.diag(curvature) + torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64) / dim
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
def test_normaliser_passes_gradcheck_in_directions_and_concentrations(family: type) -> None:
    for spread in (0.3, 4.0):  # agreeing, disagreeing
        vectors = (torch.eye(4, dtype=torch.float64)[:1] + spread * _directions(2, 4, seed=3)).requires_grad_()
        kappa = torch.tensor([3.0, 40.0], dtype=torch.float64, requires_grad=True)

        def log_z(v: Tensor, k: Tensor) -> Tensor:
            return ProductOfExperts(family(normalize(v), k, validate_args=False)).log_normalizer()

        assert torch.autograd.gradcheck(log_z, (vectors, kappa), atol=1e-6)
        assert torch.autograd.gradgradcheck(log_z, (vectors, kappa), atol=1e-5, rtol=1e-3)


def test_gradient_of_the_exact_loss_is_moment_matching() -> None:
    """C16: the derivative of log Z in η is that of −log C(R), A(R)η/R; agreeing and disagreeing experts alike."""
    for angle in (0.2, 1.4):
        across = torch.tensor([math.sin(angle), -math.sin(angle)], dtype=torch.float64)
        mu = torch.stack([torch.full_like(across, math.cos(angle)), across, 0 * across], dim=-1)
        kappa = torch.tensor([9.0, 9.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(ProductOfExperts(VonMisesFisher(mu, kappa)).log_normalizer(), kappa)
        length = 18 * math.cos(angle)
        pull = VonMisesFisher(mu[0], torch.tensor(length, dtype=torch.float64)).mean_resultant_length * math.cos(angle)
        expected = pull - VonMisesFisher(mu, kappa.detach()).mean_resultant_length
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_one_power_spherical_expert_is_normalised() -> None:
    product = ProductOfExperts(PowerSpherical(_directions(5, 1, 6), 4.0))
    assert torch.equal(product.log_normalizer(), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_power_spherical_pair_is_normalised_by_its_normaliser(dim: int) -> None:
    mu, kappa = _directions(dim, seed=4), torch.tensor([2.5, 6.0], dtype=torch.float64)
    mu = torch.stack([mu, normalize(mu + 0.8 * _directions(dim, seed=5))])
    product = ProductOfExperts(PowerSpherical(mu, kappa))
    torch.manual_seed(0)
    z = SphericalUniform(dim, dtype=torch.float64).sample((200_000,))
    weight = (product.log_prob(z) - product.log_normalizer() + log_surface_area(dim)).exp()
    assert abs((weight.mean() - 1) / (weight.std() / math.sqrt(len(z)))) < 4


@pytest.mark.parametrize("dim", [2, 3, 8, 128])
@pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
def test_monte_carlo_normaliser_is_right_within_its_stated_error(dim: int, family: type, spread: float) -> None:
    torch.manual_seed(1)
    mu = normalize(_directions(dim, seed=6) + spread * _directions(4, 2, dim, seed=7))
    product = ProductOfExperts(family(mu, torch.tensor([5.0, 60.0], dtype=torch.float64)))
    estimate, error = monte_carlo_log_normalizer(product, 5000)
    assert estimate.shape == error.shape == (4,)
    assert (error < 0.15).all()
    assert ((estimate - product.log_normalizer()) / error).abs().max() < 4


def test_monte_carlo_error_is_the_spread_of_the_estimate() -> None:
    torch.manual_seed(2)
    mu = normalize(_directions(5, seed=8) + 0.7 * _directions(3, 5, seed=9)).expand(300, 3, 5)
    product = ProductOfExperts(PowerSpherical(mu, torch.tensor([5.0, 6.0, 30.0], dtype=torch.float64)))
    estimate, error = monte_carlo_log_normalizer(product, 500)
    assert (estimate.std() / error.mean()).item() == pytest.approx(1, abs=0.15)


def test_monte_carlo_gradient_is_that_of_the_normaliser() -> None:
    torch.manual_seed(3)
    kappa = torch.tensor([8.0, 15.0], dtype=torch.float64, requires_grad=True)
    mu = normalize(_directions(3, seed=10) + 0.5 * _directions(2, 3, seed=11))
    product = ProductOfExperts(PowerSpherical(mu, kappa))
    (exact,) = torch.autograd.grad(product.log_normalizer(), kappa)
    (estimate,) = torch.autograd.grad(monte_carlo_log_normalizer(product, 200_000)[0], kappa)
    torch.testing.assert_close(estimate, exact, rtol=0.05, atol=1e-3)


def test_more_than_two_power_spherical_experts_name_the_remedy() -> None:
    product = ProductOfExperts(PowerSpherical(_directions(3, 4), 2.0))
    with pytest.raises(NotImplementedError, match=r"of 3 Power Spherical experts.*monte_carlo_log_normalizer"):
        product.log_normalizer()


def test_bad_arguments_of_the_estimate_are_refused() -> None:
    product = ProductOfExperts(PowerSpherical(_directions(3, 4), 2.0))
    with pytest.raises(ValueError, match="samples must be an integer >= 2, got 1"):
        monte_carlo_log_normalizer(product, 1)
    with pytest.raises(ValueError, match="got SphericalUniform"):
        monte_carlo_log_normalizer(ProductOfExperts(SphericalUniform(3, batch_shape=(2,))), 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 16])
def test_von_mises_fisher_products_hold_at_every_concentration(dim: int, dtype: torch.dtype) -> None:
    mu = _directions(3, dim).to(dtype)
    share = torch.tensor([1.0, 0.5, 0.25], dtype=dtype)
    unit = (share.double().unsqueeze(-1) * mu.double()).sum(0)
    largest = (1e-300, 1e-200, 1e200, 1e300) if dtype == torch.float64 else ()
    for scale in (1e-37, 1e-30, 1e-22, 1e-10, 1.0, 1e10, 1.4e19, 1e25, 1e37, *largest):
        experts = VonMisesFisher(mu, scale * share)
        posterior = ProductOfExperts(experts).normalized()
        assert isinstance(posterior, VonMisesFisher)
        length = torch.linalg.vector_norm(unit)
        tolerance = 20 * torch.finfo(dtype).eps
        torch.testing.assert_close(posterior.concentration.double() / scale, length, rtol=tolerance, atol=0)
        torch.testing.assert_close(posterior.mean_direction.double(), unit / length, rtol=0, atol=tolerance)
        # log Z = Σ log C(κ_i) − log C(R), from the same products of float64 numbers.
        peaks = von_mises_fisher_log_normalizer_plus_concentration(
            dim, torch.cat([scale * share.double(), scale * length[None]])
        )
        fall = scale * (share.double() * (1 - mu.double() @ (unit / length))).sum()
        expected = peaks[:3].sum() - peaks[3] - fall
        got = ProductOfExperts(experts).log_normalizer()
        torch.testing.assert_close(got.double(), expected, rtol=100 * tolerance, atol=100 * tolerance)


def test_products_of_uniform_experts_are_uniform() -> None:
    experts = SphericalUniform(3, batch_shape=(2, 4), dtype=torch.float64)
    product = ProductOfExperts(experts)
    z = _directions(2, 3)
    posterior = product.normalized()
    assert posterior.batch_shape == (2,)
    torch.testing.assert_close(product.log_prob(z) - product.log_normalizer(), posterior.log_prob(z))
    torch.testing.assert_close(
        product.log_normalizer(), torch.full((2,), -3 * math.log(4 * math.pi), dtype=torch.float64)
    )
