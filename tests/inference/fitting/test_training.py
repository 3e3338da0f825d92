from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning
import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from inference.fitting.training import SelfSupervisedLearner
from models.byol import BYOL
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

BATCH, BATCHES, EPOCHS = 8, 3, 2


pytestmark = [
    # Lightning's advice, which does not matter to a few tensors in memory.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class AddNoise:
    """A view is the input with noise from a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def __call__(self, images: Tensor) -> Tensor:
        return images + 0.1 * torch.randn(images.shape, generator=self.generator, dtype=images.dtype)


def linear_pair(method: Any = SimSiam, dim: int = 6) -> MultiViewPair:
    torch.manual_seed(5)
    pair: MultiViewPair = method(nn.Linear(7, 8), 8, dim=dim, hidden=4).double()
    return pair


def data() -> DataLoader[Any]:
    images = torch.randn(BATCH * BATCHES, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=BATCH)


def make_learner(pair: MultiViewPair, target: TargetRule | None = None, **options: Any) -> SelfSupervisedLearner:
    options = {"learning_rate": 0.1, **options}
    return SelfSupervisedLearner(pair, KLObjective(), target or StopGradientCopy(), AddNoise(), **options)


def fit(learner: SelfSupervisedLearner, *, epochs: int = EPOCHS, **options: Any) -> lightning.Trainer:
    options = {"accelerator": "cpu", "max_epochs": epochs, **options}
    trainer = lightning.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(learner, data())
    return trainer


class Watch(lightning.Callback):
    """Remember the learning rate, the loss and the target's first weights after each step of training."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.online: list[Tensor] = []
        self.target: list[Tensor] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"].detach()))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.online.append(next(pl_module.pair.model.encoder.parameters()).detach().clone())
        self.target.append(next(pl_module.pair.guide.network.parameters()).detach().clone())


@pytest.mark.parametrize("method", [SimSiam, VISimSiam, BYOL])
def test_the_loss_falls(method: Any) -> None:
    target: TargetRule = ExponentialMovingAverage(0.9) if method is BYOL else StopGradientCopy()
    watch = Watch()
    fit(make_learner(linear_pair(method), target, nats_per="dimension"), epochs=12, callbacks=[watch])
    assert sum(watch.losses[-BATCHES:]) < sum(watch.losses[:BATCHES])


@pytest.mark.parametrize("method", [SimSiam, VISimSiam])
def test_the_weights_are_those_of_a_loop_written_by_hand(method: Any) -> None:
    learner = make_learner(linear_pair(method), weight_decay=1e-3, nats_per="dimension")
    fit(learner)

    pair, augment = linear_pair(method), AddNoise()
    module = KLObjective()(pair.model, pair.guide)
    velocity = [torch.zeros_like(parameter) for parameter in pair.parameters()]
    steps = EPOCHS * BATCHES
    for step, (images, _) in enumerate([batch for _ in range(EPOCHS) for batch in data()]):
        rate = 0.1 * (1 + math.cos(math.pi * step / steps)) / 2
        loss = module([augment(images), augment(images)]) / BATCH / (pair.dim - 1)
        gradients = torch.autograd.grad(loss, list(pair.parameters()))
        with torch.no_grad():
            for index, (parameter, gradient) in enumerate(zip(pair.parameters(), gradients, strict=True)):
                velocity[index] = 0.9 * velocity[index] + gradient + 1e-3 * parameter
                parameter.sub_(rate * velocity[index])
    for name, parameter in learner.pair.named_parameters():
        torch.testing.assert_close(parameter, pair.get_parameter(name), rtol=0, atol=1e-12)
    for name, buffer in learner.pair.named_buffers():
        torch.testing.assert_close(buffer, pair.get_buffer(name), rtol=0, atol=1e-12)


def test_the_learning_rate_follows_a_cosine_to_zero() -> None:
    watch = Watch()
    fit(make_learner(linear_pair()), callbacks=[watch])
    steps = EPOCHS * BATCHES
    expected = [0.1 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(1, steps + 1)]
    assert watch.rates == pytest.approx(expected, abs=1e-15)
    assert watch.rates[-1] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("dim", [6, 33])
def test_nats_per_dimension_divide_the_loss_by_the_dimension_of_the_sphere(dim: int) -> None:
    pair = linear_pair(VISimSiam, dim)
    views = [torch.randn(BATCH, 7, dtype=torch.float64) for _ in range(2)]
    per_image = make_learner(pair)(views)
    per_dimension = make_learner(pair, nats_per="dimension")(views)
    assert per_dimension.item() == pytest.approx(per_image.item() / (dim - 1), rel=1e-14)
    objective = KLObjective().loss(pair.model, pair.guide, views)
    assert per_image.item() == pytest.approx(objective / BATCH, rel=1e-14)


@pytest.mark.parametrize("count", [2, 4])
def test_every_image_is_augmented_once_a_view_without_a_gradient(count: int) -> None:
    seen = []

    def augment(images: Tensor) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return images + torch.randn_like(images)

    learner = SelfSupervisedLearner(
        linear_pair(), KLObjective(), StopGradientCopy(), augment, views=count, learning_rate=0.1
    )
    fit(learner, epochs=1)
    assert seen == [False] * (count * BATCHES)


def test_labels_and_bare_images_give_the_same_loss() -> None:
    learner = make_learner(linear_pair())
    images = next(iter(data()))[0]
    losses = []
    for batch in (images, [images, torch.zeros(BATCH)], (images,)):
        learner.augment = AddNoise()
        learner.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
        losses.append(learner.training_step(batch, 0).item())
    assert losses[0] == losses[1] == losses[2]


def test_the_optimizer_has_each_trainable_parameter_once_and_no_target() -> None:
    for method, target in ((SimSiam, StopGradientCopy()), (BYOL, ExponentialMovingAverage())):
        learner = make_learner(linear_pair(method), target)
        trainer = fit(learner, epochs=1)
        held = [id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]]
        assert sorted(held) == sorted(id(parameter) for parameter in learner.pair.model.parameters())


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_moving_average_follows_each_step_of_the_optimizer_and_no_other(accumulate: int) -> None:
    learner, watch = make_learner(linear_pair(BYOL), ExponentialMovingAverage(0.5)), Watch()
    start = next(learner.pair.guide.network.parameters()).detach().clone()
    fit(learner, callbacks=[watch], accumulate_grad_batches=accumulate)
    expected = start
    for number, (online, target) in enumerate(zip(watch.online, watch.target, strict=True), start=1):
        if number % accumulate == 0:
            expected = 0.5 * expected + 0.5 * online
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-14)
    assert not torch.equal(expected, start)


