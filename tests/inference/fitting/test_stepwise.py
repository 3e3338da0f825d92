"""The learner that counts steps: resumable at any of them, and the same in two processes as in one."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inference.fitting.finiteness import NotFiniteError
from inference.fitting.kl_objective import KLObjective
from inference.fitting.schedule import CosineSchedule
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from models.byol import BYOL
from models.networks import PowerSphericalHead, small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam, relative_concentration
from ssl_as_inference import sphere
from ssl_as_inference.distributions import power_spherical_log_density
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

INPUTS, DIM, BATCH, STEPS = 7, 6, 8, 6


class Views:
    """Views of the steps from `start` on; where there are several processes, each has its share of every batch."""

    def __init__(self, start: int = 0, stop: int = STEPS) -> None:
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[Tensor]]:
        rank, world = 0, 1
        if torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for step in range(self.start, self.stop):
            draw = torch.Generator().manual_seed(step)
            yield [torch.randn(BATCH, INPUTS, dtype=torch.float64, generator=draw)[rank::world] for _ in range(3)]


def without_batch_normalization() -> MultiViewPair:
    torch.manual_seed(5)
    encoder = nn.Sequential(nn.Linear(INPUTS, 9), nn.Tanh(), nn.Linear(9, DIM))
    head = PowerSphericalHead(
        nn.Sequential(nn.Linear(DIM, 5), nn.Tanh(), nn.Linear(5, DIM + 1)), relative_concentration
    )
    return MultiViewPair(DIM, MultiViewModel(encoder, head), MultiViewGuide(encoder, 2)).double()


def batch_normalized(method: Any = VISimSiam) -> MultiViewPair:
    torch.manual_seed(5)
    pair: MultiViewPair = method(nn.Linear(INPUTS, 8), 8, dim=DIM, hidden=4).double()
    return pair


def make(pair: MultiViewPair, target: TargetRule | None = None, **options: Any) -> StepwiseLearner:
    options = {"schedule": CosineSchedule(0.1, STEPS), **options}
    return StepwiseLearner(pair, KLObjective(), target or StopGradientCopy(), **options)


def fit(learner: StepwiseLearner, views: Any = None, **options: Any) -> None:
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and process starts
        trainer.fit(learner, Views() if views is None else views)


class KeepGradients(lightning.Callback):
    """Write each step's gradient, as the optimiser used it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ARG002
        self.kept.append([parameter.grad.clone() for parameter in pl_module.pair.parameters()])

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        weights = [parameter.detach() for parameter in pl_module.pair.parameters()]
        norms = [torch.tensor(values.gradient_norm) for values in pl_module.read_steps()]
        torch.save([self.kept, weights, norms], self.folder / f"{trainer.world_size}_{trainer.global_rank}.pt")


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    fit(make(without_batch_normalization(), gradient_clip=0.5), callbacks=[KeepGradients(tmp_path)])
    fit(
        make(without_batch_normalization(), gradient_clip=0.5),
        callbacks=[KeepGradients(tmp_path)],
        devices=2,
        strategy="ddp_spawn",
    )
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1_0", "2_0", "2_1"))
    assert len(alone[0]) == STEPS
    largest = 0.0
    for one, two, other in zip(*map(_flatten, (alone, first, second)), strict=True):
        assert torch.equal(two, other)
        largest = max(largest, float((one - two).abs().max()))
    assert largest <= 1e-10


def _flatten(saved: Any) -> list[Tensor]:
    return [saved] if isinstance(saved, Tensor) else [tensor for item in saved for tensor in _flatten(item)]


