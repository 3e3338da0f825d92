"""The von Mises–Fisher distribution: density, draws and their pathwise derivatives against independent witnesses."""

from __future__ import annotations

import math
import pickle
from typing import Any

import mpmath
import numpy as np
import pyro
import pytest
import scipy.integrate
import scipy.stats
import torch
from pyro.distributions import constraints
from torch import Tensor

from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.distributions.von_mises_fisher_sampling import _propose, draw_gap, rejection_rounds
from ssl_as_inference.special import (
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
)
from ssl_as_inference.special.von_mises_fisher_gap import von_mises_fisher_gap_derivative
from ssl_as_inference.sphere import normalize

DTYPES = [torch.float32, torch.float64]
DIMS = [2, 3, 5, 16, 128, 2048, 65536]
KAPPAS = [0.0, 1e-3, 1.0, 30.0, 1e3, 1e5, 1e8]


def _axis(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    axis = torch.zeros(dim, dtype=dtype)
    axis[0] = 1
    return axis


# --- density ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concentration", [0.0, 0.5, 10.0, 1e3])
def test_density_integrates_to_one_on_the_circle(concentration: float) -> None:
    angle = torch.linspace(-math.pi, math.pi, 20001, dtype=torch.float64)[:-1]
    points = torch.stack([angle.cos(), angle.sin()], -1)
    p = VonMisesFisher(normalize(torch.tensor([0.6, -0.8], dtype=torch.float64)), concentration)
    assert p.log_prob(points).exp().mean().item() * 2 * math.pi == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("concentration", [0.0, 0.5, 10.0, 1e3])
def test_density_integrates_to_one_on_the_sphere_in_space(concentration: float) -> None:
    p = VonMisesFisher(_axis(3), concentration)

    def density(gap: float) -> float:
        sine = math.sqrt(gap * (2 - gap))
        return p.log_prob(torch.tensor([1 - gap, sine, 0.0], dtype=torch.float64)).exp().item()

    points = sorted({min(2.0, j / (concentration + 1)) for j in (0.5, 2, 5, 10, 20, 40)})
    value = sum(
        scipy.integrate.quad(density, a, b, epsabs=1e-13)[0]
        for a, b in zip([0.0, *points], [*points, 2.0], strict=True)
    )
    assert value * 2 * math.pi == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("dim", [2, 3, 5, 16])
@pytest.mark.parametrize("concentration", [1, 20, 500])
def test_log_density_agrees_with_scipy(concentration: int, dim: int) -> None:
    torch.manual_seed(0)
    mean_direction, z = normalize(torch.randn(2, dim, dtype=torch.float64))
    expected = scipy.stats.vonmises_fisher(mean_direction.numpy(), concentration).logpdf(z.numpy())
    assert VonMisesFisher(mean_direction, concentration).log_prob(z).item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("concentration", [1e2, 1e4, 1e6])
def test_float32_log_density_next_to_the_mode_is_that_of_the_directions(concentration: float) -> None:
    torch.manual_seed(1)
    mean_direction = normalize(torch.randn(200, 3))
    z = VonMisesFisher(mean_direction, concentration).sample()
    value = VonMisesFisher(mean_direction, concentration).log_prob(z).double()
    with mpmath.workdps(50):
        for got, m, x in zip(value.tolist(), mean_direction.tolist(), z.tolist(), strict=True):
            cosine = mpmath.fdot(m, x) / mpmath.sqrt(mpmath.fdot(m, m) * mpmath.fdot(x, x))
            kappa = mpmath.mpf(concentration)
            exact = mpmath.log(kappa / (2 * mpmath.pi * (1 - mpmath.exp(-2 * kappa)))) + kappa * (cosine - 1)
            assert abs(got - exact) <= 3e-4


def test_gradients_are_finite_at_the_poles_and_on_the_axes() -> None:
    for dim in (2, 3, 128):
        for concentration in (0.0, 1.0, 1e6):
            kappa = torch.tensor(concentration, requires_grad=True)
            mean_direction = torch.stack([_axis(dim), -_axis(dim)]).float().requires_grad_()
            z = torch.stack([_axis(dim), -_axis(dim)]).float().unsqueeze(1).requires_grad_()
            log_prob = VonMisesFisher(mean_direction, kappa).log_prob(z)
            assert log_prob.isfinite().all()
            draws = VonMisesFisher(mean_direction, kappa).rsample((100,))
            loss = log_prob.sum() + draws.square().mul(torch.arange(dim)).sum()
            for gradient in torch.autograd.grad(loss, (kappa, mean_direction, z)):
                assert gradient.isfinite().all()


def test_log_prob_has_second_derivatives_in_all_its_arguments() -> None:
    torch.manual_seed(15)
    mean_direction, z = normalize(torch.randn(2, 3, dtype=torch.float64)), normalize(torch.randn(4, 2, 3).double())
    kappa = torch.tensor([1.5, 90.0], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (z, mean_direction, kappa)]

    def log_prob(value: Tensor, centre: Tensor, k: Tensor) -> Tensor:
        return VonMisesFisher(normalize(centre), k, validate_args=False).log_prob(normalize(value))

    assert torch.autograd.gradcheck(log_prob, inputs)
    assert torch.autograd.gradgradcheck(log_prob, inputs)


# --- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3, 16])
@pytest.mark.parametrize("concentration", [0.0, 2.0, 200.0])
def test_mean_variance_and_covariance_agree_with_draws(concentration: float, dim: int) -> None:
    torch.manual_seed(2)
    q = VonMisesFisher(normalize(torch.randn(dim, dtype=torch.float64)), concentration)
    z = q.sample((50_000,))
    deviation = z - q.mean
    products = deviation.unsqueeze(-1) * deviation.unsqueeze(-2)
    error = (products.mean(0) - q.covariance_matrix) / (products.std(0) / math.sqrt(len(z)))
    assert error.abs().max() < 5
    assert ((z.mean(0) - q.mean) / (q.variance / len(z)).sqrt()).abs().max() < 4
    torch.testing.assert_close(q.covariance_matrix.diagonal(dim1=-2, dim2=-1), q.variance)
    assert q.covariance_matrix.trace().item() == pytest.approx(1 - q.mean_resultant_length.item() ** 2, rel=1e-12)


def test_entropy_is_the_mean_of_minus_log_density() -> None:
    torch.manual_seed(3)
    for dim, concentration in [(2, 1.0), (16, 50.0), (128, 1e4)]:
        q = VonMisesFisher(_axis(dim), concentration)
        value = -q.log_prob(q.sample((20_000,)))
        assert abs(value.mean() - q.entropy()) < 4 * value.std() / math.sqrt(len(value))


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_cosine_and_its_derivative_agree_with_a_and_its_slope(dtype: torch.dtype, dim: int) -> None:
    torch.manual_seed(dim)
    count = 20_000
    kappa = torch.tensor(KAPPAS, dtype=dtype).repeat(count, 1).requires_grad_()
    gap = VonMisesFisher(_axis(dim, dtype), kappa)._rsample_gap(kappa.shape)
    assert gap.dtype == dtype
    (slope,) = torch.autograd.grad(-gap.sum(), kappa)
    point = torch.tensor(KAPPAS, dtype=torch.float64)
    for value, exact in (
        (gap.detach().double(), von_mises_fisher_mean_resultant_complement(dim, point)),
        (slope.double(), von_mises_fisher_resultant_slope(dim, point)),
    ):
        z_score = (value.mean(0) - exact) / (value.std(0) / math.sqrt(count))
        assert z_score.abs().max() < 4, z_score


@pytest.mark.parametrize("dim", [2, 3, 4, 16, 2048])
@pytest.mark.parametrize("concentration", [0.0, 0.7, 40.0, 1e6])
def test_cosine_follows_its_distribution(concentration: float, dim: int) -> None:
    torch.manual_seed(7)
    gap = draw_gap(dim, torch.full((5000,), concentration)).numpy()
    # an independent distribution function: cumulative trapezoids of the density of the angle
    angle = 2 * np.arcsin(np.sqrt(gap / 2))
    grid = np.linspace(max(0.0, angle.min() * 0.9), min(np.pi, angle.max() * 1.1), 200_001)[1:-1]
    log_density = -2 * concentration * np.sin(grid / 2) ** 2 + (dim - 2) * np.log(np.sin(grid))
    cumulative = scipy.integrate.cumulative_trapezoid(np.exp(log_density - log_density.max()), grid, initial=0)
    uniform = np.interp(angle, grid, cumulative / cumulative[-1])
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim", [2, 3, 16, 2048, 65536])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_draw_lies_on_the_sphere(dtype: torch.dtype, dim: int) -> None:
    torch.manual_seed(4)
    count = 2000 if dim < 1000 else 20
    mean_direction = normalize(torch.randn(count, dim, dtype=dtype))
    for concentration in (0.0, 1.0, 1e3, 1e6, 1e12, 1e30):
        z = VonMisesFisher(mean_direction, concentration).rsample()
        assert z.dtype == dtype
        assert constraints.sphere.check(z).all(), concentration


@pytest.mark.parametrize("dim", [2, 4, 16, 2048, 65536])
def test_acceptance_never_falls_below_its_limit_on_the_circle(dim: int) -> None:
    torch.manual_seed(5)
    for concentration in (0.0, 1.0, 100.0, 1e4, 1e38):
        _, accepted = _propose(dim, torch.full((50_000,), concentration, dtype=torch.float64), 1)
        assert accepted.double().mean() > math.sqrt(math.e / (2 * math.pi)) - 0.01, concentration


@pytest.mark.parametrize("count", [1, 2, 62, 63, 1000, 123_457])
def test_rounds_make_33_proposals_for_each_gap_and_shrink(count: int) -> None:
    sizes, proposals = zip(*rejection_rounds(count), strict=True)
    assert sum(proposals) == 33
    assert sizes[0] == count
    assert list(sizes) == sorted(sizes, reverse=True)
    assert sum(size * number for size, number in rejection_rounds(count)) < 3 * count + 8000


def test_draws_are_the_same_under_the_same_seed() -> None:
    for dim in (2, 3, 16):
        q = VonMisesFisher(_axis(dim), torch.tensor([0.5, 100.0]))
        torch.manual_seed(11)
        first = q.rsample((3000,))
        torch.manual_seed(11)
        assert torch.equal(first, q.rsample((3000,)))
        assert not torch.equal(first, q.rsample((3000,)))


# --- pathwise derivatives --------------------------------------------------------------------------------------------


def test_gap_derivative_in_space_agrees_with_the_differentiated_quantile() -> None:
    kappa = torch.tensor([0.01, 1.0, 17.0, 300.0], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([[1e-4], [0.2], [0.6], [0.99], [1 - 1e-6]], dtype=torch.float64)
    gap = -(u * torch.expm1(-2 * kappa)).log1p() / kappa
    (expected,) = torch.autograd.grad(
        gap, kappa, torch.eye(20, dtype=torch.float64).reshape(20, 5, 4), is_grads_batched=True
    )
    expected = expected.sum(0)  # over all u at once
    actual = von_mises_fisher_gap_derivative(3, kappa.detach(), gap.detach())
    torch.testing.assert_close(actual.sum(0), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dim", [2, 3, 5, 128, 65536])
@pytest.mark.parametrize("concentration", [0.0, 1.0, 50.0, 1e4, 1e10])
def test_gap_derivative_agrees_with_quadrature_in_30_digits(concentration: float, dim: int) -> None:
    kappa = torch.tensor(concentration, dtype=torch.float64)
    mean = von_mises_fisher_mean_resultant_complement(dim, kappa).item()
    deviation = math.sqrt(von_mises_fisher_resultant_slope(dim, kappa).item())
    for score in (-2.0, -0.5, 0.01, 1.0, 5.0):
        gap = mean + score * deviation
        if gap <= 0:
            gap = mean * 10**score
        if gap >= 2:
            continue
        with mpmath.workdps(30):
            theta = 2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(gap) / 2))
            sigma = 1 / mpmath.sqrt(concentration + dim)
            steps = [j * sigma for j in (1, 2, 4, 7, 10, 15, 20, 30)]
            right = gap > mean
            ends = (
                [theta + j for j in steps if theta + j < mpmath.pi]
                if right
                else [theta - j for j in steps if theta > j]
            )

            def integrand(s: mpmath.mpf, theta: mpmath.mpf = theta) -> mpmath.mpf:
                ratio = concentration * (mpmath.cos(s) - mpmath.cos(theta))
                ratio += (dim - 2) * mpmath.log(mpmath.sin(s) / mpmath.sin(theta))
                return (1 - mpmath.cos(s) - mean) * mpmath.exp(ratio)

            integral = mpmath.quad(integrand, [theta, *ends, mpmath.pi if right else 0])
            exact = float(-mpmath.sin(theta) * integral)
        value = von_mises_fisher_gap_derivative(dim, kappa, torch.tensor(gap, dtype=torch.float64)).item()
        assert value == pytest.approx(exact, rel=1e-10), score


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_gradient_of_an_expectation_agrees_with_its_closed_form(dim: int) -> None:
    torch.manual_seed(8)
    count = 40_000
    target = normalize(torch.randn(dim, dtype=torch.float64))
    raw = torch.randn(dim, dtype=torch.float64)
    kappa = torch.full((count,), 6.0, dtype=torch.float64, requires_grad=True)
    vector = raw.expand(count, dim).clone().requires_grad_()
    value = VonMisesFisher(normalize(vector), kappa).rsample() @ target
    in_kappa, in_vector = torch.autograd.grad(value.sum(), (kappa, vector))
    single, point = raw.clone().requires_grad_(), torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    exact_value = von_mises_fisher_mean_resultant_length(dim, point) * (normalize(single) @ target)
    exact = torch.autograd.grad(exact_value, (point, single))
    for draws, expected in ((in_kappa.unsqueeze(-1), exact[0]), (in_vector, exact[1])):
        assert ((draws.mean(0) - expected) / (draws.std(0) / math.sqrt(count))).abs().max() < 4


# --- as a member of torch.distributions and Pyro ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("sample_shape", [(), (4,), (5, 1)])
def test_shapes_follow_the_batch(batch_shape: tuple[int, ...], sample_shape: tuple[int, ...]) -> None:
    q = VonMisesFisher(normalize(torch.randn(5)), torch.rand(batch_shape) * 10)
    z = q.rsample(sample_shape)
    assert z.shape == (*sample_shape, *batch_shape, 5)
    assert q.log_prob(z).shape == (*sample_shape, *batch_shape)
    assert q.entropy().shape == q.mean_resultant_length.shape == batch_shape
    assert q.mean.shape == q.mode.shape == q.variance.shape == (*batch_shape, 5)
    assert q.covariance_matrix.shape == (*batch_shape, 5, 5)
    assert q.expand((7, *batch_shape)).rsample().shape == (7, *batch_shape, 5)
    assert VonMisesFisher.infer_shapes((5,), batch_shape) == (q.batch_shape, q.event_shape)


def test_pickling_keeps_the_distribution() -> None:
    q = VonMisesFisher(_axis(3), torch.tensor([1.0, 2.0]))
    again = pickle.loads(pickle.dumps(q))  # noqa: S301
    assert torch.equal(again.log_prob(_axis(3)), q.log_prob(_axis(3)))


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_vmap_draws_and_differentiates(dim: int) -> None:
    kappa = torch.tensor([0.5, 5.0, 500.0], dtype=torch.float64)
    mean_direction = normalize(torch.randn(3, dim, dtype=torch.float64))

    def value(m: Tensor, k: Tensor) -> Tensor:
        q = VonMisesFisher(m, k, validate_args=False)
        return q.log_prob(q.rsample((200,))).mean() + q.entropy()

    loss, gradient = torch.vmap(torch.func.grad_and_value(value, argnums=1), randomness="different")(
        mean_direction, kappa
    )
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    z = normalize(torch.randn(3, dim, dtype=torch.float64))
    mapped = torch.vmap(lambda m, k, x: VonMisesFisher(m, k, validate_args=False).log_prob(x))(mean_direction, kappa, z)
    torch.testing.assert_close(mapped, VonMisesFisher(mean_direction, kappa).log_prob(z))


def test_pyro_samples_it_in_plates_and_mixtures() -> None:
    torch.manual_seed(9)
    centres = normalize(torch.randn(4, 3))

    def model() -> Tensor:
        with pyro.plate("images", 6):
            mixture = pyro.distributions.MixtureSameFamily(
                pyro.distributions.Categorical(torch.ones(4)), VonMisesFisher(centres, torch.tensor(50.0))
            )
            return pyro.sample("z", mixture)

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site: Any = trace.nodes["z"]
    assert site["value"].shape == (6, 3)
    assert site["log_prob"].shape == (6,)


@pytest.mark.slow
def test_density_and_draws_compile_into_one_graph_for_several_dimensions() -> None:
    def value(mean_direction: Tensor, z: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        q = VonMisesFisher(mean_direction, kappa, validate_args=False)
        return q.log_prob(z), q.rsample((2,))

    compiled = torch.compile(value, fullgraph=True, backend="aot_eager")
    for dim in (3, 16):
        z, mean_direction = normalize(torch.randn(2, 6, dim))
        kappa = torch.linspace(0, 60, 6, requires_grad=True)
        expected, _ = value(mean_direction, z, kappa)
        log_prob, _ = compiled(mean_direction, z, kappa)
        torch.testing.assert_close(log_prob, expected)
        torch.testing.assert_close(
            torch.autograd.grad(log_prob.sum(), kappa), torch.autograd.grad(expected.sum(), kappa)
        )
        _, draws = compiled(mean_direction, z, kappa)
        assert constraints.sphere.check(draws).all()
        assert torch.autograd.grad(draws.square().mul(torch.arange(dim)).sum(), kappa)[0].isfinite().all()


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_second_pathwise_derivative_agrees_with_that_of_a(dim: int) -> None:
    torch.manual_seed(10)
    count = 20_000
    kappa = torch.tensor([0.5, 20.0, 400.0], dtype=torch.float64).repeat(count, 1).requires_grad_()
    gap = VonMisesFisher(_axis(dim), kappa)._rsample_gap(kappa.shape)
    (first,) = torch.autograd.grad(-gap.sum(), kappa, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), kappa)
    point = kappa.detach()[0].requires_grad_()
    (exact,) = torch.autograd.grad(von_mises_fisher_resultant_slope(dim, point).sum(), point)
    assert ((second.mean(0) - exact) / (second.std(0) / math.sqrt(count))).abs().max() < 4


# --- cosine and maximum likelihood -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_quantile_undoes_the_cosine_distribution_function(dtype: torch.dtype) -> None:
    p = torch.tensor([[1e-6], [0.01], [0.5], [0.99]], dtype=dtype)
    for dim in (2, 3, 128):
        q = VonMisesFisher(_axis(dim, dtype), torch.tensor([0.0, 2.0, 100.0], dtype=dtype))
        cosine = q.cosine_icdf(p)
        assert cosine.dtype == dtype
        rtol, atol = (2e-2, 1e-4) if dtype == torch.float32 else (1e-8, 1e-10)  # next to t = −1 the cosine loses digits
        torch.testing.assert_close(q.cosine_cdf(cosine), p.expand_as(cosine), rtol=rtol, atol=atol)
        ends = q.cosine_cdf(torch.tensor([[-1.0], [1.0]], dtype=dtype))
        torch.testing.assert_close(ends, torch.tensor([[0.0], [1.0]], dtype=dtype).expand_as(ends), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 16, 2048])
