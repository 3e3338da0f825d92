"""Divergences from and to delta mixtures, mixtures and products: finite, infinite, or of no closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from ssl_as_inference import cross_entropy
from ssl_as_inference.distributions import (
    DeltaMixture,
    PowerSpherical,
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.sphere import normalize


def _vectors(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def _kappa(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


DENSITIES: dict[str, TorchDistribution] = {
    "vmf": VonMisesFisher(_vectors(3), 4.0),
    "ps": PowerSpherical(_vectors(3), 4.0),
    "uniform": SphericalUniform(3, dtype=torch.float64),
    "mixture": SphericalMixture(VonMisesFisher(_vectors(2, 3), 3.0)),
    "product": ProductOfExperts(VonMisesFisher(_vectors(2, 3), 3.0)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_between_a_delta_mixture_and_a_density_it_is_infinite(name: str) -> None:
    delta, density = DeltaMixture(_vectors(5, 2, 3)), DENSITIES[name].expand((4, 1))
    for divergence in (kl_divergence(delta, density), kl_divergence(density, delta)):
        assert divergence.dtype == torch.float64
        assert torch.equal(divergence, torch.full((4, 5), math.inf, dtype=torch.float64))


def test_between_delta_mixtures_it_is_that_of_the_points_with_their_multiplicity() -> None:
    a, b, c = torch.eye(3)
    cases = [
        ([a, b], [a, b], 0.0),
        ([a, b], [b, a], 0.0),
        ([a], [a, b], math.log(2)),
        ([a, a], [a], 0.0),
        ([a, a, b], [a, b], 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)),
        ([a, b], [a, c], math.inf),
    ]
    for first, second, expected in cases:
        got = kl_divergence(DeltaMixture(torch.stack(first)), DeltaMixture(torch.stack(second)))
        assert got.item() == pytest.approx(expected, abs=1e-7)
    batch = kl_divergence(DeltaMixture(torch.eye(3).expand(4, 1, 3, 3)), DeltaMixture(torch.eye(3).expand(5, 3, 3)))
    assert torch.equal(batch, torch.zeros(4, 5))


def _integral(q: TorchDistribution, log_p: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """∫ q log(q/p) over the sphere in space, p normalised by the same quadrature."""
    log_q = q.log_prob(z)
    log_q = log_q - (log_q.exp() * weight).sum().log()
    log_p = log_p - (log_p.exp() * weight).sum().log()
    return (log_q.exp() * (log_q - log_p) * weight).sum()


@pytest.fixture(scope="module")
def quadrature() -> tuple[Tensor, Tensor]:
    """Points and weights: Gauss and Legendre in the height, the trapezoidal rule around it."""
    height, share = (torch.as_tensor(x) for x in np.polynomial.legendre.leggauss(200))
    angle = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
    radius = (1 - height.square()).sqrt()
    points = torch.stack(
        [
            radius[:, None] * angle.cos(),
            radius[:, None] * angle.sin(),
            height[:, None].expand(200, 400),
        ],
        dim=-1,
    )
    return normalize(points.reshape(-1, 3)), (share[:, None] * (2 * math.pi / 400)).expand(200, 400).reshape(-1)


PRODUCTS = {
    "von Mises-Fisher": ProductOfExperts(VonMisesFisher(_vectors(3, 3, seed=1), _kappa(3.0, 8.0, 1.0))),
    "opposed": ProductOfExperts(VonMisesFisher(torch.stack([_vectors(3), -_vectors(3)]), _kappa(6.0, 6.0))),
    "one Power Spherical": ProductOfExperts(PowerSpherical(_vectors(1, 3, seed=1), _kappa(7.5))),
    "two Power Spherical": ProductOfExperts(PowerSpherical(_vectors(2, 3, seed=1), _kappa(6.5, 4.0))),
    "uniform": ProductOfExperts(SphericalUniform(3, batch_shape=(4,), dtype=torch.float64)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_to_and_from_a_product_it_is_the_integral(name: str, quadrature: tuple[Tensor, Tensor]) -> None:
    product, (z, weight) = PRODUCTS[name], quadrature
    for q in (DENSITIES["vmf"], DENSITIES["ps"], DENSITIES["uniform"], PRODUCTS["von Mises-Fisher"]):
        # The logarithm of a Power Spherical density has a pole, which costs the quadrature its digits.
        rel = 1e-4 if "Power" in name or isinstance(q, PowerSpherical) else 1e-9
        expected = _integral(q, product.log_prob(z), z, weight).item()
        assert kl_divergence(q, product).item() == pytest.approx(expected, rel=rel, abs=1e-12)
        if name != "two Power Spherical":
            expected = _integral(product, q.log_prob(z), z, weight).item()
            assert kl_divergence(product, q).item() == pytest.approx(expected, rel=rel, abs=1e-12)


def test_the_divergence_of_the_paper_is_the_loss_with_its_normaliser() -> None:
    # Eq. (2) for a guide with a density: KL = −E_q log Π p_i + log Z − H(q).
    q = VonMisesFisher(_vectors(6, 5), _kappa(30.0))
    product = ProductOfExperts(VonMisesFisher(_vectors(6, 3, 5, seed=2), _kappa(3.0, 8.0, 1.0)))
    torch.testing.assert_close(
        kl_divergence(q, product), cross_entropy(q, product) + product.log_normalizer() - q.entropy()
    )


def test_what_has_no_closed_form_says_what_to_use(quadrature: tuple[Tensor, Tensor]) -> None:
    mixture = DENSITIES["mixture"]
    for other in DENSITIES.values():
        for q, p in ((mixture, other), (other, mixture)):
            with pytest.raises(NotImplementedError, match=r"has no closed form.*entropy_bounds"):
                kl_divergence(q, p)
    low, high = (cross_entropy(mixture, DENSITIES["vmf"]) - bound for bound in reversed(mixture.entropy_bounds()))
    z, weight = quadrature
    assert low < _integral(mixture, DENSITIES["vmf"].log_prob(z), z, weight) < high
    pair, three = (ProductOfExperts(PowerSpherical(_vectors(n, 3), 2.0)) for n in (2, 3))
    for q, p in ((pair, DENSITIES["vmf"]), (DENSITIES["vmf"], three)):
        with pytest.raises(NotImplementedError, match="Power Spherical experts"):
            kl_divergence(q, p)


def test_another_sphere_is_refused() -> None:
    with pytest.raises(ValueError, match="must be on the same sphere"):
        kl_divergence(DeltaMixture(torch.eye(4)), DENSITIES["vmf"])


@pytest.mark.parametrize("dim", [2, 3, 128, 4096])
@pytest.mark.parametrize("guide", [VonMisesFisher, PowerSpherical])
@pytest.mark.parametrize("expert", [VonMisesFisher, PowerSpherical])
def test_no_divergence_is_negative(guide: type[VonMisesFisher], expert: type[VonMisesFisher], dim: int) -> None:
    mu = torch.nn.functional.pad(_kappa(1.0), (0, dim - 1))
    kappa = torch.cat([_kappa(0.0), torch.logspace(-20, 30, 101, dtype=torch.float64)])
    some = kappa[:: 3 if dim < 200 else 10]
    every = kl_divergence(guide(mu, some[:, None]), expert(mu, some))
    factor = 1.0 if guide is expert else 2.0 if expert is PowerSpherical else 0.5
    matched = kl_divergence(guide(mu, kappa), expert(mu, factor * kappa))  # C20: they all but agree from κ ≫ d² on
    assert (every >= 0).all()
    assert (matched >= 0).all()
    far = kappa > 1e6 * dim**2
    assert (matched[far] <= 1e-15 * dim * kappa[far].log()).all()