@pytest.mark.parametrize("method", [VISimSiam, BYOL])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_fit_that_is_taken_up_at_any_step_ends_with_the_same_bits(method: Any, stop: int) -> None:
    def target() -> TargetRule:
        return ExponentialMovingAverage(0.9) if method is BYOL else StopGradientCopy()

    whole = make(batch_normalized(method), target())
    fit(whole)
    first = make(batch_normalized(method), target())
    if stop:
        fit(first, Views(0, stop))
    second = make(copy.deepcopy(first.pair), target())
    second.resume(stop, first.optimizer_state() if stop else {})
    fit(second, Views(stop, STEPS))
    assert second.step == STEPS
    for name, tensor in whole.pair.state_dict().items():
        assert torch.equal(tensor, second.pair.state_dict()[name]), name
    for number, entry in whole.optimizer_state().items():
        assert torch.equal(entry["momentum_buffer"], second.optimizer_state()[number]["momentum_buffer"])


def test_the_state_of_the_optimiser_is_kept_as_it_was() -> None:
    taken: list[dict[int, dict[str, Any]]] = []

    class Take(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ARG002
            state = pl_module.optimizer_state()
            taken.extend([state, copy.deepcopy(state)])

    fit(make(batch_normalized()), callbacks=[Take()])
    for state, then in zip(taken[::2], taken[1::2], strict=True):
        for number, entry in state.items():
            assert torch.equal(entry["momentum_buffer"], then[number]["momentum_buffer"])


def test_a_trainer_that_is_to_count_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="a trainer must be given max_epochs and no max_steps, got max_steps 3"):
        fit(make(batch_normalized()), max_steps=3)


@pytest.mark.parametrize("method", [SimSiam, VISimSiam])
def test_the_weights_are_those_of_a_loop_written_by_hand(method: Any) -> None:
    learner = make(batch_normalized(method), weight_decay=1e-3, nats_per="dimension")
    fit(learner)

    pair = batch_normalized(method)
    module = KLObjective()(pair.model, pair.guide)
    velocity = [torch.zeros_like(parameter) for parameter in pair.parameters()]
    for step, views in enumerate(Views()):
        rate = 0.1 * (1 + math.cos(math.pi * step / STEPS)) / 2
        gradients = torch.autograd.grad(module(views) / BATCH / (DIM - 1), list(pair.parameters()))
        with torch.no_grad():
            for index, (parameter, gradient) in enumerate(zip(pair.parameters(), gradients, strict=True)):
                velocity[index] = 0.9 * velocity[index] + gradient + 1e-3 * parameter
                parameter.sub_(rate * velocity[index])
    for name, tensor in pair.state_dict().items():
        torch.testing.assert_close(learner.pair.state_dict()[name], tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [SimSiam, VISimSiam, BYOL])
