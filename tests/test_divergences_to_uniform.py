"""Kullback–Leibler divergences against Monte Carlo and mpmath."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from ssl_as_inference import cross_entropy
from ssl_as_inference.distributions import PowerSpherical, RotationallySymmetric, SphericalUniform, VonMisesFisher
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


@pytest.mark.parametrize("function", [kl_divergence, cross_entropy])
@pytest.mark.parametrize("family", [PowerSpherical, VonMisesFisher])
def test_results_have_the_wider_dtype_and_its_digits(
    family: type[RotationallySymmetric], function: Callable[..., Tensor]
) -> None:
    dtypes = (torch.float32, torch.float64)
    laws = [family(torch.eye(3, dtype=dtype)[0], 2.0) for dtype in dtypes]
    uniforms = [SphericalUniform(3, dtype=dtype) for dtype in dtypes]
    for first, second in ((laws, uniforms), (uniforms, laws), (uniforms, uniforms)):
        expected = function(first[1], second[1])
        assert expected.dtype == torch.float64
        assert torch.equal(function(first[0], second[1]), expected)
        assert torch.equal(function(first[1], second[0]), expected)
        assert function(first[0], second[0]).dtype == torch.float32