def test_cosine_distribution_function_makes_draws_uniform(dim: int) -> None:
    torch.manual_seed(12)
    for concentration in (0.0, 5.0, 1e4):
        q = VonMisesFisher(_axis(dim), concentration)
        u = q.cosine_cdf(1 - q._rsample_gap(torch.Size([4000])))
        assert scipy.stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_fit_is_where_the_gradient_of_the_likelihood_vanishes(dim: int) -> None:
    torch.manual_seed(13)
    truth = VonMisesFisher(normalize(torch.randn(4, dim, dtype=torch.float64)), torch.tensor([0.3, 4.0, 90.0, 1e7]))
    z = truth.sample((500,))
    for weights in (None, torch.rand(500, dtype=torch.float64), torch.rand(500, 4, dtype=torch.float64)):
        fitted = VonMisesFisher.fit(z, weights)
        assert fitted.batch_shape == (4,)
        kappa = fitted.concentration.clone().requires_grad_()
        mean_direction = fitted.mean_direction.clone().requires_grad_()
        w = torch.ones(500, 1) if weights is None else weights.reshape(500, -1)
        log_likelihood = (w * VonMisesFisher(mean_direction, kappa).log_prob(z)).sum(0) / w.sum(0)
        in_kappa, in_direction = torch.autograd.grad(log_likelihood.sum(), (kappa, mean_direction))
        assert (in_kappa * kappa).abs().max() < 1e-8
        tangent = in_direction - (in_direction * mean_direction).sum(-1, keepdim=True) * mean_direction
        assert (tangent.norm(dim=-1) / kappa).max() < 1e-9


def test_fit_recovers_the_truth_within_its_standard_error() -> None:
    torch.manual_seed(14)
    for dim, concentration in [(2, 1.0), (3, 1e5), (128, 300.0)]:
        truth = VonMisesFisher(_axis(dim), concentration)
        kappa = VonMisesFisher.fit(truth.sample((4000,))).concentration
        slope = von_mises_fisher_resultant_slope(dim, torch.tensor(concentration, dtype=torch.float64))
        assert abs(kappa - concentration) < 4 / math.sqrt(4000 * slope)


def test_fit_of_coinciding_and_of_balanced_samples_stays_finite() -> None:
    same = VonMisesFisher.fit(_axis(3).float().expand(5, 3))
    assert same.concentration.item() == pytest.approx(torch.finfo(torch.float32).eps ** -2)  # (d−1)/2ε²
    assert torch.equal(same.mean_direction, _axis(3).float())
    balanced = VonMisesFisher.fit(torch.stack([_axis(3), -_axis(3)]))
    assert balanced.concentration.item() == 0
    assert constraints.sphere.check(balanced.mean_direction)
