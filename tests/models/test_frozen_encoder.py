"""The pair over a frozen encoder: its target map, what is frozen, what is saved, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from inference.fitting.features import fit_to_features
from inference.fitting.kl_objective import KLObjective
from inference.judging.representation import embed
from models.frozen_encoder import FrozenEncoderPair, Standardization, TargetMap
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher


def views(items: int = 60, width: int = 8, *, count: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    shared = torch.randn(items, width, generator=generator) @ mixing
    return shared + 0.3 * torch.randn(count, items, width, generator=generator) + 5


@pytest.mark.parametrize("dim", [2, 5, 8])
def test_the_target_is_scikit_learns_principal_components_divided_by_the_fourth_root_of_their_variance(
    dim: int,
) -> None:
    features, new = views(), views(seed=1)[0]
    flat = features.flatten(0, 1).double().numpy()
    fitted = PCA(dim).fit(flat)
    variance = fitted.explained_variance_ * (len(flat) - 1) / len(flat)
    scores = fitted.transform(new.double().numpy()) / variance**0.25
    expected = scores / np.linalg.norm(scores, axis=1, keepdims=True)
    found = TargetMap.fit(features, dim)(new).double().numpy()
    sign = np.sign((found * expected).sum(0))  # a principal direction has no sign
    np.testing.assert_allclose(found * sign, expected, atol=2e-5)


def test_cosines_of_targets_do_not_depend_on_where_the_features_lie_or_how_large_they_are() -> None:
    features = views()
    first, moved = TargetMap.fit(features, 4)(features[0]), TargetMap.fit(3 * features - 7, 4)(3 * features[0] - 7)
    torch.testing.assert_close(first @ first.T, moved @ moved.T, atol=1e-4, rtol=0)


def test_features_that_come_a_few_at_a_time_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    features = views()
    whole = TargetMap.fit(features, 4)(features[0])
    monkeypatch.setattr("models.frozen_encoder._AT_ONCE", 7)
    in_parts = TargetMap.fit(features.movedim(0, 1).contiguous().movedim(1, 0), 4)(features[0])  # as they lie on disk
    torch.testing.assert_close((in_parts * in_parts[0].sign()), (whole * whole[0].sign()), atol=1e-5, rtol=0)


def test_standardisation_is_numpys_and_only_centres_what_is_constant() -> None:
    features = torch.cat([views(), torch.full((3, 60, 1), 0.1)], dim=2)
    standardization = Standardization(9)
    standardization.fit(features)
    flat = features[..., :8].flatten(0, 1).double().numpy()
    found = standardization(features).flatten(0, 1).double().numpy()
    np.testing.assert_allclose(found[:, :8], (flat - flat.mean(0)) / flat.std(0), atol=1e-4)
    np.testing.assert_allclose(found[:, 8], 0, atol=1e-7)


def test_a_feature_too_small_for_its_reciprocal_is_only_centred() -> None:
    features = views().double()
    features[..., 3] *= 1e-60
    standardization = Standardization(8)
    standardization.fit(features)
    assert standardization.scale.isfinite().all()
    assert standardization.scale[3] == 1


@pytest.mark.parametrize(("family", "law"), [("power_spherical", PowerSpherical), ("von_mises_fisher", VonMisesFisher)])
def test_the_expert_has_a_direction_a_concentration_and_the_cosine_that_it_expects(family: str, law: type) -> None:
    pair = FrozenEncoderPair.of(views(), dim=4, hidden=16, family=family)  # type: ignore[arg-type]
    expert = pair.expert(views(seed=2)[0])
    assert isinstance(expert, law)
    assert expert.mean_direction.shape == (60, 4)
    assert expert.concentration.shape == expert.mean_resultant_length.shape == (60,)
    if family == "power_spherical":
        torch.testing.assert_close(expert.mean_resultant_length, expert.concentration / (expert.concentration + 3))


def test_the_encoder_and_the_target_stay_as_they_are_while_the_head_learns() -> None:
    features = views()
    pair = FrozenEncoderPair.of(features, dim=4, hidden=16)
    encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    pair.with_encoder(encoder).train()
    before = {name: tensor.clone() for name, tensor in pair.state_dict().items()}
    assert not encoder.training
    assert pair.model.predictor.training
    loss = KLObjective()(pair.model, pair.guide)
    optimizer = torch.optim.SGD([p for p in pair.parameters() if p.requires_grad], lr=0.1)
    (loss([features[0], features[1]]) / 60).backward()
    optimizer.step()
    changed = {name for name, tensor in pair.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("model.predictor.network.") for name in changed)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_state_dict_of_plain_tensors_gives_the_same_pair() -> None:
    features = views()
    pair = fit_to_features(FrozenEncoderPair.of(features, dim=4, hidden=16), features, epochs=2)
    other = FrozenEncoderPair(8, dim=4, hidden=16)
    other.load_state_dict(pair.state_dict())
    found, expected = other.expert(features[0]), pair.expert(features[0])
    assert torch.equal(found.concentration, expected.concentration)
    assert torch.equal(other.guide.locations([features[1]]), pair.guide.locations([features[1]]))


def test_what_is_said_of_views_is_what_is_said_of_their_features() -> None:
    images = torch.rand(5, 1, 4, 4)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
    pair = FrozenEncoderPair.of(views(), dim=4, hidden=16).with_encoder(encoder)
    seen, features = embed(pair, images), encoder(images)
    expert = pair.expert(features)
    assert torch.equal(seen.features, features)
    assert torch.equal(seen.concentration, expert.concentration)
    assert torch.equal(seen.mean_direction, expert.mean_direction)
    target = pair.guide.network.get_submodule("projector")
    torch.testing.assert_close(seen.outputs, target(features))


def test_the_seed_alone_makes_the_head_and_torchs_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again = (FrozenEncoderPair.of(views(), dim=4, seed=1).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    other = FrozenEncoderPair.of(views(), dim=4, seed=2).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def broken(value: float) -> Tensor:
    features = views()
    features[1, 3, 2] = value
    return features


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FrozenEncoderPair.of(views()[:1], dim=4), r"at least 2 views: one is to predict the other, got \(1, "),
        (lambda: FrozenEncoderPair.of(views()[0], dim=4), r"shape \(views, items, features\).*got \(60, 8\)"),
        (lambda: FrozenEncoderPair.of(broken(torch.nan), dim=4), "features must be finite.*1 NaN or infinite"),
        (lambda: FrozenEncoderPair.of(broken(torch.inf), dim=4), "features must be finite.*1 NaN or infinite"),
        (lambda: FrozenEncoderPair.of(views().double() * 1e200, dim=4), "in float32, got torch.float64, .* infinite"),
        (lambda: FrozenEncoderPair.of(views(items=4), dim=4), "features must be of more items than dim, 4, got 4"),
        (lambda: FrozenEncoderPair.of(torch.full((2, 30, 8), 3.7), dim=4), "vary in at least dim = 4.* vary in 0"),
        (lambda: FrozenEncoderPair.of(torch.zeros(2, 30, 8), dim=4), "vary in at least dim = 4.* vary in 0"),
        (lambda: FrozenEncoderPair.of(views(width=3)[..., [0, 1, 2, 2, 1]], dim=4), "at least dim = 4.* vary in 3"),
        (lambda: FrozenEncoderPair.of(views(), dim=9), "dim must lie between 2 and the width.*, 8, got 9"),
        (lambda: FrozenEncoderPair.of(views(), dim=1), "dim must lie between 2 and"),
        (lambda: FrozenEncoderPair(0), "features must be at least 1, got 0"),
        (lambda: FrozenEncoderPair(8, dim=1), "dim must be at least 2, got 1"),
        (lambda: FrozenEncoderPair(8, hidden=0), "hidden must be at least 1, got 0"),
        (lambda: FrozenEncoderPair(8, family="normal"), "family must be one of power_spherical, von_mises_fisher"),  # type: ignore[arg-type]
        (lambda: FrozenEncoderPair(8, dim=4).expert(torch.zeros(3, 7)), r"shape \(items, 8\), got \(3, 7\)"),
        (lambda: FrozenEncoderPair(8, dim=4).expert(torch.full((3, 8), torch.nan)), "features must be finite, got 24"),
        (lambda: fit_to_features(FrozenEncoderPair(7, dim=4), views()), r"shape \(views, items, 7\).*got \(3, 60, 8\)"),
        (lambda: fit_to_features(FrozenEncoderPair(8, dim=4), views()[:1]), "with at least 2 views, got"),
        (lambda: fit_to_features(FrozenEncoderPair(8, dim=4), broken(torch.nan)), "features must be finite, got 1 NaN"),
        (lambda: fit_to_features(FrozenEncoderPair(8, dim=4), views(), epochs=0), "epochs must be at least 1, got 0"),
        (lambda: fit_to_features(FrozenEncoderPair(8, dim=4), views(), batch_size=0), "batch_size must be at least 1"),
        (lambda: fit_to_features(FrozenEncoderPair(8, dim=4), views(), learning_rate=-1.0), "learning_rate must be"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
