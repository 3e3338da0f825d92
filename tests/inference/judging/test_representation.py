from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from inference.fitting.kl_objective import KLObjective
from inference.judging.representation import embed, represent
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

METHODS = pytest.mark.parametrize("method", [SimSiam, VISimSiam])


def small_pair(method: Any = VISimSiam) -> MultiViewPair:
    pair: MultiViewPair = method(small_convolutional_backbone(width=4), 16, dim=8)
    return pair


@METHODS
def test_a_representation_is_what_the_networks_say_in_evaluation_mode(method: Any) -> None:
    pair, images = small_pair(method), torch.rand(5, 1, 16, 16)
    KLObjective().loss(pair.model, pair.guide, [images, images.flip(0)])  # moves the running statistics
    representation = represent(pair, images)
    pair.eval()
    with torch.no_grad():
        features = pair.model.encoder.get_submodule("backbone")(images)
        expert: Any = pair.model.expert(images)
        outputs = pair.guide.locations([images]).squeeze(1)
    torch.testing.assert_close(representation.features, features)
    torch.testing.assert_close(representation.outputs, outputs)
    torch.testing.assert_close(representation.concentration, expert.concentration)
    assert representation.features.shape == (5, 16)
    assert representation.outputs.shape == (5, 8)
    assert representation.concentration.shape == (5,)
    assert not representation.features.requires_grad


@METHODS
@pytest.mark.parametrize("training", [True, False])
def test_an_embedding_holds_the_experts_direction_and_leaves_the_pair_as_it_was(method: Any, training: bool) -> None:
    pair, images = small_pair(method).train(training), torch.rand(5, 1, 16, 16)
    state = {name: tensor.clone() for name, tensor in pair.state_dict().items()}
    embedding, representation = embed(pair, images), represent(pair, images)
    assert pair.training is training
    assert all(torch.equal(tensor, state[name]) for name, tensor in pair.state_dict().items())
    for name in ("features", "outputs", "concentration"):
        torch.testing.assert_close(getattr(embedding, name), getattr(representation, name))
    expert: Any = pair.eval().model.expert(images)
    torch.testing.assert_close(embedding.mean_direction, expert.mean_direction.detach())
    torch.testing.assert_close(embedding.mean_direction.norm(dim=1), torch.ones(5))
    assert not embedding.mean_direction.requires_grad


def test_the_size_of_the_batches_does_not_matter() -> None:
    pair, images = small_pair(), torch.rand(7, 1, 16, 16)
    whole = represent(pair, images)
    for batch_size in (1, 3, 7, 100):
        parts = represent(pair, images, batch_size=batch_size)
        for name in ("features", "outputs", "concentration"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_representing_leaves_the_pair_as_it_was(training: bool) -> None:
    pair = small_pair().train(training)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    represent(pair, torch.rand(5, 1, 16, 16))
    assert pair.training is training
    assert all(module.training is training for module in pair.modules())
    for name, value in pair.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_mode_of_the_pair_is_restored_after_an_error() -> None:
    pair = small_pair()
    with pytest.raises(RuntimeError):
        represent(pair, torch.rand(5, 3, 16, 16))
    assert pair.training


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: represent(small_pair(), torch.zeros(0, 1, 16, 16)), "images must hold at least one image, got none"),
        (
            lambda: represent(small_pair(), torch.zeros(2, 1, 16, 16), batch_size=0),
            "batch_size must be at least 1, got 0",
        ),
    ],
    ids=["no images", "batches of none"],
)
def test_bad_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
