"""What all distributions do alike: precision, arguments, expansion, names, and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference import cross_entropy
from ssl_as_inference.distributions import (
    DeltaMixture,
    PowerSpherical,
    ProductOfExperts,
    RotationallySymmetric,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.sphere import normalize

FAMILIES: dict[str, type[RotationallySymmetric]] = {"vmf": VonMisesFisher, "ps": PowerSpherical}
HALF = [torch.float16, torch.bfloat16]
# Every distribution, made of three unit vectors of one batch element.
MADE_OF: dict[str, Callable[[Tensor], TorchDistribution]] = {
    "vmf": lambda f: VonMisesFisher(f[0], 2.0),
    "ps": lambda f: PowerSpherical(f[0], 2.0),
    "uniform": lambda f: SphericalUniform(f.size(-1), dtype=f.dtype),
    "delta": DeltaMixture,
    "mixture": lambda f: SphericalMixture(VonMisesFisher(f, 2.0)),
    "product": lambda f: ProductOfExperts(VonMisesFisher(f, 2.0)),
}


def _vectors(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return normalize(torch.randn(*shape, generator=draw, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("dim", [2, 3, 8, 200])
@pytest.mark.parametrize("name", [name for name in MADE_OF if name != "uniform"])
def test_half_precision_is_raised_to_float32_and_own_samples_are_valid(name: str, dim: int, dtype: torch.dtype) -> None:
    rounded = _vectors(3, dim, dtype=dtype).requires_grad_()
    law = MADE_OF[name](rounded)
    raised = MADE_OF[name](normalize(rounded.float()))
    torch.manual_seed(0)
    z = law.sample((50,))
    assert z.dtype == torch.float32
    assert constraints.sphere.check(z).all()
    assert law.log_prob(z).dtype == torch.float32
    torch.testing.assert_close(law.log_prob(z), raised.log_prob(z))
    torch.testing.assert_close(law.mean, raised.mean)
    # A value in half precision is the nearest direction, too; and the derivative comes back in the caller's dtype.
    value = z.to(dtype)
    torch.testing.assert_close(law.log_prob(value), raised.log_prob(normalize(value.float())))
    if name != "delta":
        (slope,) = torch.autograd.grad(law.log_prob(value).sum(), rounded)
        assert slope.dtype == dtype
        assert slope.isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, *HALF])
def test_a_concentration_of_any_real_dtype_is_that_number(name: str, dtype: torch.dtype) -> None:
    for directions in (torch.eye(3), torch.eye(3, dtype=torch.float64)):
        law = FAMILIES[name](directions, torch.tensor([0, 3, 40], dtype=dtype))
        plain = FAMILIES[name](directions, torch.tensor([0.0, 3.0, 40.0], dtype=directions.dtype))
        assert law.concentration.dtype == directions.dtype
        torch.manual_seed(0)
        z = law.rsample((4,))
        torch.manual_seed(0)
        assert torch.equal(z, plain.rsample((4,)))
        for quantity in ("mean", "variance", "covariance_matrix"):
            assert torch.equal(getattr(law, quantity), getattr(plain, quantity))
        assert torch.equal(law.log_prob(z), plain.log_prob(z))
        assert torch.equal(law.entropy(), plain.entropy())
    assert FAMILIES[name](torch.tensor([0, 0, 1]), 3).mean.dtype == torch.float32


@pytest.mark.parametrize("wide", ["mean_direction", "concentration", "both"])
@pytest.mark.parametrize("name", FAMILIES)
def test_results_have_the_widest_dtype_of_the_arguments(name: str, wide: str) -> None:
    direction = _vectors(4, dtype=torch.float32 if wide == "concentration" else torch.float64)
    kappa = torch.tensor(3.0, dtype=torch.float32 if wide == "mean_direction" else torch.float64)
    law = FAMILIES[name](direction, kappa)
    for value in (law.mean, law.variance, law.stddev, law.covariance_matrix, law.log_prob(direction)):
        assert value.dtype == torch.float64


@pytest.mark.parametrize("narrow", ["law", "concentration"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_density_in_float64_is_not_rounded_to_float32(name: str, narrow: str) -> None:
    direction, z = _vectors(2, 2048, dtype=torch.float64)
    direction = normalize(z + 0.3 * direction)
    kappa = torch.tensor([3.0, 900.0, 18_000.0])
    law = FAMILIES[name](direction.float() if narrow == "law" else direction, kappa)
    wide = FAMILIES[name](law.mean_direction.double(), kappa.double(), validate_args=False)
    assert torch.equal(law.log_prob(z), wide.log_prob(z))
    uniform = SphericalUniform(2048, dtype=torch.float32)
    assert torch.equal(uniform.log_prob(z), SphericalUniform(2048, dtype=torch.float64).log_prob(z))


@pytest.mark.parametrize("name", MADE_OF)
def test_a_batch_expands_only_to_what_it_broadcasts_to(name: str) -> None:
    law = MADE_OF[name](_vectors(3, 4)).expand((2, 1))
    assert law.expand((5, 2, 3)).sample().shape == (5, 2, 3, 4)
    for shape in ((5,), (3, 1), (2,), (), (2, -1)):
        with pytest.raises(ValueError, match=r"batch_shape must be one that \(2, 1.*\) broadcasts to, got"):
            law.expand(shape)


@pytest.mark.parametrize("name", MADE_OF)
def test_the_name_says_what_it_holds(name: str) -> None:
    said = repr(MADE_OF[name](_vectors(3, 7)))
    assert "7" in said
    three = "VonMisesFisher(mean_direction: torch.Size([3, 7]), concentration: torch.Size([3]))"
    expected = {
        "vmf": "VonMisesFisher(mean_direction: torch.Size([7]), concentration: 2.0)",
        "uniform": "SphericalUniform(7, batch_shape=(), dtype=torch.float32)",
        "product": f"ProductOfExperts({three})",
        "mixture": f"SphericalMixture(components: {three}, weights: (3,))",
    }
    assert said == expected.get(name, said)


@pytest.mark.parametrize("name", [name for name in MADE_OF if name not in {"uniform", "delta"}])
def test_what_is_not_a_number_comes_out_of_every_quantity(name: str) -> None:
    lost = torch.full((3, 4), math.nan)
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        law = MADE_OF[name](lost)
        for value in (law.sample((9,)), law.mean, law.variance, law.log_prob(_vectors(4))):
            assert value.isnan().all()
    finally:
        torch.distributions.Distribution.set_default_validate_args(True)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dim", [2, 3, 8, 100])
def test_a_concentration_that_is_not_a_number_comes_out_of_every_quantity(name: str, dim: int) -> None:
    law = FAMILIES[name](_vectors(dim), torch.tensor([math.nan, 2.0]), validate_args=False)
    torch.manual_seed(0)
    z = law.sample((200,))
    quantities = (law.mean, law.variance, law.covariance_matrix, law.entropy(), law.log_prob(_vectors(dim)))
    for value in (*quantities, law.cosine_cdf(torch.tensor(0.3)), law.cosine_icdf(torch.tensor(0.3))):
        assert value[0].isnan().all()
        assert value[1].isfinite().all()
    assert z[:, 0].isnan().all()
    assert z[:, 1].isfinite().all()


@pytest.mark.parametrize("name", MADE_OF)
def test_a_value_that_is_not_a_number_has_no_density(name: str) -> None:
    value = _vectors(2, 4)
    value[0, 1] = math.nan
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        density = MADE_OF[name](_vectors(3, 4)).log_prob(value)
    finally:
        torch.distributions.Distribution.set_default_validate_args(True)
    assert density.isnan().tolist() == [True, False]
    uniform_limit = PowerSpherical(_vectors(4), 0.0, validate_args=False).log_prob(value)
    assert uniform_limit.isnan().tolist() == [True, False]


@pytest.mark.parametrize("name", [name for name in MADE_OF if name != "mixture"])  # torch's own messages there
def test_a_value_that_does_not_fit_is_named(name: str) -> None:
    law = MADE_OF[name](_vectors(3, 4)).expand((2,))
    for value, message in (
        (torch.ones(4), "value must have unit length"),
        (torch.tensor(1.0), r"value must have event shape \(4,\), got shape \(\)"),
        (_vectors(5), r"value must have event shape \(4,\), got shape \(5,\)"),
        (_vectors(3, 4), r"value must broadcast with batch shape \(2,\)"),
        ([1.0, 0.0, 0.0, 0.0], "value must be a tensor of real numbers, got list"),
    ):
        with pytest.raises(ValueError, match=message):
            law.log_prob(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VonMisesFisher([1.0, 0.0], 2.0), "mean_direction must be a tensor of real numbers, got list"),  # type: ignore[arg-type]
        (lambda: PowerSpherical(torch.eye(2) + 0j, 2.0), "mean_direction must be .* got torch.complex64"),
        (lambda: PowerSpherical(torch.eye(2), torch.tensor(2j)), "concentration must be .* got torch.complex64"),
        (lambda: PowerSpherical(torch.eye(2), "2"), "concentration must be a tensor or a number, got '2'"),  # type: ignore[arg-type]
        (lambda: VonMisesFisher(torch.eye(2), None), "concentration must be a tensor or a number, got None"),  # type: ignore[arg-type]
        (lambda: VonMisesFisher.fit([[1.0, 0.0]]), "samples must be a tensor of real numbers, got list"),  # type: ignore[arg-type]
        (lambda: DeltaMixture([[1.0, 0.0]]), "locations must be a tensor of real numbers, got list"),  # type: ignore[arg-type]
        (
            lambda: SphericalMixture(VonMisesFisher(torch.eye(2), 1.0), [0.5, 0.5]),  # type: ignore[arg-type]
            "weights must be a tensor of real numbers, got list",
        ),
    ],
)
def test_what_is_no_tensor_of_real_numbers_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), True])
def test_a_concentration_may_be_any_number(number: float) -> None:
    assert float(VonMisesFisher(torch.eye(2), number).concentration[0]) == number


@pytest.mark.parametrize("name", ["vmf", "ps", "delta", "mixture"])
@pytest.mark.parametrize("dim", [2, 3, 4, 100])
def test_the_layout_of_the_parameters_changes_no_draw(name: str, dim: int) -> None:
    vectors = _vectors(5, dim)
    drawn = []
    for laid_out in (vectors, vectors.mT.contiguous().mT):
        torch.manual_seed(1)
        drawn.append(MADE_OF[name](laid_out).sample((7,)))
        if name in FAMILIES:
            drawn[-1] = FAMILIES[name](laid_out, 2.0).sample()
    torch.testing.assert_close(drawn[1], drawn[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_subclass_made_of_other_arguments_is_expanded_and_judged_as_what_it_is(name: str) -> None:
    family = FAMILIES[name]

    class Tempered(family):  # type: ignore[valid-type, misc]
        def __init__(self, raw: Tensor, temperature: float) -> None:
            self.temperature = temperature
            super().__init__(normalize(raw), raw.norm(dim=-1) / temperature)

    p = Tempered(torch.tensor([0.0, 0.0, 6.0]), 2.0)
    assert p.expand((4,)).temperature == 2.0
    plain = family(p.mean_direction, p.concentration)
    q = SphericalMixture(VonMisesFisher(torch.eye(3), 1.0))
    assert float(cross_entropy(q, p)) == float(cross_entropy(q, plain))


@pytest.mark.parametrize("name", ["vmf", "ps", "delta"])
def test_validation_and_vmap_go_together(name: str) -> None:
    directions, values = _vectors(5, 3, 4), _vectors(5, 4)

    def density(f: Tensor, z: Tensor) -> Tensor:
        return MADE_OF[name](f).log_prob(z)

    expected = torch.stack([density(f, z) for f, z in zip(directions, values, strict=True)])
    torch.testing.assert_close(torch.vmap(density)(directions, values), expected)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("samples", "weights", "message"),
    [
        (torch.ones(3), None, r"samples must have shape \(n, \*batch, dim\) with n >= 1 and dim >= 2, got \(3,\)"),
        (torch.ones(0, 3), None, r"samples must have .* got \(0, 3\)"),
        (torch.ones(4, 1), None, r"samples must have .* got \(4, 1\)"),
        (torch.ones(3, 3), None, "samples must have unit length .* got a vector of length 1.73205"),
        (torch.full((3, 3), math.nan), None, "samples must have unit length"),
        (torch.eye(3), torch.ones(2), r"weights must have shape \(3,\) or \(3,\), got \(2,\)"),
        (torch.eye(3), -torch.ones(3), "weights must be finite and >= 0 with a positive sum, got a least of -1"),
        (torch.eye(3), torch.zeros(3), "weights must be finite and >= 0 with a positive sum"),
        (torch.eye(3), torch.tensor([1.0, math.inf, 1.0]), "weights must be finite"),
        (torch.eye(3), torch.tensor([1.0, math.nan, 1.0]), "weights must be finite"),
    ],
)
def test_fit_names_the_arguments_that_it_was_given(
    name: str, samples: Tensor, weights: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FAMILIES[name].fit(samples, weights, validate_args=True)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e307])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_scale_of_the_weights_does_not_matter(name: str, scale: float) -> None:
    z = FAMILIES[name](_vectors(4, dtype=torch.float64), 30.0).sample((100,))
    weights = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, scaled = FAMILIES[name].fit(z, weights), FAMILIES[name].fit(z, scale * weights)
    torch.testing.assert_close(scaled.concentration, plain.concentration, rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled.mean_direction, plain.mean_direction, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", FAMILIES)
def test_fit_takes_half_precision(name: str, dtype: torch.dtype) -> None:
    z = FAMILIES[name](_vectors(4), 3.0).sample((100,)).to(dtype)
    fitted, raised = FAMILIES[name].fit(z), FAMILIES[name].fit(normalize(z.float()))
    assert torch.equal(fitted.concentration, raised.concentration)
    assert fitted.concentration.dtype == torch.float32


def test_the_spread_of_a_delta_mixture_is_that_of_its_locations() -> None:
    q = DeltaMixture(_vectors(2, 5, 3, dtype=torch.float64))
    draws = q.enumerate_support()
    torch.testing.assert_close(q.variance, draws.var(0, correction=0))
    expected = torch.stack([torch.cov(draws[:, i].T, correction=0) for i in range(2)])
    torch.testing.assert_close(q.covariance_matrix, expected)
    torch.testing.assert_close(q.stddev, q.variance.sqrt())
    posterior = ProductOfExperts(VonMisesFisher(_vectors(3, 4), 2.0))
    assert torch.equal(posterior.variance, posterior.normalized().variance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert DeltaMixture(_vectors(2, 5, 3)).covariance_matrix.dtype == torch.float32
    assert torch.equal(posterior.covariance_matrix, posterior.normalized().covariance_matrix)
