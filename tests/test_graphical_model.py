from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer.inspect import get_model_relations
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from ssl_as_inference.distributions import DeltaMixture, PowerSpherical, ProductOfExperts, VonMisesFisher
from ssl_as_inference.graphical_model import (
    LATENT,
    FullGradientGuide,
    MultiViewGuide,
    MultiViewPair,
    SharedEncodings,
    ViewGivenLatent,
    encode,
)
from ssl_as_inference.sphere import normalize

PairMaker = Callable[..., MultiViewPair]
ViewMaker = Callable[..., list[Tensor]]


class Counting(nn.Module):
    """An encoder that counts its calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, view: Tensor) -> Tensor:
        self.calls += 1
        output: Tensor = self.network(view)
        return output


@pytest.mark.parametrize("family", ["vmf", "ps"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_model_is_the_graph_of_figure_2(
    family: str, count: int, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    # A latent without parents, M observed views whose only parent it is, all inside the plate of images.
    pair = make_pair(family).eval()
    relations = get_model_relations(pair.model, (make_views(count),))
    views = [f"x_{number}" for number in range(1, count + 1)]
    assert relations["sample_sample"] == {LATENT: [], **{view: [LATENT] for view in views}}
    assert relations["observed"] == views
    assert relations["plate_sample"] == {"images": [LATENT, *views]}


def test_the_guide_samples_the_latent_and_nothing_else(make_pair: PairMaker, make_views: ViewMaker) -> None:
    relations = get_model_relations(make_pair("vmf").eval().guide, (make_views(3),))
    assert relations["sample_sample"] == {LATENT: []}
    assert relations["sample_dist"] == {LATENT: "DeltaMixture"}
    assert relations["observed"] == []


def test_pyro_draws_the_model(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pytest.importorskip("graphviz")
    source = pyro.render_model(make_pair("vmf").eval().model, (make_views(2),)).source
    for expected in ("z [", "x_1 [", "x_2 [", "z -> x_1", "z -> x_2", "label=images"):
        assert expected in source


def test_the_plate_is_pyros_own_without_a_subsample(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf").eval(), make_views(3, images=4)
    with poutine.trace() as expected, pyro.plate("images", 4, dim=-1):
        pyro.sample("there", DeltaMixture(torch.eye(5)[:1].expand(4, 1, 5)))
    (plate,) = expected.trace.nodes["there"]["cond_indep_stack"]
    for network, sites in ((pair.model, [LATENT, "x_1", "x_2", "x_3"]), (pair.guide, [LATENT])):
        trace = poutine.trace(network).get_trace(views)
        assert [name for name, site in trace.nodes.items() if site["type"] == "sample"] == sites
        for name in sites:
            site: Any = trace.nodes[name]
            assert site["cond_indep_stack"] == (plate,)
            assert site["scale"] == 1
            assert site["fn"].batch_shape[-1] == 4


def test_the_prior_leaves_the_joint_at_the_unnormalised_product(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("ps").eval(), make_views(3)
    trace = poutine.trace(pair.model).get_trace(views)
    z: Any = trace.nodes[LATENT]["value"]
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(6, dtype=torch.float64))
    expected = pair.model.posterior(views).log_prob(z).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("family", ["vmf", "ps"])
def test_the_posterior_is_the_product_of_the_views_experts(
    family: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family).eval(), make_views(3)
    posterior = pair.model.posterior(views)
    assert isinstance(posterior, ProductOfExperts)
    assert isinstance(posterior.experts, VonMisesFisher if family == "vmf" else PowerSpherical)
    assert posterior.batch_shape == (6,)
    z = normalize(torch.randn(6, 5, dtype=torch.float64))
    expected = torch.stack([pair.model.expert(view).log_prob(z) for view in views]).sum(0)
    torch.testing.assert_close(posterior.log_prob(z), expected, rtol=1e-13, atol=1e-13)


def test_the_guides_atoms_are_the_targets_unit_vectors(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf").eval(), make_views(3)
    site = poutine.trace(pair.guide).get_trace(views).nodes[LATENT]
    assert isinstance(site["fn"], DeltaMixture)
    for number, view in enumerate(views):
        torch.testing.assert_close(site["fn"].locations[:, number], normalize(pair.guide.network(view)))


def test_the_model_runs_in_the_precision_of_its_views(make_pair: PairMaker, make_views: ViewMaker) -> None:
    for dtype in (torch.float32, torch.float64):
        z = make_pair("vmf", dtype=dtype).eval().model(make_views(2, dtype=dtype))
        assert z.dtype == dtype


# Shared encodings


def test_an_encoding_is_computed_once_a_network_and_view_under_the_handler() -> None:
    first, second = Counting(nn.Linear(3, 2)), Counting(nn.Linear(3, 2))
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    with SharedEncodings():
        assert encode(first, x) is encode(first, x)
        assert encode(first, y) is not encode(first, x)
        assert encode(second, x) is not encode(first, x)
    assert first.calls == 2
    assert second.calls == 1


def test_without_the_handler_and_after_it_every_encoding_is_computed_afresh() -> None:
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    network = Counting(linear)
    encode(network, x)
    encode(network, x)
    assert network.calls == 2
    with SharedEncodings():
        before = encode(network, x)
    linear.weight.data.add_(1.0)
    with SharedEncodings():
        assert not torch.equal(encode(network, x), before)
    assert network.calls == 4


def test_an_encoding_without_gradient_is_not_given_where_a_gradient_is_needed() -> None:
    network, x = nn.Linear(3, 2), torch.randn(4, 3)
    with SharedEncodings():
        with torch.no_grad():
            assert not encode(network, x).requires_grad
        assert encode(network, x).requires_grad


@pytest.mark.parametrize("count", [2, 3])
def test_the_objective_calls_the_encoder_once_a_view(count: int, make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair = make_pair("vmf")
    encoder = Counting(pair.model.encoder)
    pair.model.encoder, guide = encoder, MultiViewGuide(encoder)
    KLObjective()(pair.model, guide)(make_views(count))
    assert encoder.calls == count


@pytest.mark.parametrize("count", [2, 3])
def test_batch_normalisation_counts_each_view_of_a_step_once(count: int) -> None:
    pair = SimSiam(small_convolutional_backbone(width=4), features=16, dim=8)
    module = KLObjective()(pair.model, pair.guide)
    views = [torch.rand(4, 1, 16, 16) for _ in range(count)]
    for step in (1, 2):
        module(views).backward()
        counters = {int(buffer) for name, buffer in pair.named_buffers() if name.endswith("num_batches_tracked")}
        assert counters == {step * count}


# The stop-gradient


def gradient_from_the_guide(guide: MultiViewGuide, make_pair: PairMaker, views: list[Tensor]) -> Tensor | None:
    """Gradient in the first parameter of the guide's network, of the loss under a model that shares nothing with it."""
    other = make_pair("vmf").model.requires_grad_(requires_grad=False)
    loss = KLObjective()(other, guide)(views)
    if not loss.requires_grad:
        return None
    loss.backward()
    return next(guide.network.parameters()).grad


