"""The Power Spherical distribution against mpmath, SciPy and quadrature."""

from __future__ import annotations

import pickle

import mpmath
import numpy as np
import pyro
import pytest
import scipy.integrate
import scipy.stats
import torch
from pyro.distributions import Categorical, MixtureSameFamily, constraints
from pyro.distributions.testing.gof import auto_goodness_of_fit
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical
from ssl_as_inference.distributions.power_spherical import _ImplicitGap
from ssl_as_inference.sphere import half_squared_chord, normalize

MPMATH_DIGITS = 60

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
DIMS = (2, 3, 5, 16, 128, 2048, 65536)
CONCENTRATIONS = (0.0, 1e-3, 1.0, 30.0, 1e3, 1e6, 1e12)


def _direction(dim: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(dim, dtype=torch.float64, generator=generator)).to(dtype)


def _basis(dim: int, axis: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    direction = torch.zeros(dim, dtype=dtype)
    direction[axis] = 1
    return direction


def _exact_log_prob(z: Tensor, mean_direction: Tensor, concentration: float) -> float:
    """Log density at the directions of z and μ, whose lengths are off by the rounding of their numbers."""
    x, y = ([mpmath.mpf(v) for v in vector.tolist()] for vector in (z, mean_direction))
    lengths = mpmath.sqrt(mpmath.fsum([v * v for v in x])) * mpmath.sqrt(mpmath.fsum([v * v for v in y]))
    cosine = mpmath.fsum([v * u for v, u in zip(x, y, strict=True)]) / lengths
    kappa, b = mpmath.mpf(concentration), mpmath.mpf(len(x) - 1) / 2
    log_c = mpmath.loggamma(2 * b + kappa) - mpmath.loggamma(b + kappa)
    log_c -= (2 * b + kappa) * mpmath.log(2) + b * mpmath.log(mpmath.pi)
    return float(log_c + kappa * mpmath.log1p(cosine))


@pytest.mark.parametrize("concentration", [0.0, 0.3, 1.0, 7.5, 200.0])
def test_density_integrates_to_one_on_the_circle(concentration: float) -> None:
    law = PowerSpherical(_basis(2), concentration)

    def density(angle: float) -> float:
        return law.log_prob(torch.tensor([np.cos(angle), np.sin(angle)])).exp().item()

    total, _ = scipy.integrate.quad(density, -np.pi, np.pi, points=[0.0], epsabs=1e-12, epsrel=1e-12)
    assert total == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("concentration", [0.0, 0.3, 1.0, 7.5, 200.0])
def test_density_integrates_to_one_in_space(concentration: float) -> None:
    law = PowerSpherical(_basis(3, 2), concentration)
    # Gauss and Legendre in the height, equal angles around the axis: Archimedes' map keeps the area.
    height, weight = (torch.tensor(nodes) for nodes in np.polynomial.legendre.leggauss(400))
    angle = torch.arange(8, dtype=torch.float64) * (2 * torch.pi / 8)
    radius = (1 - height.square()).sqrt()
    z = torch.stack(
        torch.broadcast_tensors(radius[:, None] * angle.cos(), radius[:, None] * angle.sin(), height[:, None]), dim=-1
    )
    total = (law.log_prob(z).exp() * weight[:, None]).sum() * (2 * torch.pi / 8)
    assert total.item() == pytest.approx(1, abs=1e-6 if concentration == 0.3 else 1e-10)


def test_log_prob_is_accurate_near_the_mode_in_single_precision() -> None:
    for dim, concentration in ((3, 1e6), (3, 1e4), (16, 1e5), (128, 1e4)):
        mean_direction = _direction(dim, torch.float32)
        torch.manual_seed(1)
        law = PowerSpherical(mean_direction, torch.tensor(concentration))
        for z in [mean_direction, *law.sample((20,))]:
            assert law.log_prob(z).item() == pytest.approx(_exact_log_prob(z, mean_direction, concentration), abs=3e-4)


@DTYPES
def test_log_prob_is_accurate_near_the_antipode(dtype: torch.dtype) -> None:
    for dim in (2, 3, 40):
        mean_direction = _direction(dim, torch.float64)
        across = normalize(_direction(dim, seed=1) - mean_direction * (_direction(dim, seed=1) @ mean_direction))
        for angle in (1e-1, 1e-2, 1e-4):
            z = (-np.cos(angle) * mean_direction + np.sin(angle) * across).to(dtype)
            got = PowerSpherical(mean_direction.to(dtype), torch.tensor(2.5, dtype=dtype)).log_prob(z).item()
            expected = _exact_log_prob(z, mean_direction.to(dtype), 2.5)
            assert got == pytest.approx(expected, rel=20 * torch.finfo(dtype).eps / angle, abs=0)


@DTYPES
@pytest.mark.parametrize("axis", [0, 1])
def test_log_prob_and_its_gradients_at_the_poles(dtype: torch.dtype, axis: int) -> None:
    for dim, concentration in ((2, 0.5), (3, 3.0), (2048, 1e4)):
        for pole in (1.0, -1.0):
            mean_direction = _basis(dim, axis, dtype).requires_grad_()
            z = (pole * _basis(dim, axis, dtype)).requires_grad_()
            kappa = torch.tensor(concentration, dtype=dtype, requires_grad=True)
            value = PowerSpherical(mean_direction, kappa).log_prob(z)
            assert value.isneginf() if pole < 0 else value.isfinite()
            gradients = torch.autograd.grad(value, (z, mean_direction, kappa))
            bound = concentration / (2 * torch.finfo(dtype).eps)
            for gradient in gradients:
                assert gradient.isfinite().all()
                assert gradient.norm() <= 1.01 * bound


def test_no_concentration_is_uniform_at_the_antipode_too() -> None:
    law = PowerSpherical(_basis(3), 0.0)
    expected = -np.log(4 * np.pi)
    assert law.log_prob(-_basis(3)).item() == pytest.approx(expected, abs=1e-14)
    assert law.log_prob(_direction(3)).item() == pytest.approx(expected, abs=1e-14)


@DTYPES
def test_rounding_never_makes_log_prob_undefined(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(2000, 5, dtype=dtype, generator=generator))
    assert not PowerSpherical(z, torch.tensor(3.0, dtype=dtype)).log_prob(-z).isnan().any()
    assert not PowerSpherical(z, torch.tensor(3.0, dtype=dtype)).log_prob(z).isnan().any()


def test_gradients_of_log_prob_sum_over_what_was_broadcast() -> None:
    z = normalize(torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    mean_direction = _direction(4).requires_grad_()
    (gradient,) = torch.autograd.grad(PowerSpherical(mean_direction, 2.0).log_prob(z).sum(), mean_direction)
    torch.testing.assert_close(gradient, (2 * z / (1 + z @ mean_direction.detach()).unsqueeze(-1)).sum(0))


def test_gradient_of_log_prob_along_the_sphere() -> None:
    # Extensions of the density off the sphere differ; along it all derivatives are those of κ log(1+t).
    z, mean_direction = _direction(6, seed=1), _direction(6, seed=2)
    for sign in (1.0, -1.0):
        kappa = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
        x = (sign * z).requires_grad_()
        (gradient,) = torch.autograd.grad(PowerSpherical(mean_direction, kappa).log_prob(normalize(x)), x)
        cosine = sign * z @ mean_direction
        expected = 4.0 / (1 + cosine) * (mean_direction - cosine * sign * z)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("concentration", [0.0, 0.7, 5.0, 90.0])
@pytest.mark.parametrize("dim", [2, 3, 8])
def test_cosine_of_samples_follows_the_beta_distribution(dim: int, concentration: float) -> None:
    torch.manual_seed(3)
    law = PowerSpherical(_direction(dim), concentration)
    height = (1 + law.sample((4000,)) @ law.mean_direction) / 2
    b = (dim - 1) / 2
    assert scipy.stats.kstest(height.numpy(), scipy.stats.beta(b + concentration, b).cdf).pvalue > 1e-3


@pytest.mark.parametrize("together", [True, False], ids=["one mean direction", "one per draw"])
def test_draws_go_round_their_mean_direction_uniformly(together: bool) -> None:
    torch.manual_seed(6)
    count = 8000
    means = normalize(torch.randn(1 if together else count, 3, dtype=torch.float64)).expand(count, 3)
    draws = PowerSpherical(means, 4.0).sample()
    fixed = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    across = normalize(torch.linalg.cross(fixed.expand_as(means), means))
    up = torch.linalg.cross(means, across)
    angle = torch.atan2((draws * across).sum(-1), (draws * up).sum(-1))
    assert scipy.stats.kstest(angle.numpy(), scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-2
    height = (draws * means).sum(-1)
    assert abs(np.corrcoef(angle.cos().numpy(), height.numpy())[0, 1]) < 4 / count**0.5


@DTYPES
@pytest.mark.parametrize("dim", DIMS)
def test_gap_and_its_derivative_have_the_right_mean(dim: int, dtype: torch.dtype) -> None:
    torch.manual_seed(dim)
    count = 20_000
    mean_direction = _basis(dim, dtype=dtype)
    for concentration in CONCENTRATIONS:
        kappa = torch.full((count,), concentration, dtype=dtype, requires_grad=True)
        gap = PowerSpherical(mean_direction, kappa)._rsample_gap(kappa.shape)
        (slope,) = torch.autograd.grad(gap.sum(), kappa)
        scale = dim - 1 + concentration
        means = ((dim - 1) / scale, -(dim - 1) / scale**2)
        for draws, mean in zip((gap.detach().double(), slope.double()), means, strict=True):
            assert abs((draws.mean() - mean) / (draws.std() / count**0.5)).item() < 4, (concentration, mean)


@pytest.mark.parametrize("dim", [3, 4, 5, 16, 129])
def test_derivative_of_each_gap_is_the_implicit_one(dim: int) -> None:
    torch.manual_seed(dim)
    b = mpmath.mpf(dim - 1) / 2
    for concentration in (0.5, 20.0, 1e4):
        kappa = torch.full((3,), concentration, dtype=torch.float64, requires_grad=True)
        gap = PowerSpherical(_basis(dim), kappa)._rsample_gap(kappa.shape)
        (slope,) = torch.autograd.grad(gap.sum(), kappa)
        for w, dw in zip(gap.tolist(), slope.tolist(), strict=True):
            h, a = mpmath.mpf(w) / 2, b + concentration
            density = h ** (b - 1) * (1 - h) ** (a - 1) / mpmath.beta(b, a)
            step = mpmath.mpf("1e-15") * a
            above, below = (mpmath.betainc(b, a + s, 0, h, regularized=True) for s in (step, -step))
            assert dw == pytest.approx(float(-2 * (above - below) / (2 * step) / density), rel=1e-8)


def test_derivative_of_a_gap_of_one_on_the_circle() -> None:
    # d = 2 has an end of its own, where the density of the gap has a pole.
    kappa = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    (slope,) = torch.autograd.grad(_ImplicitGap.apply(kappa, half, half, 2), kappa)
    with mpmath.workdps(30):
        moment = mpmath.quad(
            lambda x: (2 * mpmath.log(2) + 2 * mpmath.log(mpmath.cos(x))) * 2 / mpmath.pi, [0, mpmath.pi / 4]
        )
    assert slope.item() == pytest.approx(float(-2 * moment / (2 / mpmath.pi)), rel=1e-12)


@DTYPES
@pytest.mark.parametrize("dim", DIMS)
def test_samples_are_on_the_sphere_with_finite_gradients(dim: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for concentration in (0.0, 1.0, 1e4, 1e8, 1e30, 1e38):
        mean_direction = _basis(dim, dtype=dtype).requires_grad_()
        kappa = torch.tensor(concentration, dtype=dtype, requires_grad=True)
        draws = PowerSpherical(mean_direction, kappa).rsample((max(4, 4096 // dim),))
        assert draws.dtype == dtype
        assert constraints.sphere.check(draws).all()
        for gradient in torch.autograd.grad(draws.square().mul(torch.arange(dim)).sum(), (mean_direction, kappa)):
            assert gradient.isfinite().all()


def test_sampling_repeats_under_a_seed() -> None:
    law = PowerSpherical(_direction(5), 3.0)
    draws = []
    for _ in range(2):
        torch.manual_seed(11)
        draws.append(law.sample((7,)))
    assert torch.equal(*draws)


@pytest.mark.parametrize("concentration", [0.0, 1.5, 40.0])
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_moments_agree_with_samples(dim: int, concentration: float) -> None:
    torch.manual_seed(5)
    count = 40_000
    law = PowerSpherical(_direction(dim), concentration)
    draws = law.sample((count,))
    error = draws.std(0) / count**0.5
    assert ((draws.mean(0) - law.mean).abs() < 4.5 * error).all()
    torch.testing.assert_close(draws.T.cov(), law.covariance_matrix, rtol=0, atol=4 / count**0.5)
    torch.testing.assert_close(law.covariance_matrix.diagonal(), law.variance)
    log_prob = law.log_prob(draws)
    assert abs(log_prob.mean() + law.entropy()).item() < 4.5 * log_prob.std().item() / count**0.5 + 1e-12
    assert torch.equal(law.mode, law.mean_direction)


def test_samples_fit_their_density_by_pyros_goodness_of_fit() -> None:
    # Pyro measures the volumes between neighbours as if the sphere were flat: its p-values are rather low.
    for dim, concentration in ((2, 1.0), (3, 6.0), (4, 0.5)):
        torch.manual_seed(0)
        law = PowerSpherical(_direction(dim), concentration)
        draws = law.sample((10_000,))
        assert auto_goodness_of_fit(draws, law.log_prob(draws).exp(), dim=dim - 1) > 1e-3


def test_covariance_in_closed_form() -> None:
    for dim, concentration in ((2, 0.0), (3, 1.0), (50, 1e3), (3, 1e38)):
        law = PowerSpherical(_basis(dim), concentration)
        b = mpmath.mpf(dim - 1) / 2
        a = b + concentration
        along = 4 * a * b / ((a + b) ** 2 * (a + b + 1))
        across = (1 - along - ((a - b) / (a + b)) ** 2) / (dim - 1)
        expected = torch.full((dim,), float(across), dtype=torch.float64)
        expected[0] = float(along)
        torch.testing.assert_close(law.covariance_matrix, expected.diag(), rtol=1e-13, atol=0)


def test_batches_broadcast_and_expand() -> None:
    law = PowerSpherical(normalize(torch.randn(4, 1, 3)), torch.rand(5))
    assert (law.batch_shape, law.event_shape) == ((4, 5), (3,))
    assert law.infer_shapes(mean_direction=(4, 1, 3), concentration=(5,)) == (law.batch_shape, law.event_shape)
    wide = law.expand((2, 4, 5))
    assert wide.rsample((6,)).shape == (6, 2, 4, 5, 3)
    assert wide.log_prob(wide.sample()).shape == (2, 4, 5)
    assert wide.entropy().shape == (2, 4, 5)
    assert PowerSpherical(normalize(torch.randn(0, 3)), 1.0).rsample().shape == (0, 3)


def test_it_is_a_citizen_of_pyro_and_torch() -> None:
    directions = normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(3)), PowerSpherical(directions, 5.0))
    z = mixture.sample((6,))
    expected = PowerSpherical(directions, 5.0).log_prob(z.unsqueeze(1)).logsumexp(-1) - np.log(3)
    torch.testing.assert_close(mixture.log_prob(z), expected)

    def model() -> Tensor:
        with pyro.plate("images", 3):
            draws: Tensor = pyro.sample("z", PowerSpherical(directions, 5.0))
        return draws

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob"].shape == (3,)

    law = PowerSpherical(directions, 5.0)
    copy = pickle.loads(pickle.dumps(law))  # noqa: S301  # our own bytes
    assert torch.equal(copy.log_prob(directions), law.log_prob(directions))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["ahead", "behind"])
def test_log_prob_has_second_derivatives_in_all_its_arguments(sign: float) -> None:
    torch.manual_seed(9)
    mean_direction = normalize(torch.randn(2, 3, dtype=torch.float64))
    z = sign * normalize(mean_direction + 0.4 * torch.randn(4, 2, 3, dtype=torch.float64))
    kappa = torch.tensor([1.5, 30.0], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (z, mean_direction, kappa)]

    def log_prob(value: Tensor, centre: Tensor, k: Tensor) -> Tensor:
        return PowerSpherical(normalize(centre), k, validate_args=False).log_prob(normalize(value))

    assert torch.autograd.gradcheck(log_prob, inputs)
    assert torch.autograd.gradgradcheck(log_prob, inputs)


def test_vmap_goes_through_log_prob_and_sampling() -> None:
    directions = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    kappa = torch.tensor([0.5, 2.0, 10.0, 300.0])
    z = directions.flip(0)

    def log_prob(mean_direction: Tensor, concentration: Tensor, value: Tensor) -> Tensor:
        return PowerSpherical(mean_direction, concentration, validate_args=False).log_prob(value)

    def cosine(concentration: Tensor, mean_direction: Tensor) -> Tensor:
        law = PowerSpherical(mean_direction, concentration, validate_args=False)
        return law.rsample() @ mean_direction

    expected = PowerSpherical(directions, kappa).log_prob(z)
    torch.testing.assert_close(torch.vmap(log_prob)(directions, kappa, z), expected)
    slopes = torch.vmap(torch.func.grad(log_prob, argnums=1))(directions, kappa, z)
    kappa_leaf = kappa.clone().requires_grad_()
    (reference,) = torch.autograd.grad(PowerSpherical(directions, kappa_leaf).log_prob(z).sum(), kappa_leaf)
    torch.testing.assert_close(slopes, reference)
    pathwise = torch.vmap(torch.func.grad(cosine), randomness="different")(kappa, directions)
    assert (pathwise > 0).all()  # a larger κ moves every draw toward μ


def test_log_prob_compiles_in_one_graph() -> None:
    directions = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    kappa = torch.tensor([0.0, 2.0, 10.0, 300.0], requires_grad=True)

    def log_prob(mean_direction: Tensor, concentration: Tensor, value: Tensor) -> Tensor:
        return PowerSpherical(mean_direction, concentration, validate_args=False).log_prob(value)

    compiled = torch.compile(log_prob, backend="aot_eager", fullgraph=True)
    got, expected = (f(directions, kappa, directions.flip(0)) for f in (compiled, log_prob))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), kappa), torch.autograd.grad(expected.sum(), kappa))


def test_half_precision_is_raised_to_single() -> None:
    directions = _basis(8, dtype=torch.bfloat16)
    law = PowerSpherical(directions, torch.tensor(3.0, dtype=torch.bfloat16), validate_args=False)
    assert law.log_prob(directions).dtype == torch.float32
    mixed = PowerSpherical(_basis(8, dtype=torch.float32), 3.0, validate_args=False)
    assert mixed.log_prob(_basis(8)).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = PowerSpherical(_basis(8, dtype=torch.float32), 3.0)
        assert single.log_prob(_direction(8, torch.float32)).dtype == torch.float32


def test_a_gap_is_never_at_the_ends_where_the_sample_has_no_derivative() -> None:
    torch.manual_seed(0)
    gap = PowerSpherical(_basis(2, dtype=torch.float32), 0.0)._rsample_gap(torch.Size([200_000]))
    assert (gap > 0).all()
    assert (gap < 2).all()
    assert half_squared_chord(_basis(2), -_basis(2)).item() == 2