def test_the_loss_falls(method: Any) -> None:
    target = ExponentialMovingAverage(0.9) if method is BYOL else StopGradientCopy()
    learner = make(batch_normalized(method), target, nats_per="dimension", schedule=lambda _: 0.1)
    views: Any = list(Views(0, 3)) * 12
    fit(learner, DataLoader(views, batch_size=None))
    losses = [values.loss for values in learner.read_steps()]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_each_step_leaves_its_loss_and_the_norm_of_its_gradient() -> None:
    learner = make(without_batch_normalization())
    reference = copy.deepcopy(learner.pair)
    loss = KLObjective()(reference.model, reference.guide)(next(iter(Views()))) / BATCH
    loss.backward()
    gradients = [parameter.grad for parameter in reference.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    fit(learner)
    expected = learner.read_steps()
    assert [values.step for values in expected] == list(range(STEPS))
    assert math.isclose(expected[0].loss, loss.item(), rel_tol=1e-12)
    assert math.isclose(expected[0].gradient_norm, norm, rel_tol=1e-12)
    assert learner.read_steps() == []


@pytest.mark.parametrize(("nats_per", "over_views", "divisor"), [
    ("image", "sum", 1), ("dimension", "sum", DIM - 1), ("image", "mean", 3), ("dimension", "mean", 3 * (DIM - 1)),
])  # fmt: skip
def test_the_unit_divides_the_loss(nats_per: Any, over_views: Any, divisor: int) -> None:
    views = next(iter(Views()))
    loss = make(without_batch_normalization(), nats_per=nats_per, over_views=over_views)(views)
    pair = without_batch_normalization()
    torch.testing.assert_close(loss * divisor, make(pair)(views), rtol=1e-14, atol=0)
    objective = KLObjective().loss(pair.model, pair.guide, views)
    assert math.isclose(loss.item() * divisor, objective / BATCH, rel_tol=1e-13)


def test_clipping_shortens_the_gradient_and_nothing_else() -> None:
    free, clipped = make(without_batch_normalization()), make(without_batch_normalization(), gradient_clip=1e-3)
    start = copy.deepcopy(free.pair)
    moves = []
    for learner in (free, clipped):
        learner.weight_decay = 0.0
        fit(learner, Views(0, 1))
        weights = zip(learner.pair.parameters(), start.parameters(), strict=True)
        moves.append(torch.cat([(after - before).flatten() for after, before in weights]).detach())
    assert math.isclose(float(moves[1].norm()), 0.1 * 1e-3, rel_tol=1e-3)
    assert torch.nn.functional.cosine_similarity(moves[0], moves[1], dim=0) > 1 - 1e-9
    assert free.read_steps()[0].gradient_norm == clipped.read_steps()[0].gradient_norm


def test_what_is_not_a_number_is_found_and_named_when_the_steps_are_read() -> None:
    class Broken(Views):
        def __iter__(self) -> Iterator[list[Tensor]]:
            for step, views in enumerate(super().__iter__()):
                yield [
                    torch.full_like(view, math.nan) if step == 3 and i == 1 else view for i, view in enumerate(views)
                ]

    learner = make(without_batch_normalization())
    fit(learner, Broken())
    with pytest.raises(
        NotFiniteError, match=r"step 3: the loss is nan: the cosine between .* in 8 of 8 images"
    ) as caught:
        learner.read_steps()
    assert caught.value.step == 3


def test_no_step_reads_a_number_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way from a tensor to a Python number passes through one of these, and waits for a GPU."""
    learner = make(batch_normalized(), gradient_clip=1.0)
    read = []
    # What a CPU looks at to save time, a device is never asked.
    for module in (sphere, power_spherical_log_density):
        monkeypatch.setattr(module, "is_plain_on_cpu", lambda _: False)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        original = getattr(Tensor, name)

        def watched(self: Tensor, *, original: Any = original, name: str = name) -> Any:
            read.append(name)
            return original(self)

        monkeypatch.setattr(Tensor, name, watched)
    fit(learner, Views(0, 2))
    at_two = len(read)
    read.clear()
    learner.step = 0
    fit(learner, Views(0, STEPS))
    assert len(read) == at_two  # what reads there are belong to the beginning, not to the steps


def test_a_predictor_with_a_fixed_rate_takes_the_steps_of_sgd_with_two_groups() -> None:
    learner, plain = make(batch_normalized(), predictor_rate=0.07, weight_decay=1e-4), batch_normalized()
    fit(learner)
    loss = KLObjective()(plain.model, plain.guide)
    rest = list(plain.model.encoder.parameters())
    groups: list[dict[str, Any]] = [
        {"params": rest},
        {"params": list(plain.model.predictor.parameters()), "lr": 0.07},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step, views in enumerate(Views()):
        optimizer.param_groups[0]["lr"] = CosineSchedule(0.1, STEPS)(step)
        optimizer.zero_grad()
        (loss(views) / BATCH).backward()
        optimizer.step()
    for ours, theirs in zip(learner.pair.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_a_rising_momentum_is_that_of_the_step() -> None:
    seen: list[int] = []

    class Rule(ExponentialMovingAverage):
        def update(self, pair: MultiViewPair, step: int = 0) -> None:
            seen.append(step)
            super().update(pair, step)

    fit(make(batch_normalized(BYOL), Rule(0.9, STEPS)))
    assert seen == list(range(STEPS))


def test_the_moving_average_follows_each_step() -> None:
    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:  # noqa: ARG002
            online.append(next(pl_module.pair.model.encoder.parameters()).detach().clone())
            followed.append(next(pl_module.pair.guide.network.parameters()).detach().clone())

    online: list[Tensor] = []
    followed: list[Tensor] = []
    learner = make(batch_normalized(BYOL), ExponentialMovingAverage(0.5))
    start = expected = next(learner.pair.guide.network.parameters()).detach().clone()
    fit(learner, callbacks=[Watch()])
    for own, target in zip(online, followed, strict=True):
        expected = 0.5 * expected + 0.5 * own
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-14)
    assert not torch.equal(expected, start)


@pytest.mark.parametrize("method", [VISimSiam, BYOL])
def test_the_optimizer_has_each_trainable_parameter_once_and_no_target(method: Any) -> None:
    learner = make(batch_normalized(method), ExponentialMovingAverage() if method is BYOL else None)
    groups = learner.configure_optimizers().param_groups
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in learner.pair.model.parameters())


def test_pyros_global_settings_stay_as_they_were() -> None:
    before = pyro.settings.get()
    make(batch_normalized())(next(iter(Views())))
    assert pyro.settings.get() == before
    assert not pyro.get_param_store()


@pytest.mark.parametrize("method", [VISimSiam, BYOL])
def test_a_learner_can_be_saved_and_restored(method: Any) -> None:
    def made() -> StepwiseLearner:
        return make(batch_normalized(method), ExponentialMovingAverage() if method is BYOL else None)

    learner, restored = made(), made()
    fit(learner)
    restored.load_state_dict(learner.state_dict())
    for name, parameter in learner.pair.named_parameters():
        assert torch.equal(parameter, restored.pair.get_parameter(name))


def test_images_train_in_mixed_precision() -> None:
    torch.manual_seed(0)
    learner = make(SimSiam(small_convolutional_backbone(width=4), 16, dim=8))
    views: Any = [[torch.rand(8, 1, 16, 16) for _ in range(2)] for _ in range(2)]
    fit(learner, DataLoader(views, batch_size=None), precision="bf16-mixed")
    assert all(record.loss.dtype == torch.float32 for record in learner._records)
    assert len(learner.read_steps()) == 2  # all finite


@pytest.mark.gpu
def test_a_step_on_a_gpu_never_waits_for_it(never_waiting: Callable[[], AbstractContextManager[None]]) -> None:
    learner = make(batch_normalized().float(), gradient_clip=1.0).cuda()
    optimizer = learner.configure_optimizers()
    assert optimizer.defaults["fused"]
    views = [view.float().cuda() for view in next(iter(Views()))]
    for step in range(3):
        with never_waiting() if step else nullcontext():  # the first step makes handles and buffers
            learner.on_train_batch_start(views, step)
            learner.training_step(views, step)
    assert len(learner.read_steps()) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_clip": 0.0}, "gradient_clip must be positive and finite or None, got 0.0"),
        ({"predictor_rate": -0.1}, "predictor_rate must be positive and finite or None, got -0.1"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be finite and >= 0, got -0.0001"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and >= 0, got nan"),
        ({"nats_per": "pixel"}, 'nats_per must be "image" or "dimension", got \'pixel\''),
        ({"over_views": "product"}, 'over_views must be "sum" or "mean", got \'product\''),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(without_batch_normalization(), **options)


def test_a_pair_with_nothing_to_train_is_refused() -> None:
    learner = make(without_batch_normalization())
    learner.pair.requires_grad_(False)
    with pytest.raises(ValueError, match="pair must have parameters that are trained, got none"):
        learner.configure_optimizers()


def test_a_target_rule_that_does_not_suit_the_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="ExponentialMovingAverage needs a guide with a network of its own"):
        make(batch_normalized(), ExponentialMovingAverage())
