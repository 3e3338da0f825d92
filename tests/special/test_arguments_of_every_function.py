"""What every special function does with a bad dimension, with numbers that are none, and with other precisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_as_inference import divergences, special
from ssl_as_inference.sphere import log_surface_area

HALF = torch.tensor(0.5)
# Every function of a dimension: its other arguments, all of which may be varied.
ARGUMENTS: dict[str, tuple[Tensor, ...]] = {
    name: (torch.tensor(2.0),) for name in special.__all__ if name.startswith(("von_mises_fisher_", "power_spherical_"))
} | {
    "power_spherical_cosine_cdf": (torch.tensor(2.0), HALF),
    "power_spherical_cosine_icdf": (torch.tensor(2.0), HALF),
    "power_spherical_cross_log_height": (torch.tensor(2.0), HALF, HALF),
    "power_spherical_log_height_deficit": (torch.tensor(2.0), HALF, HALF),
    "power_spherical_pair_log_normalizer": (torch.tensor(2.0), torch.tensor(3.0), HALF, HALF),
    "von_mises_fisher_cross_log_height": (torch.tensor(2.0), HALF, HALF),
    "von_mises_fisher_concentration": (HALF,),
    "von_mises_fisher_gap_derivative": (torch.tensor(2.0), HALF),
    "von_mises_fisher_gap_quantile": (torch.tensor(2.0), HALF),
    "von_mises_fisher_log_gap_tail": (torch.tensor(2.0), HALF),
    "von_mises_fisher_peak_difference": (torch.tensor(2.0), HALF),
    "power_spherical_peak_difference": (torch.tensor(2.0), HALF),
    "von_mises_fisher_concentration_divergence": (torch.tensor(2.0), torch.tensor(3.0)),
    "power_spherical_concentration_divergence": (torch.tensor(2.0), torch.tensor(3.0)),
}


def _function(name: str) -> Callable[..., Tensor]:
    function: Callable[..., Tensor] = getattr(special, name, None) or getattr(divergences, name)
    if name == "von_mises_fisher_log_gap_tail":
        return lambda *arguments: function(*arguments, upper=True)
    return function


@pytest.mark.parametrize("dim", [1, 0, -3, 2.5, 3.0, math.nan, "3", None, True])
def test_a_dimension_that_is_no_integer_from_two_on_is_refused(dim: Any) -> None:
    for name, arguments in ARGUMENTS.items():
        with pytest.raises(ValueError, match=rf"dim must be an integer >= 2, got {dim}"):
            _function(name)(dim, *arguments)


def test_the_area_of_a_sphere_needs_a_whole_dimension() -> None:
    assert math.exp(log_surface_area(1)) == pytest.approx(2)  # two points
    for dim in (0, 2.5, None):
        with pytest.raises(ValueError, match=f"dim must be an integer >= 1, got {dim}"):
            log_surface_area(dim)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_integer_of_numpy_is_a_dimension(name: str) -> None:
    function, arguments = _function(name), ARGUMENTS[name]
    assert torch.equal(function(np.int64(5), *arguments), function(5, *arguments))


@pytest.mark.parametrize("dim", [2, 3, 19, 20, 128])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_not_a_number_goes_through(name: str, dim: int) -> None:
    function, arguments = _function(name), ARGUMENTS[name]
    assert not function(dim, *arguments).isnan()
    for position, argument in enumerate(arguments):
        changed = [*arguments]
        changed[position] = torch.full_like(argument, math.nan)
        assert function(dim, *changed).isnan(), position


@pytest.mark.parametrize("name", ARGUMENTS)
def test_half_precision_and_integers_give_float32_and_double_stays(name: str) -> None:
    function, arguments = _function(name), ARGUMENTS[name]
    exact = function(5, *(argument.double() for argument in arguments))
    assert exact.dtype == torch.float64
    for dtype in (torch.float16, torch.bfloat16):
        rounded = tuple(argument.to(dtype) for argument in arguments)
        value = function(5, *rounded)
        assert value.dtype in {torch.float32, torch.float64}
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    if len(arguments) == 1 and arguments[0] == 2:
        whole = function(5, arguments[0].long())
        assert whole.dtype == function(5, arguments[0]).dtype
        assert whole.item() == pytest.approx(exact.item(), rel=1e-6)
