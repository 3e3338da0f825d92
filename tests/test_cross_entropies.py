"""Cross-entropies between guides and experts against quadrature, Monte Carlo and limits (C18, C19)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ssl_as_inference import cross_entropy, register_cross_entropy
from ssl_as_inference.distributions import (
    DeltaMixture,
    PowerSpherical,
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.special import power_spherical_entropy, von_mises_fisher_entropy
from ssl_as_inference.sphere import log_surface_area, normalize

FAMILIES = {"vmf": VonMisesFisher, "ps": PowerSpherical}
GUIDES = pytest.mark.parametrize("guide", FAMILIES)
EXPERTS = pytest.mark.parametrize("expert", FAMILIES)
ENTROPY = {VonMisesFisher: von_mises_fisher_entropy, PowerSpherical: power_spherical_entropy}


def _directions(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=generator)).to(dtype)


def _law(name: str, direction: Tensor, concentration: float) -> Any:
    return FAMILIES[name](direction, torch.tensor(concentration, dtype=direction.dtype))


def _draw(q: Any, number: int, seed: int) -> Tensor:
    """Samples of q by SciPy, for the Power Spherical from the Beta distribution of its height."""
    rng = np.random.default_rng(seed)
    mu, tau, dim = q.mean_direction.numpy(), q.concentration.item(), q.dim
    if isinstance(q, VonMisesFisher):
        return torch.tensor(scipy.stats.vonmises_fisher(mu, tau).rvs(number, random_state=rng))
    gap = 2 * rng.beta((dim - 1) / 2, (dim - 1) / 2 + tau, size=(number, 1))
    across = rng.standard_normal((number, dim))
    across -= across @ mu[:, None] * mu
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return torch.tensor((1 - gap) * mu + np.sqrt(gap * (2 - gap)) * across)


@GUIDES
@EXPERTS
@pytest.mark.parametrize("dim", [3, 8, 16, 128])
def test_cross_entropy_is_the_mean_over_samples(guide: str, expert: str, dim: int) -> None:
    axis = _directions(dim, seed=1)
    for seed, (tau, kappa) in enumerate(((1.5, 40.0), (60.0, 9.5), (900.0, 2000.0))):
        q = _law(guide, normalize(axis + 0.5 * _directions(dim, seed=2)), tau)
        p = _law(expert, axis, kappa)
        values = -p.log_prob(_draw(q, 20_000, seed))
        z_score = (values.mean() - cross_entropy(q, p)) / (values.std() / math.sqrt(len(values)))
        assert abs(z_score.item()) < 4, (tau, kappa)


@GUIDES
@EXPERTS
def test_cross_entropy_agrees_with_quadrature_over_the_circle(guide: str, expert: str) -> None:
    q, p = _law(guide, _directions(2, seed=1), 7.0), _law(expert, _directions(2, seed=2), 11.0)

    def integrand(angle: float) -> float:
        z = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        return float(-(q.log_prob(z).exp() * p.log_prob(z)))

    pole = math.atan2(-p.mean_direction[1], -p.mean_direction[0])
    total, _ = scipy.integrate.quad(integrand, pole, pole + 2 * math.pi, epsabs=1e-12, epsrel=1e-12, limit=200)
    assert cross_entropy(q, p).item() == pytest.approx(total, abs=1e-9)


@GUIDES
@pytest.mark.parametrize("dim", [2, 3, 8, 128, 2048])
def test_cross_entropy_to_itself_is_the_entropy(guide: str, dim: int) -> None:
    for tau in (0.0, 0.3, 25.0, 1e3, 1e6):
        q = _law(guide, _directions(dim), tau)
        entropy = ENTROPY[FAMILIES[guide]](dim, q.concentration).item()
        assert cross_entropy(q, q).item() == pytest.approx(entropy, abs=1e-14 * max(dim, 20), rel=1e-13)


@GUIDES
@EXPERTS
def test_cross_entropy_exceeds_the_entropy_by_the_divergence(guide: str, expert: str) -> None:
    for dim, tau, kappa in itertools.product((2, 8, 512), (0.1, 30.0, 1e4), (0.0, 3.0, 1e5)):
        q, p = _law(guide, _directions(dim, seed=3), tau), _law(expert, _directions(dim, seed=4), kappa)
        sum_of_both = kl_divergence(q, p) + ENTROPY[FAMILIES[guide]](dim, q.concentration)
        assert cross_entropy(q, p).item() == pytest.approx(sum_of_both.item(), rel=1e-12, abs=1e-12)


@EXPERTS
def test_uniform_guide_is_the_limit_of_no_concentration(expert: str) -> None:
    for dim in (2, 3, 16, 2048):
        p = _law(expert, _directions(dim), 12.0)
        uniform = cross_entropy(SphericalUniform(dim, dtype=torch.float64), p)
        assert uniform.item() == pytest.approx(
            cross_entropy(_law("vmf", _directions(dim, seed=1), 0.0), p).item(), rel=1e-13
        )
        assert uniform.item() == pytest.approx(
            cross_entropy(_law("ps", _directions(dim, seed=1), 0.0), p).item(), rel=1e-13
        )


@GUIDES
def test_cross_entropy_to_uniform_is_the_log_area(guide: str) -> None:
    p = SphericalUniform(5, dtype=torch.float64)
    q = _law(guide, _directions(4, 5), 3.0)
    assert cross_entropy(q, p).shape == (4,)
    torch.testing.assert_close(cross_entropy(q, p), torch.full((4,), log_surface_area(5), dtype=torch.float64))
    assert cross_entropy(p, p).item() == log_surface_area(5)


@EXPERTS
def test_delta_mixture_has_the_mean_over_its_locations(expert: str) -> None:
    locations = _directions(6, 4, 16, seed=5)
    p = FAMILIES[expert](_directions(6, 16, seed=6), torch.linspace(1, 50, 6, dtype=torch.float64))
    expected = -torch.stack([p.log_prob(locations[:, j]) for j in range(4)]).mean(0)
    torch.testing.assert_close(cross_entropy(DeltaMixture(locations), p), expected)
    product = ProductOfExperts(p)
    expected = -torch.stack([p.log_prob(locations[0, j]).sum() for j in range(4)]).mean()
    torch.testing.assert_close(cross_entropy(DeltaMixture(locations[0]), product), expected)


@GUIDES
@EXPERTS
def test_mixture_and_product_are_sums_over_their_parts(guide: str, expert: str) -> None:
    f, mu = _directions(5, 3, 8, seed=7), _directions(5, 4, 8, seed=8)
    tau, kappa = torch.rand(5, 3, dtype=torch.float64) * 30, torch.rand(5, 4, dtype=torch.float64) * 30
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    components, experts = FAMILIES[guide](f, tau), FAMILIES[expert](mu, kappa)
    q, p = SphericalMixture(components, weights), ProductOfExperts(experts)

    def table(j: int, i: int) -> Tensor:
        return cross_entropy(FAMILIES[guide](f[:, j], tau[:, j]), FAMILIES[expert](mu[:, i], kappa[:, i]))

    expected = torch.stack([weights[j] * torch.stack([table(j, i) for i in range(4)]).sum(0) for j in range(3)]).sum(0)
    torch.testing.assert_close(cross_entropy(q, p), expected)
    single = FAMILIES[guide](f[:, 0], tau[:, 0])
    torch.testing.assert_close(cross_entropy(single, p), torch.stack([table(0, i) for i in range(4)]).sum(0))
    uniform = SphericalUniform(8, dtype=torch.float64)
    torch.testing.assert_close(cross_entropy(q, uniform), torch.full((5,), log_surface_area(8), dtype=torch.float64))


@EXPERTS
@GUIDES
def test_mixture_tends_to_the_delta_mixture_as_one_over_its_concentration(guide: str, expert: str) -> None:
    """C19: the cross-entropy of a guide of concentration τ is the loss of the paper but for a term in 1/τ."""
    for dim in (3, 16, 2048):
        axis = _directions(dim, seed=9)
        f = normalize(axis + 0.6 * _directions(3, dim, seed=10))
        mu = normalize(axis + 0.6 * _directions(2, dim, seed=11))
        p = ProductOfExperts(FAMILIES[expert](mu, torch.tensor([20.0, 45.0], dtype=torch.float64)))
        limit = cross_entropy(DeltaMixture(f), p)
        concentration = dim * torch.logspace(3, 6, 4, dtype=torch.float64)
        gaps = [
            (cross_entropy(SphericalMixture(FAMILIES[guide](f, tau.expand(3))), p) - limit).abs().log10()
            for tau in concentration
        ]
        slope = np.polyfit(concentration.log10().numpy(), torch.stack(gaps).numpy(), 1)[0]
        assert slope == pytest.approx(-1, abs=0.02), dim


@GUIDES
@EXPERTS
def test_single_precision_keeps_its_digits_where_guide_and_expert_agree(guide: str, expert: str) -> None:
    for dim, tau, kappa in ((3, 1e6, 1e6), (128, 1e4, 1e5), (2048, 1e5, 1e4)):
        f = _directions(dim, dtype=torch.float32)
        z = normalize(f + 1e-3 * _directions(dim, seed=1, dtype=torch.float32))
        low = cross_entropy(_law(guide, f, tau), _law(expert, z, kappa))
        high = cross_entropy(_law(guide, normalize(f.double()), tau), _law(expert, normalize(z.double()), kappa))
        assert low.dtype == torch.float32
        assert low.item() == pytest.approx(high.item(), rel=1e-5, abs=1e-4)


@GUIDES
@EXPERTS
def test_gradient_is_finite_at_equal_and_at_opposite_directions(guide: str, expert: str) -> None:
    for sign in (1.0, -1.0):
        f = _directions(5).requires_grad_()
        mu = (sign * f.detach()).requires_grad_()
        tau, kappa = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 50.0))
        value = cross_entropy(FAMILIES[guide](f, tau), FAMILIES[expert](mu, kappa))
        for gradient in torch.autograd.grad(value, (f, mu, tau, kappa)):
            assert gradient.isfinite().all()


@GUIDES
@EXPERTS
def test_derivatives_pass_gradcheck(guide: str, expert: str) -> None:
    vectors = [torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    vectors = [v.requires_grad_() for v in vectors]
    concentrations = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([2.0, 70.0], [30.0, 1.0])]

    def function(f: Tensor, mu: Tensor, tau: Tensor, kappa: Tensor) -> Tensor:
        q = FAMILIES[guide](normalize(f), tau, validate_args=False)
        return cross_entropy(q, FAMILIES[expert](normalize(mu), kappa, validate_args=False))

    assert torch.autograd.gradcheck(function, (*vectors, *concentrations), atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (*vectors, *concentrations), atol=1e-5, rtol=1e-3)


def test_batch_shapes_broadcast() -> None:
    q = PowerSpherical(_directions(3, 1, 6), torch.full((3, 1), 4.0, dtype=torch.float64))
    for p in (VonMisesFisher(_directions(5, 6), 2.0), PowerSpherical(_directions(5, 6), 2.0)):
        assert cross_entropy(q, p).shape == (3, 5)
        assert cross_entropy(SphericalUniform(6, batch_shape=(3, 1)), p).shape == (3, 5)


def test_spheres_of_different_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same event shape, got \(3,\) and \(4,\)"):
        cross_entropy(SphericalUniform(3), SphericalUniform(4))


def test_unknown_pair_names_the_remedy_and_can_be_registered() -> None:
    class Unknown(Normal):  # type: ignore[misc, unused-ignore]
        pass

    q, p = Unknown(0.0, 1.0), Normal(0.0, 2.0)
    with pytest.raises(NotImplementedError, match=r"from Unknown to Normal.*register_cross_entropy"):
        cross_entropy(q, p)

    @register_cross_entropy(Unknown, Normal)
    def rule(q: Normal, p: Normal) -> Tensor:
        total: Tensor = kl_divergence(q, p) + q.entropy()
        return total

    expected = 0.5 * math.log(2 * math.pi) + math.log(2) + 1 / 8
    assert cross_entropy(q, p).item() == pytest.approx(expected, rel=1e-6)


def test_a_pair_without_a_rule_inside_a_mixture_is_told_as_such() -> None:
    components = VonMisesFisher(_directions(3, 4), 5.0)
    mixture = SphericalMixture(components, torch.full((3,), 1 / 3, dtype=torch.float64))
    with pytest.raises(NotImplementedError, match=r"no cross-entropy .* registered for a SphericalMixture; estimate"):
        cross_entropy(mixture, mixture)


def test_a_component_that_is_never_drawn_counts_for_nothing() -> None:
    first = torch.tensor([1.0, 0.0])
    opposite = DeltaMixture(torch.stack([first, -first]).unsqueeze(-2))  # where the expert's density is 0
    weights = torch.tensor([1.0, 0.0], requires_grad=True)
    expert = PowerSpherical(first, 2.0)
    value = cross_entropy(SphericalMixture(opposite, weights), expert)
    assert float(value.detach()) == pytest.approx(float(-expert.log_prob(first)))
    (gradient,) = torch.autograd.grad(value, weights)
    assert not gradient.isnan().any()


@pytest.mark.parametrize("atoms", [1, 2, 3])
def test_locations_are_no_batch_dimension_of_the_expert(atoms: int) -> None:
    locations, p = _directions(atoms, 4, seed=1), VonMisesFisher(_directions(3, 4), 5.0)
    expected = torch.stack([-p.log_prob(z) for z in locations]).mean(0)
    torch.testing.assert_close(cross_entropy(DeltaMixture(locations), p), expected)
    product = ProductOfExperts(VonMisesFisher(_directions(3, 2, 4), 5.0))
    expected = torch.stack([-product.log_prob(z) for z in locations]).mean(0)
    torch.testing.assert_close(cross_entropy(DeltaMixture(locations), product), expected)


def test_a_batch_of_uniform_distributions_stands_beside_products_and_mixtures() -> None:
    alone = SphericalUniform(5, dtype=torch.float64)
    batch = SphericalUniform(5, batch_shape=(4,), dtype=torch.float64)
    product = ProductOfExperts(VonMisesFisher(_directions(4, 3, 5), 2.0))
    torch.testing.assert_close(cross_entropy(batch, product), cross_entropy(alone, product))
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    mixture = SphericalMixture(PowerSpherical(_directions(4, 3, 5), 2.0), weights)
    torch.testing.assert_close(cross_entropy(mixture, batch), cross_entropy(mixture, alone))
