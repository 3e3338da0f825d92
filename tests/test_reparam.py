"""Latent unit vectors in unconstrained coordinates: NUTS and automatic guides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical, SphericalMixture, SphericalUniform, VonMisesFisher
from ssl_as_inference.reparam import SphericalReparam
from ssl_as_inference.special import von_mises_fisher_mean_resultant_length
from ssl_as_inference.sphere import log_surface_area, normalize

MU = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
LAWS = {
    "uniform": lambda: SphericalUniform(3, dtype=torch.float64),
    "von Mises–Fisher": lambda: VonMisesFisher(MU, 4.0),
    "power spherical": lambda: PowerSpherical(MU, 4.0),
}


def reparametrised(law: Callable[[], Any]) -> Any:
    def model() -> Tensor:
        z: Tensor = pyro.sample("z", law())
        return z

    return poutine.reparam(model, config={"z": SphericalReparam()})


@pytest.mark.parametrize("name", LAWS)
def test_the_weight_makes_the_direction_of_a_normal_vector_follow_the_distribution(name: str) -> None:
    law = LAWS[name]()  # type: ignore[no-untyped-call]
    trace: Any = poutine.trace(reparametrised(LAWS[name])).get_trace()
    trace.compute_log_prob()
    x, z = trace.nodes["z_normal"]["value"], trace.nodes["z"]["value"]
    torch.testing.assert_close(z, x / x.norm())
    # log N(x) = log uniform(z) + log density of the length ‖x‖, a chi variable with 3 degrees of freedom.
    length = x.norm()
    chi = 0.5 * math.log(2 / math.pi) + 2 * length.log() - length.square() / 2 - 2 * length.log()
    expected = law.log_prob(z) + chi
    assert trace.log_prob_sum().item() == pytest.approx(expected.item(), abs=1e-12)
    assert log_surface_area(3) == pytest.approx(math.log(4 * math.pi))


def test_nuts_draws_the_posterior_of_two_von_mises_fisher_views() -> None:
    # z uniform, μ_i | z ~ vMF(z, κ_i): the posterior is vMF(η/R, R) with η = Σ κ_i μ_i (C4).
    views = normalize(torch.tensor([[1.0, 0.2, 0.1], [0.3, 1.0, -0.2]], dtype=torch.float64))
    kappa = torch.tensor([4.0, 3.0], dtype=torch.float64)

    @poutine.reparam(config={"z": SphericalReparam()})
    def model() -> None:
        z = pyro.sample("z", SphericalUniform(3, dtype=torch.float64))
        with pyro.plate("views", 2):
            pyro.sample("x", VonMisesFisher(z.expand(2, 3), kappa), obs=views)

    pyro.set_rng_seed(1)
    mcmc = MCMC(NUTS(model), num_samples=400, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    z = normalize(mcmc.get_samples()["z_normal"])
    eta = (kappa.unsqueeze(-1) * views).sum(0)
    expected = von_mises_fisher_mean_resultant_length(3, eta.norm()) * eta / eta.norm()
    spread = z.std(0) / math.sqrt(80)  # allows for correlated draws: 80 effective ones of 400
    assert ((z.mean(0) - expected).abs() < 4 * spread).all()


def test_an_automatic_guide_finds_the_mode() -> None:
    model = reparametrised(lambda: VonMisesFisher(MU.float(), 50.0))
    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"z_normal": torch.tensor([1.0, 0.0, 0.0])}))
    pyro.set_rng_seed(0)
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.05}), Trace_ELBO())
    for _ in range(400):
        svi.step()
    assert normalize(guide.median()["z_normal"]) @ MU.float() > 0.99


def test_plates_and_event_dimensions_are_kept() -> None:
    def model() -> Tensor:
        with pyro.plate("images", 5, dim=-1):
            z: Tensor = pyro.sample("z", VonMisesFisher(MU, 4.0))
        return z

    trace: Any = poutine.trace(poutine.reparam(model, config={"z": SphericalReparam()})).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["value"].shape == (5, 3)
    assert trace.nodes["z_density"]["log_prob"].shape == (5,)


def test_a_mixture_on_the_sphere_is_taken() -> None:
    mixture = SphericalMixture(VonMisesFisher(torch.eye(3), 4.0))
    model = poutine.reparam(lambda: pyro.sample("z", mixture), config={"z": SphericalReparam()})
    trace: Any = poutine.trace(model).get_trace()
    expected = mixture.log_prob(trace.nodes["z"]["value"]) + math.log(4 * math.pi)
    torch.testing.assert_close(trace.nodes["z_density"]["fn"].log_factor, expected)


def test_observed_sites_and_other_supports_are_refused() -> None:
    observed = poutine.reparam(
        lambda: pyro.sample("z", VonMisesFisher(MU, 4.0), obs=MU), config={"z": SphericalReparam()}
    )
    with pytest.raises(NotImplementedError, match="observed site 'z'"):
        observed()
    normal = poutine.reparam(
        lambda: pyro.sample("z", pyro.distributions.Normal(torch.zeros(3), 1.0).to_event(1)),
        config={"z": SphericalReparam()},
    )
    with pytest.raises(ValueError, match="must have a distribution on the sphere, got Normal"):
        normal()


@pytest.mark.parametrize("infer", ["NUTS", "AutoNormal"])
@pytest.mark.parametrize("name", LAWS)
def test_continuous_inference_on_a_sphere_names_the_remedy(name: str, infer: str) -> None:
    def model() -> None:
        pyro.sample("z", LAWS[name]())  # type: ignore[no-untyped-call]

    run = AutoNormal(model) if infer == "AutoNormal" else MCMC(NUTS(model), 1, 1, disable_progbar=True).run
    with pytest.raises(ValueError, match=r"poutine\.reparam\(model, config=.*SphericalReparam\(\)"):
        run()
