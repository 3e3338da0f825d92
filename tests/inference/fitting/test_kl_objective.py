"""The objective against Pyro's own, against sums written out by hand, and as a citizen of Pyro and torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import SGD, Adam  # type: ignore[attr-defined]  # made at run time
from torch import Tensor, nn

from inference.fitting.kl_objective import KLObjective, full_precision
from ssl_as_inference.distributions import DeltaMixture, PowerSpherical, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import LATENT, MultiViewGuide, MultiViewModel, MultiViewPair, ViewGivenLatent
from ssl_as_inference.sphere import normalize

PairMaker = Callable[..., MultiViewPair]
ViewMaker = Callable[..., list[Tensor]]

FAMILIES = pytest.mark.parametrize("family", ["vmf", "ps"])
VIEWS = pytest.mark.parametrize("count", [2, 3, 8])


def table(pair: MultiViewPair, views: list[Tensor], atoms: int | None = None) -> Tensor:
    """log p_i(f_j), shape (views, atoms, images), one entry at a time."""
    with torch.no_grad():
        f = [normalize(pair.guide.network(view)) for view in views[:atoms]]
        experts: list[Any] = [pair.model.predictor(pair.model.encoder(view)) for view in views]
        return torch.stack([torch.stack([expert.log_prob(atom) for atom in f]) for expert in experts])


def evaluate(objective: KLObjective, pair: MultiViewPair, views: list[Tensor]) -> float:
    loss: Tensor = objective(pair.model, pair.guide)(views)
    return float(loss.detach())


@FAMILIES
@VIEWS
def test_all_pairs_equal_traceenum_elbo_up_to_log_m_an_image(
    family: str, count: int, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family), make_views(count)
    # TraceEnum_ELBO checks the model for the enumerated latent's dimension, to the left of the plate of images.
    reference = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(pair.model, pair.guide, views)
    loss = KLObjective("all")(pair.model, pair.guide)(views)
    assert (loss - reference).item() == pytest.approx(len(views[0]) * math.log(count), abs=1e-10)
    parameters = list(pair.parameters())
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(reference, parameters)
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


@FAMILIES
def test_trace_elbo_is_an_unbiased_estimate_of_all_pairs(
    family: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family).eval(), make_views(3)
    elbo = Trace_ELBO(num_particles=2000, vectorize_particles=True, max_plate_nesting=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*you need to use TraceEnum_ELBO instead")  # sampling is the test
        estimate = elbo.loss(pair.model, pair.guide, views)
    expected = evaluate(KLObjective("all"), pair, views) - len(views[0]) * math.log(3)
    # A particle is −Σ_i log p_i(f_j) − log M with j uniform, independently in every image.
    variance = table(pair, views).sum(0).var(0, correction=0).sum().item()
    assert abs(estimate - expected) < 4 * math.sqrt(variance / 2000)
    assert variance > 1e-3, "the estimate has no noise, the test no power"


@FAMILIES
@VIEWS
def test_all_pairs_are_the_mean_over_atoms_of_the_sum_over_views(
    family: str, count: int, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family), make_views(count)
    expected = -sum(table(pair, views)[i, j].sum().item() / count for i in range(count) for j in range(count))
    assert evaluate(KLObjective("all"), pair, views) == pytest.approx(expected, abs=1e-11)


@FAMILIES
@VIEWS
def test_cross_pairs_leave_each_views_own_atom_out(
    family: str, count: int, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family), make_views(count)
    log_p = table(pair, views)
    expected = -sum(log_p[i, j].sum().item() / (count - 1) for i in range(count) for j in range(count) if j != i)
    assert evaluate(KLObjective("cross"), pair, views) == pytest.approx(expected, abs=1e-11)


class GuideOverFirstViews(MultiViewGuide):
    """Multi-crop: the atoms are the first (global) views only (C14)."""

    def locations(self, views: Any) -> Tensor:
        return super().locations(views[:2])


@FAMILIES
@pytest.mark.parametrize("pairs", ["cross", "all"])
def test_a_guide_over_the_first_views_serves_every_view(
    family: str, pairs: Any, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family), make_views(5)
    guide = GuideOverFirstViews(pair.model.encoder)
    log_p = table(pair, views, atoms=2).sum(-1)
    expected = -log_p.mean(1).sum() if pairs == "all" else -(log_p[0, 1] + log_p[1, 0] + log_p[2:].mean(1).sum())
    loss = KLObjective(pairs)(pair.model, guide)(views)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-11)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_normalised_loss_is_the_divergence_from_the_exact_posterior(
    count: int, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    # KL(q‖p) = E_q log q − E_q log p(z|X), and E_q log q = −log M is the constant left out. Eq. (5).
    pair, views = make_pair("vmf"), make_views(count)
    with torch.no_grad():
        atoms = torch.stack([normalize(pair.guide.network(view)) for view in views])
        posterior = pair.model.posterior(views).normalized()
        expected = -posterior.log_prob(atoms).mean(0).sum()
    loss = evaluate(KLObjective("all", normalized=True), pair, views)
    assert loss == pytest.approx(expected.item(), abs=1e-10)


def test_one_view_normalised_is_the_likelihood_of_its_own_atom(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf"), make_views(1)
    unnormalised = evaluate(KLObjective("all"), pair, views)
    assert evaluate(KLObjective("all", normalized=True), pair, views) == pytest.approx(unnormalised, abs=1e-10)


def test_two_power_spherical_experts_are_normalised_and_three_are_refused(
    make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair("ps").eval(), make_views(2)
    difference = KLObjective(normalized=True).loss(pair.model, pair.guide, views)
    difference -= KLObjective().loss(pair.model, pair.guide, views)
    assert difference == pytest.approx(pair.model.posterior(views).log_normalizer().sum().item(), abs=1e-11)
    with pytest.raises(NotImplementedError, match="normaliser of 3 Power Spherical experts"):
        KLObjective(normalized=True)(pair.model, pair.guide)(make_views(3))


@FAMILIES
def test_svi_lowers_the_loss(family: str, make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair(family), make_views(2)
    svi = SVI(pair.model, pair.guide, Adam({"lr": 0.03}), loss=KLObjective())
    losses = [svi.step(views) for _ in range(15)]
    assert all(isinstance(loss, float) for loss in losses)
    assert losses[-1] < losses[0] - 1


def test_svi_evaluates_without_a_gradient(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf").eval(), make_views(2)
    svi = SVI(pair.model, pair.guide, SGD({"lr": 0.1}), loss=KLObjective())
    assert svi.evaluate_loss(views) == pytest.approx(evaluate(KLObjective(), pair, views))
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_the_module_has_each_parameter_once_and_serves_a_torch_optimizer(
    make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair("ps"), make_views(2)
    module = KLObjective()(pair.model, pair.guide)
    assert isinstance(module, nn.Module)
    assert {id(parameter) for parameter in module.parameters()} == {id(parameter) for parameter in pair.parameters()}
    assert len(list(module.parameters())) == len(list(pair.parameters()))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = module(views)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def pair_in_plates(experts: list[VonMisesFisher], locations: Tensor, *plates: Any) -> tuple[Any, Any]:
    """A model and a guide as plain functions, with plates of the caller's making."""
    dim = locations.size(-1)

    def model() -> None:
        with pyro.plate(*plates[0], **plates[1]):
            z = pyro.sample(LATENT, SphericalUniform(dim, dtype=locations.dtype))
            for number, expert in enumerate(experts):
                pyro.sample(f"x_{number}", ViewGivenLatent(expert, z, (dim,)), obs=expert.mean_direction)

    def guide() -> None:
        with pyro.plate(*plates[0], **plates[1]):
            pyro.sample(LATENT, DeltaMixture(locations), infer={"enumerate": "parallel"})

    return model, guide


