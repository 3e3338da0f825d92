"""Maximum likelihood for the Power Spherical distribution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical
from ssl_as_inference.distributions.power_spherical_fit import fit_concentration
from ssl_as_inference.special import power_spherical_mean_log_height
from ssl_as_inference.sphere import normalize


def _samples(dim: int, concentration: float, count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(dim)
    mean_direction = normalize(torch.randn(dim, dtype=torch.float64)).to(dtype)
    return mean_direction, PowerSpherical(mean_direction, concentration).sample((count,))


@pytest.mark.parametrize("concentration", [0.3, 2.0, 50.0, 1e4, 1e8])
@pytest.mark.parametrize("dim", [2, 3, 16, 500])
def test_score_vanishes_at_the_estimate(dim: int, concentration: float) -> None:
    _, z = _samples(dim, concentration, 2000)
    fitted = PowerSpherical.fit(z)
    mean_direction = fitted.mean_direction.clone().requires_grad_()
    log_kappa = fitted.concentration.clamp_min(1e-3).log().requires_grad_()
    loss = -PowerSpherical(normalize(mean_direction), log_kappa.exp()).log_prob(z).mean()
    along, across = torch.autograd.grad(loss, (log_kappa, mean_direction))
    if fitted.concentration > 0:
        # In units of the standard error of the estimate, 1/√n.
        assert abs(along.item()) < 1e-7 * max(1.0, dim / 2)
        assert across.norm().item() < 1e-6 * max(1.0, (concentration * dim) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("concentration", [5.0, 1e3, 1e6])
@pytest.mark.parametrize("dim", [2, 3, 64])
def test_parameters_are_recovered(dim: int, concentration: float, dtype: torch.dtype) -> None:
    mean_direction, z = _samples(dim, concentration, 20_000, dtype)
    fitted = PowerSpherical.fit(z)
    assert fitted.concentration.dtype == dtype
    assert fitted.concentration.item() == pytest.approx(concentration, rel=0.05)
    angle = (fitted.mean_direction - mean_direction).norm().item()
    assert angle < 5 * (2 * dim / (20_000 * concentration)) ** 0.5


def test_estimate_beats_its_neighbours_where_ascent_is_hard() -> None:
    # At small κ on the circle samples lie next to −μ, where the log likelihood of a direction has its poles.
    _, z = _samples(2, 0.4, 300)
    fitted = PowerSpherical.fit(z)
    angle = torch.linspace(-torch.pi, torch.pi, 721, dtype=torch.float64)
    rivals = PowerSpherical(torch.stack([angle.cos(), angle.sin()], -1), fitted.concentration)
    best = rivals.log_prob(z.unsqueeze(1)).mean(0).max()
    assert fitted.log_prob(z).mean() >= best - 1e-3


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_directions_that_cancel_are_fitted_across_their_axis(dim: int) -> None:
    z = torch.eye(dim, dtype=torch.float64)[:1]
    fitted = PowerSpherical.fit(torch.cat([z, -z]))
    assert abs(float(fitted.mean_direction[0])) < 1e-6  # every direction at a right angle to the axis is as good
    assert fitted.log_prob(z) >= PowerSpherical(z, 0.0).log_prob(z)


def test_weights_count_as_repetitions_and_batches_are_independent() -> None:
    _, z = _samples(3, 4.0, 60)
    _, other = _samples(3, 90.0, 60)
    count = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(0))
    repeated = PowerSpherical.fit(z.repeat_interleave(count, 0))
    weighted = PowerSpherical.fit(z, 0.1 * count)
    torch.testing.assert_close(weighted.concentration, repeated.concentration)
    torch.testing.assert_close(weighted.mean_direction, repeated.mean_direction)
    batch = PowerSpherical.fit(torch.stack([z, other], 1), torch.stack([count, torch.ones(60)], 1))
    assert batch.batch_shape == (2,)
    torch.testing.assert_close(batch.concentration[0], repeated.concentration)
    torch.testing.assert_close(batch.concentration[1], PowerSpherical.fit(other).concentration)
    torch.testing.assert_close(
        PowerSpherical.fit(torch.stack([z, z], 1), count).concentration[1], repeated.concentration
    )


@pytest.mark.parametrize("dim", [2, 3, 128, 65536])
def test_concentration_inverts_the_mean_log_height(dim: int) -> None:
    kappa = torch.logspace(-1, 12, 27, dtype=torch.float64)
    depth = -torch.log(torch.tensor(0.5, dtype=torch.float64)) - power_spherical_mean_log_height(dim, kappa)
    # The difference from log 2 has an error of 1e-16, the depth itself is about (d−1)/(2κ).
    error = 1e-12 + 1e-15 * (kappa + dim) ** 2 / (dim * kappa)
    assert ((fit_concentration(dim, depth) / kappa - 1).abs() < error).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_degenerate_samples_give_finite_estimates(dtype: torch.dtype) -> None:
    one = torch.tensor([[1.0, 0.0]], dtype=dtype)
    fitted = PowerSpherical.fit(one.expand(5, 2))
    torch.testing.assert_close(fitted.mean_direction, one[0])
    assert fitted.concentration.isfinite()
    assert fitted.concentration > 1e6
    opposite = PowerSpherical.fit(torch.cat([one, -one]))
    assert opposite.mean_direction.isfinite().all()
    assert opposite.concentration < 1


@pytest.mark.parametrize(
    ("samples", "weights", "message"),
    [
        (torch.ones(3), None, r"samples must have shape \(n, \*batch, dim\) with n >= 1 and dim >= 2, got \(3,\)"),
        (torch.ones(0, 3), None, "n >= 1"),
        (torch.eye(3), torch.ones(2), r"weights must have shape \(3,\) or \(3,\), got \(2,\)"),
        (torch.eye(3), -torch.ones(3), "weights must be finite and >= 0"),
        (torch.ones(3, 3), None, "unit length|within the support"),
    ],
    ids=["no dimension", "no sample", "weights of another shape", "negative weights", "not of unit length"],
)
def test_bad_arguments_are_named(samples: Tensor, weights: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PowerSpherical.fit(samples, weights, validate_args=True)
