"""Kullback–Leibler divergences against Monte Carlo and mpmath."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch.distributions import kl_divergence

import ssl_as_inference.divergences  # noqa: F401  # registers them
from ssl_as_inference.distributions import PowerSpherical, SphericalUniform
from ssl_as_inference.sphere import normalize


@pytest.mark.parametrize("concentration", [0.5, 5.0, 300.0])
@pytest.mark.parametrize("dim", [2, 3, 32])
def test_divergences_between_power_spherical_and_uniform(dim: int, concentration: float) -> None:
    torch.manual_seed(0)
    law = PowerSpherical(normalize(torch.randn(dim, dtype=torch.float64)), concentration)
    uniform = SphericalUniform(dim, dtype=torch.float64)
    for p, q in ((law, uniform), (uniform, law)):
        z = p.sample((20_000,))
        ratio = p.log_prob(z) - q.log_prob(z)
        assert abs((ratio.mean() - kl_divergence(p, q)) / (ratio.std() / 20_000**0.5)).item() < 4


def test_divergence_from_uniform_keeps_its_digits_in_high_dimension() -> None:
    uniform = SphericalUniform(65536, dtype=torch.float64)
    direction = torch.zeros(65536, dtype=torch.float64)
    direction[0] = 1
    for concentration in (0.1, 10.0, 1e4):
        got = kl_divergence(uniform, PowerSpherical(direction, concentration)).item()
        with mpmath.workdps(60):
            kappa, b = mpmath.mpf(concentration), mpmath.mpf(65535) / 2
            log_c, log_c0 = (
                mpmath.loggamma(2 * b + k) - mpmath.loggamma(b + k) - k * mpmath.log(2) for k in (kappa, mpmath.mpf(0))
            )
            height = mpmath.log(2) + mpmath.digamma(b) - mpmath.digamma(2 * b)
            assert got == pytest.approx(float(log_c0 - log_c - kappa * height), rel=1e-9, abs=1e-14)


def test_shapes_broadcast_and_spheres_must_agree() -> None:
    law = PowerSpherical(torch.eye(3)[:, None], torch.ones(4))
    uniform = SphericalUniform(3, batch_shape=(2, 1, 1))
    assert kl_divergence(law, uniform).shape == (2, 3, 4)
    assert kl_divergence(uniform, law).shape == (2, 3, 4)
    assert torch.equal(kl_divergence(uniform, uniform), torch.zeros(2, 1, 1))
    with pytest.raises(ValueError, match=r"same sphere, got event shapes \(3,\) and \(4,\)"):
        kl_divergence(law, SphericalUniform(4))
