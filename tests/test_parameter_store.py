"""Pyro's global store of parameters: left alone by a torch loop, shared by no two pairs, obeyed when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import SGD  # type: ignore[attr-defined]  # made by a loop over torch's
from torch import Tensor

from inference.fitting.kl_objective import KLObjective
from models.byol import BYOL
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from ssl_as_inference.graphical_model import MultiViewPair

PairMaker = Callable[..., MultiViewPair]
ViewMaker = Callable[..., list[Tensor]]


def weights(pair: MultiViewPair) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in pair.parameters() if parameter.requires_grad]


def moved(pair: MultiViewPair, before: list[Tensor]) -> bool:
    return not all(torch.equal(one, other) for one, other in zip(weights(pair), before, strict=True))


def svi(pair: MultiViewPair, loss: Any, rate: float = 0.05) -> Any:
    return SVI(pair.model, pair.guide, SGD({"lr": rate}), loss)


@pytest.mark.parametrize("local", [True, False])
def test_a_torch_loop_leaves_the_store_alone(local: bool, make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair = make_pair("ps")
    with pyro.settings.context(module_local_params=local):
        KLObjective()(pair.model, pair.guide)(make_views(2)).backward()
    assert not pyro.get_param_store()


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("first", ["torch", "svi"])
def test_svi_trains_a_second_pair_whatever_came_before(
    local: bool, first: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    one, other, views = make_pair("vmf"), make_pair("vmf"), make_views(2)
    with pyro.settings.context(module_local_params=local):
        if first == "torch":
            KLObjective()(one.model, one.guide)(views).backward()
        else:
            svi(one, KLObjective()).step(views)
        before, others = weights(one), weights(other)
        losses = [svi(other, KLObjective()).step(views) for _ in range(5)]
        assert losses[-1] < losses[0]
        assert moved(other, others)
        assert not moved(one, before)


def test_pyros_own_objective_trains_two_pairs_apart(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pairs, views = [make_pair("ps"), make_pair("ps")], make_views(2)
    for pair in pairs:
        before = weights(pair)
        svi(pair, TraceEnum_ELBO(max_plate_nesting=1)).step(views)
        assert moved(pair, before)


def test_svi_takes_the_steps_of_torchs_optimiser(make_pair: PairMaker, make_views: ViewMaker) -> None:
    one, views = make_pair("ps"), make_views(2)
    other = make_pair("ps")
    other.load_state_dict(one.state_dict())
    fitted = svi(one, KLObjective())
    loss = KLObjective()(other.model, other.guide)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.05)
    for _ in range(3):
        fitted.step(views)
        optimizer.zero_grad()
        loss(views).backward()
        optimizer.step()
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        assert torch.equal(ours, theirs)


def test_names_say_the_role_and_count_the_pairs(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pairs, views = [make_pair("vmf"), make_pair("vmf")], make_views(2)
    for pair in [*pairs, *pairs]:
        svi(pair, KLObjective()).step(views)
    names = [name for name, _ in pairs[0].model.named_parameters()]
    expected = names + [name.replace("encoder.", "encoder_2.").replace("predictor.", "predictor_2.") for name in names]
    assert sorted(pyro.get_param_store()) == sorted(expected)
    assert pyro.get_param_store()[names[0]] is pairs[0].model.get_parameter(names[0])


def test_the_names_of_a_pair_that_is_gone_are_not_taken(make_pair: PairMaker, make_views: ViewMaker) -> None:
    # Its entries are still in the store: a new pair must neither begin with them nor write over them.
    views = make_views(2)
    svi(make_pair("vmf"), KLObjective()).step(views)
    left = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    pair = make_pair("vmf")
    before = weights(pair)
    svi(pair, KLObjective(), rate=1e-12).step(views)
    assert torch.allclose(weights(pair)[0], before[0], atol=1e-9)
    assert all(torch.equal(pyro.get_param_store()[name], value) for name, value in left.items())


def test_a_store_that_was_saved_is_obeyed_by_another_pair(
    make_pair: PairMaker, make_views: ViewMaker, tmp_path: Path
) -> None:
    trained, views = make_pair("ps"), make_views(2)
    fitted = svi(trained, KLObjective())
    for _ in range(5):
        fitted.step(views)
    pyro.get_param_store().save(str(tmp_path / "store"))
    pyro.clear_param_store()
    pyro.get_param_store().load(str(tmp_path / "store"))
    fresh = make_pair("ps")
    expected = KLObjective()(trained.model, trained.guide)(views).item()
    assert svi(fresh, KLObjective()).evaluate_loss(views) == pytest.approx(expected, rel=1e-12)
    before = weights(fresh)
    svi(fresh, KLObjective()).step(views)
    assert moved(fresh, before)


def test_a_pair_goes_back_to_a_store_that_is_loaded_again(make_pair: PairMaker, make_views: ViewMaker) -> None:
    one, other, views = make_pair("ps"), make_pair("ps"), make_views(2)
    fitted = [svi(pair, KLObjective()) for pair in (one, other)]
    before = [one_fitted.step(views) for one_fitted in fitted]
    state = {
        "params": {name: value.detach().clone() for name, value in pyro.get_param_store().items()},
        "constraints": pyro.get_param_store().get_state()["constraints"],
    }
    after_a_step = [KLObjective()(pair.model, pair.guide)(views).item() for pair in (one, other)]
    for one_fitted in fitted:
        one_fitted.step(views)
    pyro.get_param_store().set_state(state)  # type: ignore[arg-type]
    # The second one first: each goes back to its own.
    assert fitted[1].evaluate_loss(views) == pytest.approx(after_a_step[1], rel=1e-12)
    assert fitted[0].evaluate_loss(views) == pytest.approx(after_a_step[0], rel=1e-12)
    assert before[0] > after_a_step[0]


def test_an_entry_of_another_shape_is_refused(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pyro.get_param_store()["encoder.weight"] = torch.zeros(2, 2)
    pair = make_pair("vmf")
    name, parameter = next(pair.model.encoder.named_parameters())
    pyro.get_param_store()[f"encoder.{name}"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=rf"holds encoder\.{name} with shape \(2, 2\), expected \({parameter.size(0)}"):
        svi(pair, KLObjective()).step(make_views(2))


@pytest.mark.parametrize("method", [SimSiam, BYOL])
def test_neither_svi_nor_a_torch_loop_warns(method: Any) -> None:
    # Pyro warns of each frozen parameter that is to enter the store; BYOL's target has nothing but those.
    pair = method(small_convolutional_backbone(width=2), features=8, dim=4)
    views = [torch.rand(4, 1, 16, 16) for _ in range(2)]
    KLObjective()(pair.model, pair.guide)(views).backward()
    svi(pair, KLObjective()).step(views)
    assert not any(name.startswith("encoder_2") for name in pyro.get_param_store())
