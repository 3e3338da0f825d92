"""A constant concentration is evaluated once, and anew whenever it may have changed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from models.networks import VonMisesFisherHead
from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.distributions import von_mises_fisher as module
from ssl_as_inference.special import von_mises_fisher_log_normalizer_plus_concentration
from ssl_as_inference.sphere import normalize


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The concentrations whose normaliser was computed."""
    seen: list[float] = []
    compute = von_mises_fisher_log_normalizer_plus_concentration

    def counted(dim: int, concentration: Tensor) -> Tensor:
        seen.append(float(concentration.flatten()[0]))
        return compute(dim, concentration)

    monkeypatch.setattr(module, "von_mises_fisher_log_normalizer_plus_concentration", counted)
    return seen


def _log_prob(head: VonMisesFisherHead, projection: Tensor) -> Tensor:
    z = normalize(torch.ones_like(projection))
    expert: VonMisesFisher = head(projection)
    return expert.log_prob(z)


def _direct(head: VonMisesFisherHead, projection: Tensor, concentration: float) -> Tensor:
    mean_direction = normalize(head.network(projection))
    return VonMisesFisher(mean_direction, concentration).log_prob(normalize(torch.ones_like(projection)))


def test_the_expert_is_the_distribution_with_its_normaliser_computed_once(evaluations: list[float]) -> None:
    head = VonMisesFisherHead(nn.Linear(4, 4), 3.0)
    for _ in range(3):
        projection = torch.randn(6, 4)
        torch.testing.assert_close(
            _log_prob(head, projection),
            VonMisesFisher(normalize(head.network(projection)), torch.tensor(3.0)).log_prob(
                normalize(torch.ones(6, 4))
            ),
            rtol=0,
            atol=0,
        )
    assert evaluations == [3.0]  # of the head; the comparison computes its own elsewhere


def test_a_changed_concentration_is_seen(evaluations: list[float]) -> None:
    head, other = VonMisesFisherHead(nn.Linear(4, 4), 3.0), VonMisesFisherHead(nn.Linear(4, 4), 7.0)
    projection = torch.randn(6, 4)
    _log_prob(head, projection)
    head.load_state_dict(other.state_dict())
    torch.testing.assert_close(_log_prob(head, projection), _direct(head, projection, 7.0))
    head.double()
    projection = projection.double()
    torch.testing.assert_close(_log_prob(head, projection), _direct(head, projection, 7.0))
    assert _log_prob(head, projection).dtype == torch.float64
    assert evaluations[0] == 3.0


def test_another_tensor_is_seen() -> None:
    head = VonMisesFisherHead(nn.Linear(4, 4), 3.0)
    projection = torch.randn(6, 4)
    _log_prob(head, projection)
    head.concentration = torch.tensor(2.0, dtype=torch.float64)
    torch.testing.assert_close(_log_prob(head, projection), _direct(head, projection, 2.0))


def test_another_dimension_is_seen() -> None:
    head = VonMisesFisherHead(nn.Identity(), 3.0)
    for dim in (4, 5):
        projection = torch.randn(6, dim)
        torch.testing.assert_close(_log_prob(head, projection), _direct(head, projection, 3.0))


def test_what_evaluation_made_serves_in_training() -> None:
    head = VonMisesFisherHead(nn.Linear(4, 4), 3.0)
    projection = torch.randn(6, 4)
    with torch.inference_mode():
        _log_prob(head, projection)
    _log_prob(head, projection).sum().backward()
    assert isinstance(head.network.weight.grad, Tensor)


def test_a_head_that_was_used_can_be_copied_and_pickled() -> None:
    head = VonMisesFisherHead(nn.Linear(4, 4), 3.0)
    projection = torch.randn(6, 4)
    expected = _log_prob(head, projection)
    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):  # noqa: S301  # our own
        torch.testing.assert_close(_log_prob(twin, projection), expected)
        assert list(twin.state_dict()) == list(head.state_dict())


def test_around_keeps_the_concentration_and_checks_the_direction() -> None:
    one = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 5.0)
    directions = normalize(torch.randn(4, 3))
    other = one.around(directions)
    assert torch.equal(other.mean_direction, directions)
    assert torch.equal(other.concentration, torch.full((4,), 5.0))
    z = normalize(torch.randn(4, 3))
    assert torch.equal(other.log_prob(z), VonMisesFisher(directions, 5.0).log_prob(z))
    with pytest.raises(ValueError, match=r"last dimension 3, got shape \(4, 2\)"):
        one.around(torch.ones(4, 2))
    with pytest.raises(ValueError, match="unit length"):
        one.around(torch.ones(4, 3))
    learned = VonMisesFisher(directions, torch.tensor(5.0, requires_grad=True))
    with pytest.raises(ValueError, match="constant without derivative"):
        learned.around(directions)