def random_experts(images: int, views: int) -> tuple[list[VonMisesFisher], Tensor]:
    def directions(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, 3, dtype=torch.float64))

    concentration = torch.rand(images, dtype=torch.float64)
    return [VonMisesFisher(directions(images), concentration) for _ in range(views)], directions(images, views)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("pairs", ["cross", "all"])
def test_a_subsampled_plate_scales_the_loss(pairs: Any, normalized: bool) -> None:
    experts, locations = random_experts(images=4, views=2)
    objective = KLObjective(pairs, normalized=normalized)
    whole = objective.loss(*pair_in_plates(experts, locations, ("images", 4), {"dim": -1}))
    subsample = {"subsample": torch.arange(4), "dim": -1}
    scaled = objective.loss(*pair_in_plates(experts, locations, ("images", 40), subsample))
    assert scaled == pytest.approx(10 * whole, rel=1e-13)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("pairs", ["cross", "all"])
def test_a_mask_leaves_images_out(pairs: Any, normalized: bool, make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("vmf").eval(), make_views(3)
    objective = KLObjective(pairs, normalized=normalized)
    keep = torch.tensor([True, False, True, True, False, True])

    def masked_model(views: list[Tensor]) -> None:
        with poutine.mask(mask=keep):  # type: ignore[call-overload]  # written for torch.BoolTensor
            pair.model(views)

    masked = objective.loss(masked_model, pair.guide, views)
    expected = objective.loss(pair.model, pair.guide, [view[keep] for view in views])
    assert masked == pytest.approx(expected, rel=1e-13)


def test_poutine_scale_scales_the_loss(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("ps"), make_views(2)
    loss = KLObjective().loss(pair.model, pair.guide, views)
    scaled = KLObjective().loss(poutine.scale(pair.model, scale=0.25), pair.guide, views)
    assert scaled == pytest.approx(loss / 4, rel=1e-13)


def test_more_plates_to_the_left_leave_the_loss_as_it_is(make_pair: PairMaker, make_views: ViewMaker) -> None:
    pair, views = make_pair("ps"), make_views(3)
    loss = KLObjective(max_plate_nesting=3).loss(pair.model, pair.guide, views)
    assert loss == pytest.approx(KLObjective().loss(pair.model, pair.guide, views), rel=1e-14)


class FixedExpert(nn.Module):
    """An expert whose mean direction is given, to place it at will."""

    def __init__(self, mean_direction: Tensor) -> None:
        super().__init__()
        self.mean_direction = nn.Parameter(mean_direction)
        self.concentration = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, projection: Tensor) -> PowerSpherical:
        return PowerSpherical(normalize(self.mean_direction).expand_as(projection), self.concentration)


class OneExpertAView(nn.Module):
    """Give the views their experts in turn."""

    def __init__(self, experts: list[FixedExpert]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.calls = 0

    def forward(self, projection: Tensor) -> PowerSpherical:
        self.calls += 1
        expert: PowerSpherical = self.experts[(self.calls - 1) % len(self.experts)](projection)
        return expert


def test_a_vanishing_density_at_a_views_own_atom_spoils_neither_value_nor_gradient_of_the_cross_pairs() -> None:
    # A Power Spherical density vanishes opposite to its mean direction. Each view's expert points at the other view's
    # atom, so its own atom lies opposite.
    first = torch.eye(3, dtype=torch.float64)[:1]
    experts = OneExpertAView([FixedExpert(-first[0]), FixedExpert(first[0])])
    model, guide, views = MultiViewModel(nn.Identity(), experts), MultiViewGuide(nn.Identity()), [first, -first]
    assert KLObjective("all").loss(model, guide, views) == math.inf
    loss = KLObjective("cross")(model, guide)(views)
    loss.backward()
    at_mode = PowerSpherical(first, torch.tensor(3.0, dtype=torch.float64)).log_prob(first)
    assert loss.item() == pytest.approx(-2 * at_mode.item(), rel=1e-13)
    for parameter in experts.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@FAMILIES
def test_under_autocast_the_loss_is_float32_and_close_to_float32(
    family: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family, dtype=torch.float32), make_views(2, images=64, dtype=torch.float32)
    module = KLObjective()(pair.model, pair.guide)
    exact = module(views) / 64
    dtypes = set()

    def remember(_: nn.Module, __: Any, output: Any) -> None:
        dtypes.add(output.dtype)

    handle = pair.model.encoder.register_forward_hook(remember)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(views) / 64
    handle.remove()
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in pair.parameters())
    # bfloat16 has three digits in the networks; the objective must not add to their error.
    assert loss.item() == pytest.approx(exact.item(), abs=0.05)
    assert loss.item() != exact.item()


@pytest.mark.parametrize("family", ["vmf", "ps"])
def test_with_global_crops_in_the_guide_every_view_is_explained_by_the_other_global_ones(
    family: str, make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    """C14: local crops are observed by the model and are no atoms of the guide."""
    pair, views = make_pair(family).eval(), make_views(5)
    guide = MultiViewGuide(pair.model.encoder, views=2)
    atoms = guide.locations(views).detach().unbind(-2)
    expected = torch.zeros(())
    for number, view in enumerate(views):
        others = [atom for index, atom in enumerate(atoms) if index != number]
        expert = pair.model.expert(view)
        expected = expected - sum((expert.log_prob(atom) for atom in others), torch.zeros(())).sum() / len(others)
    torch.testing.assert_close(KLObjective()(pair.model, guide)(views), expected.double(), rtol=1e-12, atol=0)


def test_the_terms_add_up_to_the_loss(
    make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair, views = make_pair("vmf").eval(), make_views(3)
    for objective in (KLObjective(), KLObjective("all", normalized=True)):
        terms = objective.evaluate(pair.model, pair.guide, views)
        assert len(terms.log_densities) == len(terms.experts) == 3
        assert torch.equal(terms.loss(), objective(pair.model, pair.guide)(views))
        assert (terms.log_normalizer is not None) == objective.normalized


@FAMILIES
def test_densities_are_in_full_precision_under_autocast(
    family: str, make_pair: PairMaker, make_views: ViewMaker
) -> None:
    pair, views = make_pair(family, dtype=torch.float32), make_views(2, dtype=torch.float32)
    on: list[bool] = []

    def weight(_: Any, atoms: Tensor) -> Tensor:
        on.append(torch.is_autocast_enabled("cpu"))
        return atoms.new_ones(())

    with torch.autocast("cpu", torch.bfloat16):
        terms = KLObjective(weight=weight).evaluate(pair.model, pair.guide, views)
        on.append(torch.is_autocast_enabled("cpu"))
    assert on == [False, False, True]
    for term, expert in zip(terms.log_densities, terms.experts, strict=True):
        assert term.dtype == expert.mean_direction.dtype == torch.float32
    assert not isinstance(full_precision(terms.log_densities[0]), torch.autocast)  # off already: nothing to switch
