"""`torch.func` goes through every function, validating: forward mode as reverse mode, `vmap` as a loop."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.distributions import kl_divergence
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from ssl_as_inference import special
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.distributions import (
    DeltaMixture,
    PowerSpherical,
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
    monte_carlo_log_normalizer,
)
from ssl_as_inference.sphere import half_gap_and_height, half_squared_chord, normalize

Case = tuple[Callable[..., Tensor], tuple[Tensor, ...]]
FAMILIES: dict[str, Any] = {"vMF": VonMisesFisher, "PS": PowerSpherical}
DIMS = [2, 3, 128]


def _vectors(dim: int, *shape: int) -> Tensor:
    return torch.randn((*shape, dim), dtype=torch.float64, generator=torch.Generator().manual_seed(dim + sum(shape)))


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=generator)


def _of_family(name: str, dim: int) -> dict[str, Case]:
    family = FAMILIES[name]
    z, mu, kappa = _vectors(dim, 3), _vectors(dim, 3) + 1, _uniform(dim / 2, 3 * dim / 2, 3)
    views, concentrations = _vectors(dim, 3, 2), _uniform(dim / 2, 3 * dim / 2, 3, 2)
    cosine, p = torch.tensor([-0.4, 0.1, 0.3], dtype=torch.float64), torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    uniform = SphericalUniform(dim, dtype=torch.float64)

    def law(mu: Tensor, kappa: Tensor) -> Any:  # vectors may be changed in every direction
        return family(normalize(mu), kappa)

    def product(mu: Tensor, kappa: Tensor) -> ProductOfExperts:
        return ProductOfExperts(law(mu, kappa))

    def mixture(mu: Tensor, kappa: Tensor) -> SphericalMixture:
        return SphericalMixture(law(mu, kappa))

    cases: dict[str, Case] = {
        "log_prob": (lambda z, m, k: law(m, k).log_prob(normalize(z)), (z, mu, kappa)),
        "entropy": (lambda k: law(mu, k).entropy(), (kappa,)),
        "mean": (lambda m, k: law(m, k).mean, (mu, kappa)),
        "variance": (lambda m, k: law(m, k).variance, (mu, kappa)),
        "cosine_cdf": (lambda t, k: law(mu, k).cosine_cdf(t), (cosine, kappa)),
        "cosine_icdf": (lambda p, k: law(mu, k).cosine_icdf(p), (p, kappa)),
        "KL to uniform": (lambda k: kl_divergence(law(mu, k), uniform), (kappa,)),
        "KL from uniform": (lambda k: kl_divergence(uniform, law(mu, k)), (kappa,)),
        "product log_prob": (lambda z, m, k: product(m, k).log_prob(normalize(z)), (z, views, concentrations)),
        "product log_normalizer": (lambda m, k: product(m, k).log_normalizer(), (views, concentrations)),
        "mixture log_prob": (lambda z, m, k: mixture(m, k).log_prob(normalize(z)), (z, views, concentrations)),
        "mixture bounds": (lambda k: torch.stack(mixture(views, k).entropy_bounds()), (concentrations,)),
        "cross-entropy of delta": (
            lambda f, m, k: cross_entropy(DeltaMixture(normalize(f)), law(m, k)),
            (views, mu, kappa),
        ),
        "cross-entropy of mixture": (
            lambda f, t, m, k: cross_entropy(mixture(f, t), law(m, k)),
            (views, concentrations, mu, kappa),
        ),
    }
    if name == "vMF":
        cases["posterior entropy"] = (lambda m, k: product(m, k).entropy(), (views, concentrations))
    for other, expert in FAMILIES.items():

        def divergence(f: Tensor, t: Tensor, m: Tensor, k: Tensor, expert: Any = expert) -> Tensor:
            return kl_divergence(law(f, t), expert(normalize(m), k))

        cases[f"KL to {other}"] = (divergence, (z, kappa / 2, mu, kappa))
        cases[f"KL to {other} nearby"] = (divergence, (mu + 0.01 * z, 1.01 * kappa, mu, kappa))
    return {f"{name} {case}": value for case, value in cases.items()}


OF_CONCENTRATION = {
    "lgamma_difference": lambda dim, k: special.lgamma_difference(k, dim / 2),
    "polygamma_difference": lambda dim, k: special.polygamma_difference(1, k, dim / 2),
    "power_spherical_entropy": special.power_spherical_entropy,
    "power_spherical_kl_to_uniform": special.power_spherical_kl_to_uniform,
    "power_spherical_log_normalizer": special.power_spherical_log_normalizer,
    "power_spherical_log_normalizer_plus_peak": special.power_spherical_log_normalizer_plus_peak,
    "power_spherical_mean_log_height": special.power_spherical_mean_log_height,
    "power_spherical_mean_resultant_length": special.power_spherical_mean_resultant_length,
    "von_mises_fisher_entropy": special.von_mises_fisher_entropy,
    "von_mises_fisher_kl_to_uniform": special.von_mises_fisher_kl_to_uniform,
    "von_mises_fisher_log_normalizer": special.von_mises_fisher_log_normalizer,
    "von_mises_fisher_log_normalizer_of_square": special.von_mises_fisher_log_normalizer_of_square,
    "von_mises_fisher_log_normalizer_plus_concentration": special.von_mises_fisher_log_normalizer_plus_concentration,
    "von_mises_fisher_mean_resultant_complement": special.von_mises_fisher_mean_resultant_complement,
    "von_mises_fisher_mean_resultant_length": special.von_mises_fisher_mean_resultant_length,
    "von_mises_fisher_resultant_slope": special.von_mises_fisher_resultant_slope,
    "von_mises_fisher_tangent_variance": special.von_mises_fisher_tangent_variance,
}


def _special(dim: int) -> dict[str, Case]:
    kappa, tau, e = _uniform(dim / 2, 3 * dim / 2, 3), _uniform(dim / 6, dim / 3, 3), _uniform(0.1, 0.8, 3)
    gap, odds = torch.tensor([0.2, 0.9, 1.4]).double(), torch.tensor([-1.0, 0.1, 2.0]).double()
    x, y = normalize(_vectors(dim, 3)), normalize(_vectors(dim, 3) + 1)
    return {
        **{name: (functools.partial(function, dim), (kappa,)) for name, function in OF_CONCENTRATION.items()},
        "power_spherical_log_height_deficit": (
            lambda k, e: special.power_spherical_log_height_deficit(dim, k, e, 1 - e),
            (kappa, e),
        ),
        "power_spherical_cross_log_height": (
            lambda k, e: special.power_spherical_cross_log_height(dim, k, e, 1 - e),
            (kappa, e),
        ),
        "von_mises_fisher_cross_log_height": (
            lambda k, e: special.von_mises_fisher_cross_log_height(dim, k, e, 1 - e),
            (kappa, e),
        ),
        "power_spherical_pair_log_normalizer": (
            lambda k, t, e: special.power_spherical_pair_log_normalizer(dim, k, t, e, 1 - e),
            (kappa, tau, e),
        ),
        "von_mises_fisher_concentration": (lambda r: special.von_mises_fisher_concentration(dim, r), (e,)),
        "von_mises_fisher_peak_difference": (
            lambda k, t: special.von_mises_fisher_peak_difference(dim, k, t),
            (kappa, tau),
        ),
        "von_mises_fisher_gap_derivative": (
            lambda k, w: special.von_mises_fisher_gap_derivative(dim, k, w),
            (kappa, gap),
        ),
        "von_mises_fisher_gap_quantile": (
            lambda k, odds: special.von_mises_fisher_gap_quantile(dim, k, odds),
            (kappa, odds),
        ),
        "von_mises_fisher_log_gap_tail": (
            lambda k, w: special.von_mises_fisher_log_gap_tail(dim, k, w, upper=True),
            (kappa, gap),
        ),
        "normalize": (normalize, (_vectors(dim, 3),)),
        "half_squared_chord": (half_squared_chord, (x, y)),
        "half_gap_and_height": (lambda x, y: torch.stack(half_gap_and_height(x, y)), (x, y)),
    }


def _cases(dim: int) -> dict[str, Case]:
    return {**_of_family("vMF", dim), **_of_family("PS", dim), **_special(dim)}


def _draws(name: str, dim: int) -> Case:
    """A draw under one seed."""

    def draw(mu: Tensor, kappa: Tensor) -> Tensor:
        torch.manual_seed(0)
        drawn: Tensor = FAMILIES[name](normalize(mu), kappa).rsample()
        return drawn

    return draw, (_vectors(dim, 3), _uniform(dim / 2, 3 * dim / 2, 3))


EVERY = pytest.mark.parametrize("name", list(_cases(3)))
EVERYWHERE = pytest.mark.parametrize("dim", DIMS, ids="d{}".format)


def _dot(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(some, others, strict=True)]).sum()


def _as_number(function: Callable[..., Tensor], point: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    weights = torch.randn_like(function(*point))
    return lambda *arguments: (weights * function(*arguments)).sum()


def _reverse_mode(
    number: Callable[..., Tensor], point: tuple[Tensor, ...], first: Any, second: Any
) -> tuple[Tensor, Tensor]:
    """Derivative along `first`, and its derivative along `second`, both by `torch.autograd.grad`."""
    leaves = tuple(tensor.clone().requires_grad_() for tensor in point)
    slope = _dot(torch.autograd.grad(number(*leaves), leaves, create_graph=True), first)
    bend = torch.autograd.grad(slope, leaves, allow_unused=True)
    return slope.detach(), _dot(tuple(torch.zeros(()) if b is None else b for b in bend), second)


def _check_all_orders(case: Case) -> tuple[Callable[..., Tensor], Callable[..., Tensor], Any, Any]:
    """First derivatives, and second ones in every order of the modes, agree with reverse mode."""
    function, point = case
    number = _as_number(function, point)
    first, second = (tuple(torch.randn_like(tensor) for tensor in point) for _ in range(2))
    every = tuple(range(len(point)))
    slope, bend = _reverse_mode(number, point, first, second)

    def forward(*arguments: Tensor) -> Tensor:
        derivative: Tensor = jvp(number, arguments, first)[1]
        return derivative

    def reverse(*arguments: Tensor) -> Tensor:
        return _dot(grad(number, argnums=every)(*arguments), first)

    close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
    close(forward(*point), slope)
    close(jvp(reverse, point, second)[1], bend)
    close(_dot(grad(forward, argnums=every)(*point), second), bend)
    close(jvp(forward, point, second)[1], bend)
    return number, forward, first, second


@EVERYWHERE
@EVERY
def test_forward_mode_is_reverse_mode_is_the_difference_quotient(name: str, dim: int) -> None:
    case = _cases(dim)[name]
    number, forward, first, second = _check_all_orders(case)

    def quotient(function: Callable[..., Tensor], direction: tuple[Tensor, ...], step: float) -> Tensor:
        ends = [function(*(x + sign * step * v for x, v in zip(case[1], direction, strict=True))) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    torch.testing.assert_close(forward(*case[1]), quotient(number, first, 1e-5), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(jvp(forward, case[1], second)[1], quotient(forward, second, 1e-4), rtol=2e-5, atol=2e-5)


@EVERYWHERE
@pytest.mark.parametrize("name", FAMILIES)
def test_forward_mode_of_a_draw_is_reverse_mode(name: str, dim: int) -> None:
    _check_all_orders(_draws(name, dim))


@EVERYWHERE
@pytest.mark.parametrize("name", FAMILIES)
def test_a_draw_moves_as_its_quantile_does(name: str, dim: int) -> None:
    direction, kappa = normalize(_vectors(dim)), torch.tensor(1.3 * dim, dtype=torch.float64)

    def cosine(kappa: Tensor) -> Tensor:
        torch.manual_seed(0)
        drawn: Tensor = (FAMILIES[name](direction, kappa).rsample() * direction).sum()
        return drawn

    probability = FAMILIES[name](direction, kappa).cosine_cdf(cosine(kappa))

    def quantile(kappa: Tensor) -> Tensor:
        value: Tensor = FAMILIES[name](direction, kappa).cosine_icdf(probability)
        return value

    one = torch.ones_like(kappa)
    slope, expected = (jvp(function, (kappa,), (one,))[1] for function in (cosine, quantile))
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=0)
    bend, expected = (jvp(grad(function), (kappa,), (one,))[1] for function in (cosine, quantile))
    torch.testing.assert_close(bend, expected, rtol=1e-6, atol=0)


def _log_normalizer(family: str, dim: int, kappa: Any) -> Any:
    if family == "vMF":
        nu = mpmath.mpf(dim) / 2 - 1
        return (
            nu * mpmath.log(kappa)
            - mpmath.mpf(dim) / 2 * mpmath.log(2 * mpmath.pi)
            - mpmath.log(mpmath.besseli(nu, kappa))
        )
    b = mpmath.mpf(dim - 1) / 2
    a = kappa + b
    return mpmath.loggamma(a + b) - mpmath.loggamma(a) - (a + b) * mpmath.log(2) - b * mpmath.log(mpmath.pi)


@pytest.mark.parametrize("kappa", [0.3, 7.0, 200.0])
@EVERYWHERE
@pytest.mark.parametrize("family", FAMILIES)
def test_jacobian_and_hessian_are_those_of_the_formula_in_fifty_digits(family: str, dim: int, kappa: float) -> None:
    """Of log p at cosine 0.4 and of the entropy, −log C + κ (log C)′."""
    e1 = torch.eye(dim)[0].double()
    z = 0.4 * e1 + math.sqrt(1 - 0.4**2) * torch.eye(dim)[1].double()
    with mpmath.workdps(50):
        height = mpmath.mpf("0.4") if family == "vMF" else mpmath.log(mpmath.mpf("1.4"))
        c = [mpmath.diff(lambda k: _log_normalizer(family, dim, k), kappa, order) for order in range(4)]
        exact = {
            "log_prob": (c[1] + height, c[2]),
            "entropy": (kappa * c[2], c[2] + kappa * c[3]),
        }
    at = torch.tensor(kappa, dtype=torch.float64)
    for name, function in (
        ("log_prob", lambda k: FAMILIES[family](e1, k).log_prob(z)),
        ("entropy", lambda k: FAMILIES[family](e1, k).entropy()),
    ):
        for derivative, value in zip((jacfwd(function)(at), hessian(function)(at)), exact[name], strict=True):
            assert float(derivative) == pytest.approx(float(value), rel=1e-10), name


@pytest.mark.parametrize("family", FAMILIES)
def test_jacobian_and_hessian_in_vectors_are_those_of_torch_operations(family: str) -> None:
    z, mu, kappa = _vectors(3), _vectors(3) + 1, torch.tensor(4.0).double()

    def ours(z: Tensor, mu: Tensor) -> Tensor:
        log_density: Tensor = FAMILIES[family](normalize(mu), kappa).log_prob(normalize(z))
        return log_density

    def theirs(z: Tensor, mu: Tensor) -> Tensor:
        cosine = (z / z.norm() * mu / mu.norm()).sum()
        height: Tensor = cosine if family == "vMF" else cosine.log1p()
        return kappa * height

    for transformed in (jacfwd, hessian):
        mine, reference = (transformed(function, argnums=(0, 1))(z, mu) for function in (ours, theirs))
        torch.testing.assert_close(mine, reference)


@EVERYWHERE
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", ["κ = 0", "z = μ", "z = −μ"])
def test_modes_agree_at_the_ends(family: str, dim: int, place: str) -> None:
    cases, sign = _of_family(family, dim), -1 if place == "z = −μ" else 1
    mu = normalize(_vectors(dim, 3))
    kappa = torch.zeros(3).double() if place == "κ = 0" else _uniform(1, 3, 3)
    z = _vectors(dim, 3) if place == "κ = 0" else sign * mu
    if not (family == "PS" and place == "z = −μ"):  # a pole, beside which the slopes are held and no Hessian exists
        _check_all_orders((cases[f"{family} log_prob"][0], (z, mu, kappa)))
    _check_all_orders((cases[f"{family} entropy"][0], (kappa,)))
    for other in FAMILIES:
        _check_all_orders((cases[f"{family} KL to {other}"][0], (z, kappa, mu, kappa)))


@EVERYWHERE
@EVERY
def test_vmap_is_a_loop(name: str, dim: int) -> None:
    function, point = _cases(dim)[name]
    many = tuple(torch.stack([tensor, 0.9 * tensor, tensor.flip(0)]) for tensor in point)
    many = tuple(normalize(t) for t in many) if name.startswith("half") else many
    looped = torch.stack([function(*single) for single in zip(*many, strict=True)])
    torch.testing.assert_close(vmap(function)(*many), looped)
    shared = torch.stack([function(single, *point[1:]) for single in many[0]])
    torch.testing.assert_close(vmap(function, in_dims=(0, *[None] * (len(point) - 1)))(many[0], *point[1:]), shared)


@EVERY
def test_vmap_of_derivatives_is_a_loop_of_them(name: str) -> None:
    function, point = _cases(3)[name]
    number = _as_number(function, point)
    many = tuple(torch.stack([tensor, tensor.flip(0)]) for tensor in point)
    for derivative in (grad(number), jacfwd(number), jacfwd(grad(number)), jacrev(jacfwd(number))):
        looped = torch.stack([derivative(*single) for single in zip(*many, strict=True)])
        torch.testing.assert_close(vmap(derivative)(*many), looped)
    tangents = tuple(torch.ones_like(tensor) for tensor in many)
    mapped = jvp(vmap(number), many, tangents)[1]
    looped = torch.stack([jvp(number, single, tuple(t[0] for t in tangents))[1] for single in zip(*many, strict=True)])
    torch.testing.assert_close(mapped, looped)


@pytest.mark.parametrize(
    ("family", "call"),
    [
        pytest.param(SphericalUniform, lambda z: SphericalUniform(3).log_prob(z), id="uniform"),
        pytest.param(DeltaMixture, lambda z: DeltaMixture(z[None]).log_prob(z), id="delta"),
        pytest.param(DeltaMixture, lambda z: DeltaMixture(z[None]).entropy(), id="entropy of delta"),
    ],
)
def test_vmap_goes_through_the_distributions_without_derivatives(family: Any, call: Callable[[Tensor], Tensor]) -> None:
    z = normalize(torch.randn(4, 3))
    torch.testing.assert_close(vmap(call)(z), torch.stack([call(one) for one in z]), msg=family.__name__)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mean_direction", lambda x: VonMisesFisher(2 * x, 1.0).entropy()),
        ("mean_direction", lambda x: PowerSpherical(2 * x, 1.0).entropy()),
        ("concentration", lambda x: VonMisesFisher(x, -x[0].abs() - 1).entropy()),
        ("concentration", lambda x: PowerSpherical(x, x[0] / 0).entropy()),
        ("locations", lambda x: DeltaMixture(2 * x[None]).mean),
        ("value", lambda x: SphericalUniform(3).log_prob(2 * x)),
        ("value", lambda x: VonMisesFisher(x, 1.0).log_prob(2 * x)),
        ("value", lambda x: ProductOfExperts(PowerSpherical(x[None], 1.0)).log_prob(2 * x)),
    ],
)
def test_under_vmap_validation_names_the_argument(name: str, call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=name):
        vmap(call)(normalize(torch.randn(4, 3)))


@pytest.mark.parametrize("name", FAMILIES)
def test_vmap_draws_points_of_the_sphere(name: str) -> None:
    mu, kappa = normalize(torch.randn(400, 4)), torch.full((400,), 1e4)
    z = vmap(lambda m, k: FAMILIES[name](m, k).rsample(), randomness="different")(mu, kappa)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(400))
    assert (z * mu).sum(-1).min() > 0.995
    assert ((z - mu).norm(dim=-1) > 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_estimate_by_sampling_has_a_tangent(name: str) -> None:
    mu, kappa = normalize(_vectors(3, 2)), _uniform(1, 3, 2)

    def estimate(kappa: Tensor) -> Tensor:
        torch.manual_seed(0)
        value: Tensor = monte_carlo_log_normalizer(ProductOfExperts(FAMILIES[name](mu, kappa)), 50)[0]
        return value

    torch.testing.assert_close(jvp(estimate, (kappa,), (torch.ones_like(kappa),))[1], grad(estimate)(kappa).sum())


@pytest.mark.parametrize("name", ["vMF log_prob", "PS log_prob", "vMF KL to PS", "normalize"])
def test_what_is_kept_for_the_backward_carries_tangents_where_no_graph_is_made(name: str) -> None:
    """`torch.autograd.grad` without create_graph inside forward mode, and `hessian` under `no_grad`."""
    function, point = _cases(3)[name]
    number = _as_number(function, point)
    directions = tuple(torch.randn_like(tensor) for tensor in point)
    expected = jvp(grad(number, argnums=tuple(range(len(point)))), point, directions)[1]
    with forward_ad.dual_level():
        dual = [
            forward_ad.make_dual(tensor.clone().requires_grad_(), direction)
            for tensor, direction in zip(point, directions, strict=True)
        ]
        slopes = torch.autograd.grad(number(*dual), dual)
        tangents = tuple(forward_ad.unpack_dual(slope).tangent for slope in slopes)
    torch.testing.assert_close(tangents, expected)
    with torch.no_grad():
        flat = hessian(number)(*point)
    torch.testing.assert_close(flat, hessian(number)(*point))
