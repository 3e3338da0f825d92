"""The uniform distribution on the sphere."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from pyro.distributions import constraints

from ssl_as_inference.distributions import PowerSpherical, SphericalUniform
from ssl_as_inference.sphere import log_surface_area


@pytest.mark.parametrize("dim", [2, 3, 17, 2048])
def test_density_is_one_over_the_area(dim: int) -> None:
    law = SphericalUniform(dim, dtype=torch.float64)
    z = law.sample((5,))
    assert law.log_prob(z).tolist() == pytest.approx([-log_surface_area(dim)] * 5)
    assert law.entropy().item() == pytest.approx(log_surface_area(dim))
    limit = PowerSpherical(z[0], 0.0)
    torch.testing.assert_close(limit.log_prob(z), law.log_prob(z))
    torch.testing.assert_close(limit.covariance_matrix, law.covariance_matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_samples_are_on_the_sphere_and_uniform(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for dim in (2, 3, 65536):
        draws = SphericalUniform(dim, dtype=dtype).rsample((32,))
        assert draws.dtype == dtype
        assert constraints.sphere.check(draws).all()
    # Archimedes: the height on the sphere in space is uniform.
    height = SphericalUniform(3, dtype=dtype).sample((4000,))[:, 0].double()
    assert scipy.stats.kstest(height.numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_moments() -> None:
    law = SphericalUniform(4, batch_shape=(2,))
    assert torch.equal(law.mean, torch.zeros(2, 4))
    assert torch.equal(law.variance, torch.full((2, 4), 0.25))
    assert law.covariance_matrix.shape == (2, 4, 4)


def test_batches_expand_and_survive_pickling() -> None:
    law = SphericalUniform(3, batch_shape=(2, 1), validate_args=True)
    wide = law.expand((5, 2, 4))
    assert wide.sample((6,)).shape == (6, 5, 2, 4, 3)
    assert wide.log_prob(wide.sample()).shape == (5, 2, 4)
    assert SphericalUniform.infer_shapes(dim=3) == ((), (3,))
    assert pickle.loads(pickle.dumps(law)).log_prob(law.sample()).shape == (2, 1)  # noqa: S301  # our own bytes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SphericalUniform(1), ValueError, "dim must be an integer >= 2, got 1"),
        (lambda: SphericalUniform(3, dtype=torch.float16), ValueError, "dtype must be"),
        (lambda: SphericalUniform(3).mode, NotImplementedError, "has no mode"),
        (lambda: SphericalUniform(3).log_prob(torch.eye(4)), ValueError, "event shape"),
        (lambda: SphericalUniform(3, validate_args=True).log_prob(torch.ones(3)), ValueError, "must have unit length"),
    ],
    ids=["a point pair", "half precision", "mode", "other dimension", "not of unit length"],
)
def test_errors_say_what_is_wrong(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_area_in_space() -> None:
    assert SphericalUniform(3).entropy().item() == pytest.approx(math.log(4 * math.pi))
