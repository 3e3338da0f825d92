"""The mixture of finite concentration against its components, quadrature and sampling."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Categorical, MixtureSameFamily, constraints
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical, SphericalMixture
from ssl_as_inference.sphere import normalize


def _directions(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def _sphere() -> tuple[Tensor, Tensor]:
    """Points and weights of a rule on the sphere in space."""
    nodes, weights = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(300))
    angle = torch.arange(300, dtype=torch.float64) * (2 * torch.pi / 300)
    radius = (1 - nodes.square()).sqrt()[:, None]
    z = torch.stack(torch.broadcast_tensors(radius * angle.cos(), radius * angle.sin(), nodes[:, None]), -1)
    return z, (weights[:, None] * (2 * torch.pi / 300)).expand(300, 300)


def _entropy(law: SphericalMixture) -> float:
    z, weight = _sphere()
    log_prob = law.log_prob(z)
    return float(-(log_prob.exp() * log_prob * weight).sum())


def test_density_is_the_weighted_sum_and_integrates_to_one() -> None:
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    components = PowerSpherical(_directions(3, 3), torch.tensor([2.0, 9.5, 30.0], dtype=torch.float64))
    law = SphericalMixture(components, weights)
    z, weight = _sphere()
    expected = (components.log_prob(z.unsqueeze(-2)).exp() * weights).sum(-1)
    torch.testing.assert_close(law.log_prob(z).exp(), expected)
    assert (law.log_prob(z).exp() * weight).sum().item() == pytest.approx(1, abs=1e-7)


def test_weights_default_to_uniform_and_broadcast_over_the_batch() -> None:
    components = PowerSpherical(_directions(4, 3, 5), 6.0)
    torch.testing.assert_close(SphericalMixture(components).weights, torch.full((4, 3), 1 / 3, dtype=torch.float64))
    weights = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    law = SphericalMixture(components, weights)
    assert law.weights.shape == (4, 3)
    torch.testing.assert_close(law.mean, (weights[:, None] * components.mean).sum(-2))
    stock = MixtureSameFamily(Categorical(weights.expand(4, 3)), components)
    z = _directions(7, 4, 5, seed=1)
    torch.testing.assert_close(law.log_prob(z), stock.log_prob(z))
    torch.testing.assert_close(SphericalMixture(components, 30 * weights).weights, law.weights)


def test_samples_lie_on_the_sphere_with_the_mean_and_the_variance() -> None:
    law = SphericalMixture(
        PowerSpherical(_directions(3, 4), torch.tensor([3.0, 20.0, 80.0], dtype=torch.float64)),
        torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
    )
    torch.manual_seed(0)
    z = law.sample((50_000,))
    assert constraints.sphere.check(z).all()
    assert ((z.mean(0) - law.mean) / (law.variance / len(z)).sqrt()).abs().max() < 4
    torch.testing.assert_close(z.var(0), law.variance, rtol=0.03, atol=0)


def test_entropy_lies_between_its_bounds_and_reaches_either() -> None:
    """C8: H = h + I, 0 ≤ I ≤ log M."""
    for seed, tau in ((0, 1.0), (1, 8.0), (2, 60.0)):
        law = SphericalMixture(PowerSpherical(_directions(3, 3, seed=seed), torch.full((3,), tau, dtype=torch.float64)))
        low, high = (bound.item() for bound in law.entropy_bounds())
        assert high - low == pytest.approx(math.log(3), rel=1e-12)
        assert low < _entropy(law) < high
    equal = SphericalMixture(PowerSpherical(_directions(3).expand(4, 3), 12.0))
    assert _entropy(equal) == pytest.approx(equal.entropy_bounds()[0].item(), abs=1e-6)
    disjoint = SphericalMixture(PowerSpherical(torch.eye(3, dtype=torch.float64), 150.0))
    assert _entropy(disjoint) == pytest.approx(disjoint.entropy_bounds()[1].item(), abs=1e-6)


def test_bounds_take_the_weights_into_account() -> None:
    components = PowerSpherical(torch.eye(3, dtype=torch.float64), torch.tensor([100.0, 150.0, 200.0]))
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    low, high = SphericalMixture(components, weights).entropy_bounds()
    assert low.item() == pytest.approx((weights * components.entropy()).sum().item())
    assert (high - low).item() == pytest.approx(-(weights * weights.log()).sum().item())
    assert _entropy(SphericalMixture(components, weights)) == pytest.approx(high.item(), abs=1e-4)


def test_expansion_pickling_and_pyro_keep_the_distribution() -> None:
    law = SphericalMixture(PowerSpherical(_directions(3, 5), 6.0))
    z = _directions(5, seed=2)
    expanded = law.expand((4, 2))
    assert isinstance(expanded, SphericalMixture)
    assert expanded.batch_shape == (4, 2)
    assert expanded.sample((3,)).shape == (3, 4, 2, 5)
    torch.testing.assert_close(expanded.log_prob(z), law.log_prob(z).expand(4, 2))
    assert expanded.entropy_bounds()[0].shape == (4, 2)
    torch.testing.assert_close(pickle.loads(pickle.dumps(law)).log_prob(z), law.log_prob(z))  # noqa: S301

    def model() -> Tensor:
        with pyro.plate("images", 4):
            value: Tensor = pyro.sample("z", law)
        return value

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob"].shape == (4,)


def test_gradients_reach_weights_directions_and_concentrations() -> None:
    mu, kappa = _directions(3, 5).requires_grad_(), torch.full((3,), 6.0, dtype=torch.float64, requires_grad=True)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    law = SphericalMixture(PowerSpherical(mu, kappa), logits.softmax(-1))
    for gradient in torch.autograd.grad(law.log_prob(_directions(5, seed=3)), (mu, kappa, logits)):
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("components", "weights", "message"),
    [
        (PowerSpherical(torch.eye(3)[0], 2.0), None, r"components must have batch shape .* got batch shape \(\)"),
        (PowerSpherical(torch.eye(3), 2.0), torch.ones(2) / 2, r"weights must have shape \(M,\) .* got \(2,\)"),
        (PowerSpherical(torch.eye(3), 2.0), torch.tensor([0.5, -0.1, 0.6]), "weights must be .* >= 0 .* got -0.1"),
        (PowerSpherical(torch.eye(3), 2.0), torch.tensor([-0.5, -0.2, -0.3]), "weights must be .* >= 0 .* got -0.5"),
        (PowerSpherical(torch.eye(3), 2.0), torch.zeros(3), "weights must be .* with a positive sum"),
        (PowerSpherical(torch.eye(3), 2.0), torch.tensor([0.5, 0.5, math.inf]), "weights must be finite .* got inf"),
    ],
    ids=["no batch", "shape", "negative", "all negative", "none", "infinite"],
)
def test_bad_arguments_are_refused(components: PowerSpherical, weights: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SphericalMixture(components, weights, validate_args=True)


@pytest.mark.parametrize("batch", [(), (2, 4)])
def test_a_component_of_weight_zero_is_not_there(batch: tuple[int, ...]) -> None:
    kappa = torch.tensor([200.0, 1e4], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    law = SphericalMixture(PowerSpherical(torch.eye(3, dtype=torch.float64)[:2], kappa), weights).expand(batch)
    z = torch.eye(3, dtype=torch.float64)[1]  # where the other component is dense
    log_prob = law.log_prob(z)
    alone = PowerSpherical(torch.eye(3, dtype=torch.float64)[0], 200.0).log_prob(z)
    torch.testing.assert_close(log_prob, alone.expand(batch))
    assert torch.isfinite(law.mixture_distribution.entropy()).all()
    for gradient in torch.autograd.grad(log_prob.sum(), (kappa, weights)):
        assert torch.isfinite(gradient).all()


def test_a_tiny_weight_counts_as_what_it_is() -> None:
    weights, components = torch.tensor([1.0, 1e-30], dtype=torch.float64), PowerSpherical(_directions(2, 3), 1.0)
    law = SphericalMixture(components, weights)
    expected = torch.tensor([0.0, math.log(1e-30)], dtype=torch.float64)
    torch.testing.assert_close(law.mixture_distribution.logits, expected)
