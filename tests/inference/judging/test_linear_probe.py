"""The paper's linear evaluation: LARS by its formula, accuracies by scikit-learn, the rules about who may choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from inference.judging import linear_probe as module
from inference.judging.linear_probe import LinearClassifier, ProbeSettings, hold_out, linear_probe

Split = tuple[Tensor, Tensor, Tensor, Tensor]
FIXED_RATE = ProbeSettings(learning_rates=(1.6,))


def blobs(classes: int, images: int, dim: int, *, spread: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal clouds of deviation `spread` around centres at distance 3 from the origin; centres do not depend on the
    seed."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    centres = 3 * centres / centres.norm(dim=1, keepdim=True)
    labels = torch.arange(classes).repeat_interleave(images)
    noise = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed))
    return centres[labels] + spread * noise, labels


@pytest.fixture(scope="module")
def digits() -> Split:
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(pixels).float() / 16, torch.from_numpy(labels)
    return x[:1300], y[:1300], x[1300:], y[1300:]


def lars_by_hand(
    x: Tensor, y: Tensor, *, classes: int, rate: float, epochs: int, seed: int, adapts: bool
) -> tuple[Tensor, Tensor]:
    """Full-batch training in float64 with gradients and updates written out: W, b."""
    generator = torch.Generator().manual_seed(seed)
    parameters = [(0.01 * torch.randn(classes, x.size(1), generator=generator)).double(), torch.zeros(classes).double()]
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    x, target = x.double(), torch.eye(classes).double()[y]
    for epoch in range(epochs):
        residual = (x @ parameters[0].T + parameters[1]).softmax(1) - target
        gradients = [residual.T @ x / len(x), residual.mean(0)]
        eta = rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for w, g, v in zip(parameters, gradients, velocity, strict=True):
            ratio = 1e-3 * float(w.norm()) / (float(g.norm()) + 1e-8) if adapts and float(w.norm()) > 0 else 1.0
            v.mul_(0.9).add_(ratio * g)
            w.sub_(eta * v)
    return parameters[0], parameters[1]


@pytest.mark.parametrize("rate", [0.4, 1.6, 6.4])
def test_the_classifier_is_trained_by_the_formula_of_lars_and_not_by_sgd(rate: float) -> None:
    x, y = blobs(4, 30, 16)
    settings = ProbeSettings(epochs=30, learning_rates=(rate,), seed=5)  # one batch an epoch: the order does not matter
    found = linear_probe(x, y, x, y, settings).classifier
    options: Any = {"classes": 4, "rate": rate, "epochs": 30, "seed": 5}
    weight, bias = lars_by_hand(x, y, **options, adapts=True)
    torch.testing.assert_close(found.weight.double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.bias.double(), bias, rtol=1e-4, atol=1e-6)
    plain, _ = lars_by_hand(x, y, **options, adapts=False)
    assert (plain - weight).norm() > 0.2 * plain.norm()


def test_a_step_of_lars_is_at_most_its_rate_times_the_trust_times_the_length_of_the_weights() -> None:
    x, y = blobs(4, 30, 16)
    settings = ProbeSettings(epochs=1, learning_rates=(1.6,), momentum=0.0, seed=1)
    after = linear_probe(1e4 * x, y, x, y, settings).classifier.weight  # whatever the length of the gradient
    before = 0.01 * torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    assert (after - before).norm().item() == pytest.approx(1.6e-3 * before.norm().item(), rel=1e-3)


def test_candidates_trained_side_by_side_are_trained_as_if_alone() -> None:
    x, y = blobs(3, 50, 8, spread=2.0)
    rates = (0.2, 1.6, 12.8)
    together = linear_probe(x, y, x, y, ProbeSettings(epochs=20, batch_size=32, learning_rates=rates))
    fitted, held_out = hold_out(y, 0.2, 0)
    for rate in rates:
        alone = linear_probe(
            x[fitted],
            y[fitted],
            x[held_out],
            y[held_out],
            ProbeSettings(epochs=20, batch_size=32, learning_rates=(rate,)),
        )
        assert together.held_out_accuracy[rate] == pytest.approx(alone.top1, abs=1e-9)


@pytest.mark.parametrize("dim", [2, 64, 512])
def test_the_probe_reaches_the_convex_optimum_on_separable_data(dim: int) -> None:
    train, labels = blobs(3, 100, dim, spread=0.15)
    test, test_labels = blobs(3, 60, dim, spread=0.15, seed=1)
    optimum = LogisticRegression(C=1e6, max_iter=1000).fit(train.numpy(), labels.numpy())
    assert optimum.score(train.numpy(), labels.numpy()) == 1.0
    result = linear_probe(train, labels, test, test_labels, ProbeSettings(batch_size=64))
    assert result.top1 >= optimum.score(test.numpy(), test_labels.numpy())
    assert (result.classifier.ranks(train, labels) == 0).all()


def convex_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    fitted = probe.fit(train.double().numpy(), labels.numpy())
    return float(fitted.score(test.double().numpy(), test_labels.numpy()))


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_probe_comes_close_to_a_penalised_convex_probe_on_overlapping_clouds(spread: float) -> None:
    train, test = blobs(5, 200, 16, spread=spread), blobs(5, 200, 16, spread=spread, seed=1)
    convex = convex_accuracy(*train, *test)
    assert convex < 0.995
    assert linear_probe(*train, *test).top1 == pytest.approx(convex, abs=0.015)


def test_on_digits_it_agrees_with_the_convex_probe(digits: Split) -> None:
    result = linear_probe(*digits)
    assert result.top1 == pytest.approx(convex_accuracy(*digits), abs=0.02)
    assert result.top5 is not None
    assert result.top5 > 0.98


def test_accuracies_are_those_of_scikit_learn(digits: Split) -> None:
    _, _, test, test_labels = digits
    result = linear_probe(*digits, ProbeSettings(epochs=5, learning_rates=(1.6,)))
    scores = result.classifier.logits(test).numpy()
    for top, found in ((1, result.top1), (5, result.top5)):
        assert found == pytest.approx(top_k_accuracy_score(test_labels.numpy(), scores, k=top), abs=1e-12)


@pytest.mark.parametrize(("classes", "is_reported"), [(2, False), (5, False), (6, True)])
def test_top5_is_reported_only_where_it_can_fail(classes: int, is_reported: bool) -> None:
    x, y = blobs(classes, 10, 8)
    result = linear_probe(x, y, x, y, ProbeSettings(epochs=2, learning_rates=(1.6,)))
    assert (result.top5 is not None) == is_reported


def test_of_equal_scores_that_of_the_smaller_label_counts_as_higher_and_unknown_labels_are_last() -> None:
    flat = LinearClassifier(torch.zeros(3, 2), torch.zeros(3), torch.tensor([-4, 10, 12]))
    ranks = flat.ranks(torch.rand(5, 2), torch.tensor([-4, 10, 12, 11, 99]))
    assert ranks.tolist() == [0, 1, 2, 3, 3]


def test_ranks_do_not_depend_on_how_many_rows_are_taken_at_once(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels, *_ = digits
    classifier = linear_probe(*digits, ProbeSettings(epochs=2, learning_rates=(1.6,))).classifier
    whole = classifier.ranks(train, labels)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    assert torch.equal(classifier.ranks(train, labels), whole)


def test_labels_may_be_any_integers(digits: Split) -> None:
    train, labels, test, test_labels = digits
    settings = ProbeSettings(epochs=5)
    plain = linear_probe(*digits, settings)
    renamed = linear_probe(train, 7 * labels - 100, test, 7 * test_labels - 100, settings)
    assert (renamed.top1, renamed.top5) == (plain.top1, plain.top5)
    assert renamed.classifier.labels.tolist() == [7 * label - 100 for label in range(10)]


def test_a_label_unknown_in_training_is_always_missed() -> None:
    x, y = blobs(6, 10, 8)
    result = linear_probe(x, y, x, y + 6, ProbeSettings(epochs=2))
    assert (result.top1, result.top5) == (0.0, 0.0)


def test_shuffled_labels_teach_nothing(digits: Split) -> None:
    train, labels, test, test_labels = digits
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert linear_probe(train, shuffled, test, test_labels, ProbeSettings(epochs=20)).top1 < 0.25


def test_the_seed_decides_everything(digits: Split) -> None:
    def weights(seed: int) -> Tensor:
        torch.rand(1)  # the global generator plays no part
        return linear_probe(*digits, ProbeSettings(epochs=3, seed=seed)).classifier.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_global_random_numbers_are_left_alone(digits: Split) -> None:
    before = torch.get_rng_state()
    linear_probe(*digits, ProbeSettings(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_computes_in_single_precision_under_autocast_and_without_gradients(digits: Split) -> None:
    expected = linear_probe(*digits, ProbeSettings(epochs=3)).classifier.weight
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_probe(*digits, ProbeSettings(epochs=3)).classifier.weight
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_test_images_choose_nothing(digits: Split) -> None:
    train, labels, test, test_labels = digits
    settings = ProbeSettings(epochs=4, learning_rates=(0.1, 1.6, 25.6))
    results = [linear_probe(train, labels, test, (test_labels + shift) % 10, settings) for shift in range(4)]
    assert len({result.learning_rate for result in results}) == 1
    assert all(torch.equal(result.classifier.weight, results[0].classifier.weight) for result in results)


def test_the_rate_with_the_best_held_out_accuracy_is_fitted_again_on_all_training_images(digits: Split) -> None:
    settings = ProbeSettings(epochs=10, learning_rates=(0.01, 0.1, 1.6))
    result = linear_probe(*digits, settings)
    assert list(result.held_out_accuracy) == [0.01, 0.1, 1.6]
    assert result.held_out_accuracy[result.learning_rate] == max(result.held_out_accuracy.values())
    alone = linear_probe(*digits, ProbeSettings(epochs=10, learning_rates=(result.learning_rate,)))
    assert torch.equal(result.classifier.weight, alone.classifier.weight)
    assert alone.held_out_accuracy == {}


def test_of_equally_good_rates_the_papers_wins() -> None:
    x, y = blobs(3, 50, 64, spread=0.1)
    result = linear_probe(x, y, x, y, ProbeSettings(learning_rates=(0.8, 1.6, 3.2)))
    assert set(result.held_out_accuracy.values()) == {1.0}
    assert result.learning_rate == 1.6


class Recorder:
    """A source that remembers what it was asked for."""

    def __init__(self, features: Tensor, change: Callable[[Tensor, int], Tensor] = lambda rows, _: rows) -> None:
        self.features = features
        self.change = change
        self.asked: list[list[Tensor]] = []

    def __call__(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        self.asked.append(list(batches))
        for batch in batches:
            yield self.change(self.features[batch], epoch)


def test_views_are_asked_for_once_an_epoch_in_batches_for_all_candidates_and_never_for_held_out_images() -> None:
    x, y = blobs(3, 50, 8)
    source = Recorder(x)
    settings = ProbeSettings(epochs=3, batch_size=64)
    result = linear_probe(x, y, x, y, settings, views=source)
    assert len(source.asked) == settings.passes == 6
    fitted, held_out = hold_out(y, settings.held_out, settings.seed)
    for epoch, batches in enumerate(source.asked):
        expected = fitted if epoch < 3 else torch.arange(150)
        assert torch.equal(torch.cat(batches).sort().values, expected.sort().values)
        assert {len(batch) for batch in batches[:-1]} == {64}
    assert len({tuple(torch.cat(batches).tolist()) for batches in source.asked}) == 6  # a new order each time
    assert set(fitted.tolist()).isdisjoint(held_out.tolist())
    assert torch.equal(result.classifier.weight, linear_probe(x, y, x, y, settings).classifier.weight)


def test_views_that_change_with_the_epoch_regularise_what_is_learned() -> None:
    # 40 images in 200 dimensions can be told apart by their noise; fresh noise in every epoch leaves the centres alone.
    x, y = blobs(2, 20, 200, spread=1.0)
    test, test_labels = blobs(2, 500, 200, spread=1.0, seed=1)
    centres = torch.stack([test[:500].mean(0), test[500:].mean(0)])

    def fresh(rows: Tensor, epoch: int) -> Tensor:
        nearest = torch.cdist(rows, centres).argmin(1)
        noise = torch.Generator().manual_seed(epoch)
        return centres[nearest] + torch.randn(rows.shape, generator=noise)

    settings = ProbeSettings(learning_rates=(6.4,))
    with_views = linear_probe(x, y, test, test_labels, settings, views=Recorder(x, fresh)).top1
    assert with_views > linear_probe(x, y, test, test_labels, settings).top1 + 0.01


@pytest.mark.parametrize("rates", [(1.6,), (0.8, 1.6)])
def test_the_bar_is_called_once_for_each_pass(rates: tuple[float, ...]) -> None:
    x, y = blobs(2, 10, 4)
    calls: list[None] = []
    settings = ProbeSettings(epochs=4, learning_rates=rates)
    linear_probe(x, y, x, y, settings, after_epoch=lambda: calls.append(None))
    assert len(calls) == settings.passes == 4 * len(rates)


@pytest.mark.parametrize("images", [2, 3, 10, 33])
def test_held_out_images_are_a_fifth_of_every_class(images: int) -> None:
    labels = torch.arange(4).repeat_interleave(images)
    fitted, held_out = hold_out(labels, 0.2, 3)
    assert torch.equal(torch.cat([fitted, held_out]).sort().values, torch.arange(len(labels)))
    assert len(held_out) == max(math.ceil(0.2 * 4 * images), 4)
    counts = labels[held_out].bincount(minlength=4)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(held_out, hold_out(labels, 0.2, 3)[1])
    if images > 3:
        assert not torch.equal(held_out, hold_out(labels, 0.2, 4)[1])


@pytest.mark.gpu
def test_the_probe_gives_the_same_on_a_gpu(digits: Split) -> None:
    settings = ProbeSettings(epochs=20)
    cpu = linear_probe(*digits, settings)
    train, labels, test, test_labels = (part.cuda() for part in digits)
    gpu = linear_probe(train, labels, test, test_labels, settings)
    assert gpu.classifier.weight.device.type == "cuda"
    torch.testing.assert_close(gpu.classifier.weight.cpu(), cpu.classifier.weight, rtol=1e-3, atol=1e-4)
    assert gpu.top1 == pytest.approx(cpu.top1, abs=0.005)


X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1, 1, 1])
NAN = X.clone().index_fill(0, torch.tensor([2]), math.nan)

ERRORS: dict[str, tuple[tuple[Any, ...], str]] = {
    "train_features_not_a_matrix": ((X[0], Y, X, Y), r"train_features must have shape \(images, dim\).*got \(3,\)"),
    "no_test_images": ((X, Y, X[:0], Y[:0]), r"test_features must have shape .*got \(0, 3\)"),
    "too_few_train_labels": ((X, Y[:4], X, Y), r"train_labels must have shape \(6,\).*got \(4,\)"),
    "labels_floating_point": ((X, Y.float(), X, Y), "train_labels must be integers, got torch.float32"),
    "other_dimension": ((X, Y, X[:, :2], Y), "test_features must have as many dimensions as train_features, 3, got 2"),
    "nan": ((NAN, Y, X, Y), "train_features must be finite, got 3 NaN or infinite"),
    "one_class": ((X, torch.full((6,), 4), X, Y), r"train_labels must hold at least 2 classes, got only \[4\]"),
    "class_of_one": ((X, torch.tensor([0, 0, 1, 1, 1, 7]), X, Y), "at least 2 images of each class .*1 of class 7"),
    "too_large": (
        (1e38 * X, Y, X, Y),
        r"train_features must have a finite length in float32, got values up to 1\.\d+e\+38",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_features_and_labels_that_cannot_be_probed_are_named(case: str) -> None:
    arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        linear_probe(*arguments)


def test_a_class_of_one_image_is_no_hindrance_where_nothing_is_tuned() -> None:
    assert 0 <= linear_probe(X, torch.tensor([0, 0, 1, 1, 1, 7]), X, Y, FIXED_RATE).top1 <= 1


def test_a_rate_that_diverges_is_not_chosen_and_named_where_there_is_no_other() -> None:
    x, y = blobs(3, 20, 8)
    result = linear_probe(x, y, x, y, ProbeSettings(learning_rates=(1.6, 1e5)))
    assert result.held_out_accuracy[1e5] == 0.0
    assert result.learning_rate == 1.6
    with pytest.raises(
        ValueError, match=r"infinite or NaN at learning rate 100000\.0: learning_rates must hold a smaller"
    ):
        linear_probe(x, y, x, y, ProbeSettings(learning_rates=(1e5,)))


def test_views_that_are_not_finite_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"infinite or NaN at learning rate 1\.6: .* views give features that are not finite"
    ):
        linear_probe(X, Y, X, Y, FIXED_RATE, views=Recorder(NAN))


def test_views_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"views must give features of shape \(6, 3\) here, got \(6, 2\)"):
        linear_probe(X, Y, X, Y, FIXED_RATE, views=Recorder(X[:, :2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rates": ()}, r"learning_rates must be positive and finite, at least one, got \(\)"),
        ({"learning_rates": (1.6, -1.0)}, r"learning_rates must be positive and finite.*got \(1.6, -1.0\)"),
        ({"learning_rates": (1.6, math.nan)}, "learning_rates must be positive and finite"),
        ({"learning_rates": (1.6, 1.6)}, "learning_rates must all differ"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"trust_coefficient": 0.0}, "trust_coefficient must be positive and finite, got 0.0"),
        ({"held_out": 1.0}, "held_out must lie strictly between 0 and 1, got 1.0"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeSettings(**options)


def test_a_share_that_leaves_nothing_to_fit_on_is_named() -> None:
    with pytest.raises(ValueError, match=r"held_out must leave an image or more for each of 3 classes .* got 60 of 60"):
        hold_out(torch.arange(60) % 3, 0.99, 0)