def test_no_gradient_reaches_the_encoder_through_the_guide(make_pair: PairMaker, make_views: ViewMaker) -> None:
    assert gradient_from_the_guide(make_pair("vmf").guide, make_pair, make_views(2)) is None


def test_the_full_gradient_guide_has_the_same_loss_and_lets_the_gradient_through(
    make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair("vmf"), make_views(2)
    full = FullGradientGuide(pair.model.encoder)
    gradient = gradient_from_the_guide(full, make_pair, views)
    assert gradient is not None
    assert gradient.abs().max() > 0
    stopped = KLObjective().loss(pair.model, pair.guide, views)
    assert KLObjective().loss(pair.model, full, views) == stopped


def test_the_full_gradient_is_the_stopped_gradient_plus_the_targets_path(
    make_pair: PairMaker, make_views: ViewMaker
) -> None:
    # C27, the target's path written out: atoms with gradient, experts without.
    pair, views = make_pair("ps"), make_views(2)
    parameters = list(pair.model.encoder.parameters())
    stopped = torch.autograd.grad(KLObjective()(pair.model, pair.guide)(views), parameters)
    full = torch.autograd.grad(KLObjective()(pair.model, FullGradientGuide(pair.model.encoder))(views), parameters)
    atoms = [normalize(pair.model.encoder(view)) for view in views]
    with torch.no_grad():
        experts = [pair.model.expert(view) for view in views]
    path = torch.autograd.grad(-(experts[0].log_prob(atoms[1]) + experts[1].log_prob(atoms[0])).sum(), parameters)
    for complete, part, rest in zip(full, stopped, path, strict=True):
        torch.testing.assert_close(complete, part + rest, rtol=0, atol=1e-10)


# The likelihood of a view


def test_a_views_likelihood_is_its_expert_at_the_latent() -> None:
    expert = VonMisesFisher(torch.eye(3, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    z = normalize(torch.randn(7, 3, 3, dtype=torch.float64))
    likelihood = ViewGivenLatent(expert, z, (1, 4, 4))
    assert likelihood.batch_shape == (7, 3)
    assert likelihood.event_shape == (1, 4, 4)
    torch.testing.assert_close(likelihood.log_prob(torch.rand(3, 1, 4, 4)), expert.log_prob(z))
    expanded = likelihood.expand((5, 7, 3))
    assert expanded.batch_shape == (5, 7, 3)
    torch.testing.assert_close(expanded.log_prob(torch.rand(3, 1, 4, 4)), expert.log_prob(z).expand(5, 7, 3))


def test_a_view_cannot_be_sampled() -> None:
    likelihood = ViewGivenLatent(VonMisesFisher(torch.eye(3), 2.0), torch.eye(3), (4,))
    with pytest.raises(NotImplementedError, match="no generator of images"):
        likelihood.sample()


@pytest.mark.parametrize("part", ["model", "guide"])
def test_views_that_are_no_list_are_refused_by_model_and_guide(
    part: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    with pytest.raises(ValueError, match="views must be a sequence"):
        getattr(make_pair("vmf"), part)(make_views(1)[0])


def test_model_and_guide_run_under_both_parameter_settings_of_pyro(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf"), make_views(2)
    losses = []
    for local in (True, False, True):
        with pyro.settings.context(module_local_params=local):
            losses.append(KLObjective().loss(pair.model, pair.guide, views))
    assert losses[0] == losses[1] == losses[2]
    assert math.isfinite(losses[0])


def test_a_guide_over_the_first_views_holds_those_alone(
    make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair("ps").eval(), make_views(4)
    guide = MultiViewGuide(pair.model.encoder, views=2)
    assert torch.equal(guide.locations(views), pair.guide.locations(views[:2]))
    with pytest.raises(ValueError, match="views must be at least the 2 that the guide is over, got 1"):
        guide.locations(views[:1])
    with pytest.raises(ValueError, match="views must be an integer >= 1 or None, got 0"):
        MultiViewGuide(pair.model.encoder, views=0)


def test_the_guides_atoms_lie_together_in_memory(make_pair: PairMaker, make_views: ViewMaker) -> None:
    atoms = DeltaMixture(make_pair("vmf").guide.locations(make_views(3))).enumerate_support()
    assert atoms.is_contiguous()
