from __future__ import annotations

import math

import pyro
import pytest
import torch
from torch import Tensor

from ssl_as_inference.distributions import DeltaMixture
from ssl_as_inference.sphere import normalize

SHAPES = pytest.mark.parametrize(
    ("batch", "components", "dim"),
    [((), 1, 2), ((), 3, 2), ((4,), 2, 3), ((4, 1, 2), 8, 5)],
    ids=lambda value: str(value).replace(" ", ""),
)


def random_locations(batch: tuple[int, ...], components: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return normalize(torch.randn(*batch, components, dim, dtype=dtype))


@SHAPES
def test_batch_and_event_shape(batch: tuple[int, ...], components: int, dim: int) -> None:
    locations = random_locations(batch, components, dim)
    q = DeltaMixture(locations)
    assert q.batch_shape == batch
    assert q.event_shape == (dim,)
    assert q.components == components
    assert q.mean.shape == (*batch, dim)
    assert q.entropy().shape == batch
    assert q.sample().shape == (*batch, dim)
    assert q.sample((7, 2)).shape == (7, 2, *batch, dim)
    assert q.log_prob(q.sample((7,))).shape == (7, *batch)
    assert DeltaMixture.infer_shapes(locations=locations.shape) == (q.batch_shape, q.event_shape)


@SHAPES
def test_the_support_is_the_locations(batch: tuple[int, ...], components: int, dim: int) -> None:
    locations = random_locations(batch, components, dim)
    for expand in (True, False):
        support = DeltaMixture(locations).enumerate_support(expand=expand)
        assert support.shape == (components, *batch, dim)
        for j in range(components):
            assert torch.equal(support[j], locations[..., j, :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@SHAPES
def test_probabilities_are_one_in_m_to_the_last_digit_and_sum_to_one(
    batch: tuple[int, ...], components: int, dim: int, dtype: torch.dtype
) -> None:
    q = DeltaMixture(random_locations(batch, components, dim, dtype))
    log_prob = q.log_prob(q.enumerate_support())
    assert log_prob.dtype == dtype
    assert torch.equal(log_prob, torch.full((components, *batch), -math.log(components), dtype=dtype))
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(batch, dtype=dtype))


def test_elsewhere_the_log_probability_is_minus_infinity() -> None:
    q = DeltaMixture(random_locations((4,), 3, 5))
    assert (q.log_prob(random_locations((9, 4), 1, 5).squeeze(-2)) == -math.inf).all()
    # A location of another batch element is no location of this one.
    assert (q.log_prob(q.locations[..., 0, :].roll(1, 0)) == -math.inf).all()


def test_samples_choose_every_location_equally_often() -> None:
    draws, components = 30_000, 4
    q = DeltaMixture(random_locations((2,), components, 3))
    sample = q.sample((draws,))
    chosen = (sample.unsqueeze(-2) == q.locations).all(-1)
    assert (chosen.sum(-1) == 1).all()
    counts = chosen.sum(0).double()
    expected = draws / components
    z_score = (counts - expected) / math.sqrt(expected * (1 - 1 / components))
    assert z_score.abs().max() < 4
    # The batch elements choose independently.
    agreement = (chosen[:, 0] & chosen[:, 1]).any(-1).double().mean().item()
    assert abs(agreement - 1 / components) < 4 * math.sqrt(0.25 * 0.75 / draws)


def test_the_mean_is_the_expectation_over_the_support() -> None:
    q = DeltaMixture(random_locations((4,), 3, 5))
    support = q.enumerate_support()
    expectation = (q.log_prob(support).exp().unsqueeze(-1) * support).sum(0)
    torch.testing.assert_close(q.mean, expectation, rtol=0, atol=1e-15)


def test_the_entropy_is_the_expected_negative_log_probability() -> None:
    q = DeltaMixture(random_locations((4,), 3, 5))
    log_prob = q.log_prob(q.enumerate_support())
    torch.testing.assert_close(q.entropy(), -(log_prob.exp() * log_prob).sum(0), rtol=0, atol=1e-15)


def test_coinciding_locations_remain_separate_components() -> None:
    q = DeltaMixture(torch.eye(3)[[0, 0, 1]])
    assert q.enumerate_support().shape == (3, 3)
    torch.testing.assert_close(q.log_prob(q.enumerate_support()), torch.full((3,), -math.log(3)))


def test_expand_broadcasts_without_copying() -> None:
    q = DeltaMixture(random_locations((1,), 3, 5))
    expanded = q.expand((6, 4))
    assert isinstance(expanded, DeltaMixture)
    assert expanded.batch_shape == (6, 4)
    assert expanded.locations.data_ptr() == q.locations.data_ptr()
    assert expanded.enumerate_support().shape == (3, 6, 4, 5)
    assert torch.equal(expanded.log_prob(q.locations[0, 0]), torch.full((6, 4), -math.log(3), dtype=torch.float64))


def test_the_gradient_reaches_locations_through_the_support_and_not_through_samples() -> None:
    locations = random_locations((), 3, 5).requires_grad_()
    q = DeltaMixture(locations)
    assert not q.sample((2,)).requires_grad
    (gradient,) = torch.autograd.grad(q.enumerate_support()[1].sum(), locations)
    assert torch.equal(gradient, torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64).expand(3, 5))


def test_two_thousand_dimensions_in_float32() -> None:
    q = DeltaMixture(random_locations((3,), 2, 2048, torch.float32))
    assert torch.equal(q.log_prob(q.enumerate_support()), torch.full((2, 3), -math.log(2)))


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        pytest.param(torch.zeros(3), r"locations must have shape .*M >= 1 and dim >= 2, got \(3,\)", id="a vector"),
        pytest.param(torch.zeros(0, 3), r"locations must have shape .* got \(0, 3\)", id="no component"),
        pytest.param(torch.ones(2, 1), r"locations must have shape .* got \(2, 1\)", id="one dimension"),
        pytest.param(2 * torch.eye(3), r"locations must have unit length .* got a vector of length 2;", id="length 2"),
        pytest.param(torch.zeros(2, 3), r"locations must have unit length .* length 0; .*normalize", id="length 0"),
        pytest.param(torch.full((2, 3), math.nan), r"locations must have unit length .* length nan", id="NaN"),
    ],
)
def test_bad_locations_are_refused(locations: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeltaMixture(locations, validate_args=True)


def test_a_value_of_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="event shape"):
        DeltaMixture(torch.eye(3), validate_args=True).log_prob(torch.eye(4)[0])


def test_arguments_are_checked_by_default() -> None:
    with pyro.validation_enabled(), pytest.raises(ValueError, match="locations must have unit length"):
        DeltaMixture(2 * torch.eye(3))
    with pyro.validation_enabled(is_validate=False):
        DeltaMixture(2 * torch.eye(3))


def test_validation_can_be_switched_off() -> None:
    q = DeltaMixture(2 * torch.eye(3), validate_args=False)
    torch.testing.assert_close(q.log_prob(2 * torch.eye(3)[0]), torch.tensor(-math.log(3)))
