from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ssl_as_inference.distributions import (
    PowerSpherical,
    ProductOfExperts,
    SphericalUniform,
    VonMisesFisher,
    stack_experts,
)
from ssl_as_inference.sphere import normalize

FAMILIES = pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
VIEWS = pytest.mark.parametrize("views", [1, 2, 3, 8])


def random_directions(*shape: int) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64))


def random_experts(
    family: Callable[..., VonMisesFisher | PowerSpherical], batch: tuple[int, ...], views: int, dim: int
) -> VonMisesFisher | PowerSpherical:
    concentration = torch.empty(*batch, views, dtype=torch.float64).uniform_(0.1, 9.0)
    return family(random_directions(*batch, views, dim), concentration)


def sphere_grid(dim: int) -> tuple[Tensor, Tensor]:
    """Points and weights of a quadrature on the circle or the sphere in space, exact for harmonics of low degree."""
    angle = 2 * math.pi * torch.arange(96, dtype=torch.float64) / 96
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    if dim == 2:
        return circle, torch.full((96,), 2 * math.pi / 96, dtype=torch.float64)
    height, height_weight = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(60))
    radius = (1 - height**2).sqrt()
    points = torch.cat([(radius[:, None, None] * circle), height[:, None, None].expand(-1, 96, 1)], dim=-1)
    weights = height_weight[:, None].expand(-1, 96) * 2 * math.pi / 96
    return points.reshape(-1, 3), weights.reshape(-1)


@FAMILIES
@VIEWS
def test_log_prob_is_the_sum_over_views_without_a_normaliser(
    family: Callable[..., VonMisesFisher | PowerSpherical], views: int
) -> None:
    experts = random_experts(family, (4,), views, 5)
    z = random_directions(10, 4, 5)
    expected = torch.zeros(10, 4, dtype=torch.float64)
    for i in range(views):
        expected += family(experts.mean_direction[:, i], experts.concentration[:, i]).log_prob(z)
    product = ProductOfExperts(experts)
    torch.testing.assert_close(product.log_prob(z), expected, rtol=1e-13, atol=1e-13)
    assert product.batch_shape == (4,)
    assert product.event_shape == (5,)
    assert product.log_prob(z[0, 0]).shape == (4,)