def test_a_learner_serves_pyros_global_settings_as_it_found_them() -> None:
    before = pyro.settings.get()
    make_learner(linear_pair())([torch.randn(BATCH, 7, dtype=torch.float64)] * 2)
    assert pyro.settings.get() == before
    assert not pyro.get_param_store()


@pytest.mark.parametrize("method", [SimSiam, BYOL])
def test_a_learner_can_be_saved_and_restored(method: Any) -> None:
    target: Callable[[], TargetRule] = ExponentialMovingAverage if method is BYOL else StopGradientCopy
    learner = make_learner(linear_pair(method), target())
    fit(learner, epochs=1)
    restored = make_learner(linear_pair(method), target())
    restored.load_state_dict(learner.state_dict())
    for name, parameter in learner.pair.named_parameters():
        assert torch.equal(parameter, restored.pair.get_parameter(name))


def test_images_train_in_mixed_precision() -> None:
    torch.manual_seed(0)
    pair = SimSiam(small_convolutional_backbone(width=4), 16, dim=8)
    learner = SelfSupervisedLearner(pair, KLObjective(), StopGradientCopy(), nn.Identity(), learning_rate=0.1)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner, DataLoader(TensorDataset(torch.rand(16, 1, 16, 16)), batch_size=8))
    assert math.isfinite(float(trainer.callback_metrics["loss"]))
    assert trainer.callback_metrics["loss"].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be finite and >= 0, got -0.0001"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and >= 0, got nan"),
        ({"nats_per": "pixel"}, 'nats_per must be "image" or "dimension", got \'pixel\''),
    ],
    ids=str,
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_learner(linear_pair(), **options)


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="the cosine schedule needs a last step: set max_epochs or max_steps"):
        fit(make_learner(linear_pair()), epochs=-1)


def test_a_target_rule_that_does_not_suit_the_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="ExponentialMovingAverage needs a guide with a network of its own"):
        make_learner(linear_pair(), ExponentialMovingAverage())