@pytest.mark.parametrize("dim", [2, 3, 8])
@VIEWS
def test_the_normalised_product_is_the_exact_posterior(dim: int, views: int) -> None:
    product = ProductOfExperts(random_experts(VonMisesFisher, (4,), views, dim))
    posterior = product.normalized()
    assert isinstance(posterior, VonMisesFisher)
    assert posterior.batch_shape == (4,)
    z = random_directions(20, 4, dim)
    exact = product.log_prob(z) - product.log_normalizer()
    torch.testing.assert_close(posterior.log_prob(z), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
@VIEWS
def test_the_log_normaliser_is_the_integral_of_the_product(dim: int, views: int) -> None:
    experts = random_experts(VonMisesFisher, (4,), views, dim)
    experts = VonMisesFisher(experts.mean_direction, experts.concentration.clamp_max(20 / views))
    product = ProductOfExperts(experts)
    points, weights = sphere_grid(dim)
    density = product.log_prob(points[:, None, :]).exp()
    integral = (weights[:, None] * density).sum(0)
    torch.testing.assert_close(product.log_normalizer(), integral.log(), rtol=0, atol=1e-11)
    posterior_mass = (weights[:, None] * product.normalized().log_prob(points[:, None, :]).exp()).sum(0)
    torch.testing.assert_close(posterior_mass, torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_one_expert_is_its_own_posterior(dim: int) -> None:
    experts = random_experts(VonMisesFisher, (4,), 1, dim)
    product = ProductOfExperts(experts)
    torch.testing.assert_close(product.log_normalizer(), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    posterior = product.normalized()
    assert isinstance(posterior, VonMisesFisher)
    torch.testing.assert_close(posterior.concentration, experts.concentration[:, 0])
    torch.testing.assert_close(posterior.mean_direction, experts.mean_direction[:, 0])


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_opposite_experts_cancel_to_the_uniform_distribution_with_a_finite_gradient(dim: int) -> None:
    direction = torch.eye(dim, dtype=torch.float64)[0]
    mean_direction = torch.stack([direction, -direction]).requires_grad_()
    concentration = torch.full((2,), 4.0, dtype=torch.float64, requires_grad=True)
    product = ProductOfExperts(VonMisesFisher(mean_direction, concentration))
    z = random_directions(10, dim)
    posterior = product.normalized()
    uniform = SphericalUniform(dim, dtype=torch.float64)
    torch.testing.assert_close(posterior.log_prob(z), uniform.log_prob(z), rtol=0, atol=1e-12)
    # All the mass of the product is then that of a constant: log Z = 2 log C(4) − log C(0).
    torch.testing.assert_close(product.log_normalizer(), product.log_prob(z)[0] - uniform.log_prob(z)[0])
    objective = product.log_normalizer() + posterior.log_prob(z).sum()
    for gradient in torch.autograd.grad(objective, [mean_direction, concentration]):
        assert gradient.isfinite().all()


def test_nearly_opposite_experts_lose_no_digits() -> None:
    # η is what is left of two large vectors; R follows it down without a jump to zero.
    tilt = torch.tensor([1e-3, 1e-6, 1e-9], dtype=torch.float64)
    side = torch.stack([tilt.cos(), tilt.sin()], dim=-1)
    opposite = torch.stack([-tilt.cos(), tilt.sin()], dim=-1)
    experts = VonMisesFisher(torch.stack([side, opposite], dim=-2), torch.tensor(5.0, dtype=torch.float64))
    posterior = ProductOfExperts(experts).normalized()
    assert isinstance(posterior, VonMisesFisher)
    torch.testing.assert_close(posterior.concentration, 10 * tilt.sin(), rtol=1e-12, atol=0)
    torch.testing.assert_close(posterior.mean_direction, torch.tensor([[0.0, 1.0]] * 3, dtype=torch.float64))


def test_what_is_left_of_experts_that_cancel_has_a_unit_direction_in_single_precision() -> None:
    directions = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    posterior = ProductOfExperts(VonMisesFisher(directions, torch.tensor([1.0, 1.0, 1e-22]))).normalized()
    assert isinstance(posterior, VonMisesFisher)
    assert posterior.dtype == torch.float32
    torch.testing.assert_close(posterior.mean_direction, directions[2])
    assert float(posterior.concentration) == pytest.approx(1e-22, rel=1e-6)


def test_the_gradient_of_the_exact_loss_is_moment_matching() -> None:
    # ∇_η (−log C(R) − ηᵀf̄) = A(R) η/R − f̄ (C16), with A as the posterior's own mean resultant length.
    experts = random_experts(VonMisesFisher, (), 3, 4)
    mean_direction = experts.mean_direction.clone().requires_grad_()
    experts = VonMisesFisher(mean_direction, experts.concentration)
    product = ProductOfExperts(experts)
    atoms = random_directions(3, 4)
    (gradient,) = torch.autograd.grad(product.log_normalizer() - product.log_prob(atoms).mean(), mean_direction)
    with torch.no_grad():
        expected = experts.concentration[:, None] * (product.normalized().mean - atoms.mean(0))
    # log_prob may measure the cosine by a chord, which agrees with it on the sphere only: compare along the sphere.
    normal = mean_direction.detach()

    def tangent(vector: Tensor) -> Tensor:
        return vector - (vector * normal).sum(-1, keepdim=True) * normal

    torch.testing.assert_close(tangent(gradient), tangent(expected), rtol=0, atol=1e-9)


def test_expand_broadcasts_the_batch_and_keeps_the_views() -> None:
    product = ProductOfExperts(random_experts(VonMisesFisher, (1,), 3, 5))
    expanded = product.expand((6, 4))
    assert isinstance(expanded, ProductOfExperts)
    assert expanded.batch_shape == (6, 4)
    assert expanded.experts.batch_shape == (6, 4, 3)
    z = random_directions(5)
    torch.testing.assert_close(expanded.log_prob(z), product.log_prob(z).expand(6, 4))
    torch.testing.assert_close(expanded.log_normalizer(), product.log_normalizer().expand(6, 4))


@pytest.mark.parametrize("method", ["log_normalizer", "normalized"])
def test_a_product_of_power_spherical_experts_says_that_it_has_no_closed_form(method: str) -> None:
    product = ProductOfExperts(random_experts(PowerSpherical, (4,), 3, 5))
    with pytest.raises(NotImplementedError, match=r"Power ?Spherical experts"):
        getattr(product, method)()
    assert not product.has_rsample


@FAMILIES
def test_stacked_experts_are_the_experts_side_by_side(
    family: Callable[..., VonMisesFisher | PowerSpherical],
) -> None:
    singles = [family(random_directions(4, 5), torch.rand(4, dtype=torch.float64)) for _ in range(3)]
    stacked = stack_experts(singles)
    assert isinstance(stacked, type(singles[0]))
    assert stacked.batch_shape == (4, 3)
    z = random_directions(4, 5)
    expected = torch.stack([single.log_prob(z) for single in singles], dim=-1)
    torch.testing.assert_close(stacked.log_prob(z[:, None]), expected, rtol=0, atol=0)


def vmf(*batch: int, dim: int = 3) -> VonMisesFisher:
    return VonMisesFisher(random_directions(*batch, dim), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: ProductOfExperts(vmf()), r"experts must have .* got batch shape \(\)", id="no view axis"),
        pytest.param(
            lambda: ProductOfExperts(vmf(2, 0)), r"experts must have .* got batch shape \(2, 0\)", id="no views"
        ),
        pytest.param(lambda: stack_experts([]), "experts must be one or more .* got none", id="stack of none"),
        pytest.param(
            lambda: stack_experts([vmf(2), PowerSpherical(random_directions(2, 3), 1.0)]),
            r"experts must be .* same family, got \['PowerSpherical', 'VonMisesFisher'\]",
            id="stack of two families",
        ),
        pytest.param(
            lambda: stack_experts([vmf(2), vmf(4)]),
            r"experts must have the same batch and event shape, got .*\(2,\).*\(4,\)",
            id="stack of two batch shapes",
        ),
        pytest.param(
            lambda: stack_experts([vmf(2), vmf(2, dim=4)]),
            r"experts must have the same batch and event shape, got .*\(3,\).*\(4,\)",
            id="stack of two dimensions",
        ),
        pytest.param(
            lambda: stack_experts([SphericalUniform(3), SphericalUniform(3)]),
            "experts must have parameters to stack .* got SphericalUniform",
            id="stack of uniform distributions",
        ),
        pytest.param(
            lambda: ProductOfExperts(vmf(2), validate_args=True).log_prob(torch.ones(3, dtype=torch.float64)),
            "value must have unit length",
            id="value off the sphere",
        ),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_experts_of_another_family_stack_by_their_parameters() -> None:
    stacked = stack_experts([dist.Normal(torch.zeros(4), 1.0), dist.Normal(torch.ones(4), 2.0)])
    assert stacked.batch_shape == (4, 2)


def test_mean_mode_and_entropy_are_the_posteriors() -> None:
    experts = VonMisesFisher(torch.eye(3, dtype=torch.float64)[:2], torch.tensor([3.0, 4.0], dtype=torch.float64))
    product = ProductOfExperts(experts)
    posterior = VonMisesFisher(torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64), 5.0)
    for name in ("mean", "mode"):
        torch.testing.assert_close(getattr(product, name), getattr(posterior, name), rtol=0, atol=1e-15)
    torch.testing.assert_close(product.entropy(), posterior.entropy(), rtol=0, atol=1e-15)
