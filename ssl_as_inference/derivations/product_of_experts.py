r"""Eqs. (6) and (10): the product of experts, which is a density only up to its normaliser $Z(\mathbb{X})$."""

from __future__ import annotations

from collections.abc import Callable

from sympy import (
    Derivative,
    Expr,
    Integer,
    Integral,
    Product,
    Subs,
    Sum,
    Symbol,
    cos,
    exp,
    expand_func,
    legendre,
    log,
    pi,
    simplify,
    sin,
    sqrt,
)

from ssl_as_inference.derivations.dirac_guide import GUIDE
from ssl_as_inference.derivations.multimodal_vi import evidence, likelihood, posterior, prior
from ssl_as_inference.derivations.normalizers import power_spherical_log_normalizer
from ssl_as_inference.derivations.notation import (
    Inner,
    LogNormalizer,
    M,
    MeanResultantLength,
    SphereIntegral,
    canonical,
    concentrations,
    differentiate,
    i,
    j,
    kappa,
    mu,
    named_function,
    sift,
    z,
)
from ssl_as_inference.derivations.step import VIEWS, Derivation, Step

expert = named_function("expert", template=r"p(z\mid x_{{{0}}})")
view_likelihood = named_function("view_likelihood", template=r"p(x_{{{0}}}\mid z)")
view_evidence = named_function("view_evidence", template=r"p(x_{{{0}}})")

LOG_EXPERTS = Sum(log(expert(i)), (i, 1, M))
LOG_Z = log(evidence) + (M - 1) * LogNormalizer(0) - Sum(log(view_evidence(i)), (i, 1, M))
r"""$\log Z(\mathbb{X})$, the same for every z."""

_likelihoods = Sum(log(view_likelihood(i)), (i, 1, M))
_by_view = Sum(log(expert(i)) + log(view_evidence(i)) - log(prior(z)), (i, 1, M))

PRODUCT_OF_EXPERTS = Derivation(
    "Eqs. (6), (10)",
    "conditionally independent views and a uniform prior give a product of experts, divided by Z",
    (
        Step(
            "Bayes' rule, Eq. (3)",
            log(posterior(z)),
            log(likelihood(z)) + log(prior(z)) - log(evidence),
            given={posterior: lambda z: likelihood(z) * prior(z) / evidence},
        ),
        Step(
            "conditional independence of the views",
            log(likelihood(z)) + log(prior(z)) - log(evidence),
            _likelihoods + log(prior(z)) - log(evidence),
            given={likelihood: lambda z: Product(view_likelihood(i), (i, 1, M))},  # noqa: ARG005  # z stands in each
        ),
        Step(
            "Bayes' rule for each view",
            _likelihoods + log(prior(z)) - log(evidence),
            _by_view + log(prior(z)) - log(evidence),
            given={view_likelihood: lambda i: expert(i) * view_evidence(i) / prior(z)},
        ),
        Step(
            "the prior is uniform",
            _by_view + log(prior(z)) - log(evidence),
            LOG_EXPERTS - LOG_Z,
            given={prior: lambda z: exp(LogNormalizer(0))},  # noqa: ARG005  # the same everywhere
        ),
    ),
)

_eta = Sum(concentrations[i] * mu[i], (i, 1, M))
R = sqrt(Sum(concentrations[i] * concentrations[j] * Inner(mu[i], mu[j]), (i, 1, M), (j, 1, M)))
r"""$\lVert\eta\rVert$ of $\eta = \sum_i\kappa_i\mu_i$."""
_log_normalizers = Sum(LogNormalizer(concentrations[i]), (i, 1, M))
_log_product = Sum(LogNormalizer(concentrations[i]) + concentrations[i] * Inner(mu[i], z), (i, 1, M))


def _definition_of_the_normalizer(expression: Expr) -> Expr:
    r"""$\int\exp(\eta^\top z)\,dz = 1/C(R)$ with $R = \lVert\eta\rVert$: that is what C is."""

    def apply(integrand: Expr, variable: Expr) -> Expr:
        exponent = log(integrand)
        for views in (M, *VIEWS):
            if canonical(exponent - canonical(Inner(_eta, variable)).subs(M, views).doit()) == 0:
                return exp(-LogNormalizer(R.subs(M, views).doit()))
        return SphereIntegral(integrand, variable)

    return expression.replace(SphereIntegral, apply)


VON_MISES_FISHER_LOG_Z = Derivation(
    "Eq. (6)",
    "the normaliser of a product of von Mises–Fisher experts",
    (
        Step(
            "the exponents add up to a linear function of z",
            log(SphereIntegral(exp(_log_product), z)),
            _log_normalizers + log(SphereIntegral(exp(Inner(_eta, z)), z)),
        ),
        Step(
            "normaliser of an exponential family",
            _log_normalizers + log(SphereIntegral(exp(Inner(_eta, z)), z)),
            _log_normalizers - LogNormalizer(R),
            by=_definition_of_the_normalizer,
        ),
    ),
)

LOG_EVIDENCE_OF_THE_CONJUGATE_MODEL = Derivation(
    "Eqs. (2)–(4)",
    "log p(X) of M directions drawn from vMF(z, κ), z uniform",
    (
        Step(
            "the prior is uniform",
            log(SphereIntegral(exp(LogNormalizer(0) + _log_product), z)),
            LogNormalizer(0) + log(SphereIntegral(exp(_log_product), z)),
        ),
        Step(
            "normaliser of the product",
            LogNormalizer(0) + log(SphereIntegral(exp(_log_product), z)),
            LogNormalizer(0) + VON_MISES_FISHER_LOG_Z.result,
            by=_definition_of_the_normalizer,
        ),
    ),
)

# Moment matching (C16): the slope along any v, in any dimension; A is opaque but for being minus the slope of log C.
_sum, _target, _direction = Symbol("eta"), Symbol(r"\bar{f}"), Symbol("v")
_step = Symbol("t", real=True)
_moved = _sum + _step * _direction
_exact = -LogNormalizer(sqrt(Inner(_moved, _moved))) - Inner(_moved, _target)
_length = sqrt(Inner(_sum, _sum))


def _slope_at_zero(expression: Expr) -> Expr:
    """Carry out the derivatives at a point, with inner products expanded before."""
    return expression.replace(
        Subs,
        lambda inner, variables, point: differentiate(inner.func(canonical(inner.expr), *inner.variables)).subs(
            dict(zip(variables, point, strict=True))
        ),
    )


MOMENT_MATCHING = Derivation(
    "Eq. (6)",
    "the gradient of the normalised loss is A(R)η/R − f̄: its slope along any vector v",
    (
        Step(
            "chain rule",
            Subs(Derivative(_exact, _step), _step, 0),
            MeanResultantLength(_length) * Inner(_sum, _direction) / _length - Inner(_direction, _target),
            by=_slope_at_zero,
        ),
    ),
)

_theta = Symbol("theta", positive=True)
_resultant = 2 * kappa * cos(_theta)

ATTENUATION = Derivation(
    "Eq. (6)",
    "for two views at angles ±θ from the target the normaliser weakens the pull by 1 − A(R), R = 2κ cos θ",
    (
        Step(
            "chain rule",
            Derivative(-LogNormalizer(_resultant) - _resultant, _theta),
            2 * kappa * sin(_theta) * (1 - MeanResultantLength(_resultant)),
            by=differentiate,
        ),
    ),
)

# Symmetry (C17): the experts as likelihoods of the embeddings.
_log_q = named_function("log_q", template=r"\log q({0})")


def _symmetry(name: str, log_height: Callable[[Expr, Expr], Expr]) -> Derivation:
    r"""That $L_{paper} + E_q\log q - \log C(0)$ is Eq. (4) with the embeddings $\mu_i$ as observations.

    Args:
        name: The family, as LaTeX prints it.
        log_height: κ and a cosine to what stands beside log C in the logarithm of the density.
    """
    density = named_function(name, template=rf"\mathrm{{{{{name}}}}}({{0}}; {{1}}, {{2}})")
    definition = {density: lambda x, mean, k: exp(LogNormalizer(k) + log_height(k, Inner(mean, x)))}
    entropy = SphereIntegral(GUIDE * _log_q(z), z)

    def loss(expert_density: Expr) -> Expr:
        return -SphereIntegral(GUIDE * Sum(log(expert_density), (i, 1, M)), z) + entropy - LogNormalizer(0)

    by_embedding = Product(density(mu[i], z, concentrations[i]), (i, 1, M))
    elbo = -SphereIntegral(GUIDE * log(likelihood(z)), z) + SphereIntegral(GUIDE * (_log_q(z) - log(prior(z))), z)
    return Derivation(
        "Eqs. (4), (6)",
        f"the unnormalised loss of {name} experts is the negative ELBO of the embeddings",
        (
            Step(
                "symmetry of the density in its argument and its mean direction",
                loss(density(z, mu[i], concentrations[i])),
                loss(density(mu[i], z, concentrations[i])),
                given=definition,
            ),
            Step(
                "embeddings drawn independently about z, a uniform prior, a normalised guide",
                loss(density(mu[i], z, concentrations[i])),
                elbo,
                given={likelihood: lambda _: by_embedding, prior: lambda _: exp(LogNormalizer(0))},
                by=sift,
            ),
        ),
    )


SYMMETRY = (
    _symmetry("vMF", lambda k, cosine: k * cosine),
    _symmetry("PS", lambda k, cosine: k * log(1 + cosine)),
)

# The normaliser of two Power Spherical experts in space (C25), for integer concentrations.
_t, _phi, _cosine = Symbol("t", real=True), Symbol("varphi", real=True), Symbol("c", real=True)
_sine = sqrt(1 - _cosine**2)
_second_height = _cosine * _t + _sine * sqrt(1 - _t**2) * cos(_phi)


def _pair_integral(first: int, second: int) -> Expr:
    integrand = ((1 + _t) ** first * (1 + _second_height) ** second).expand()
    return Integral(integrand, (_phi, 0, 2 * pi), (_t, -1, 1))


def eigenvalue(degree: int, concentration: Expr, dim: int) -> Expr:
    r"""$\lambda_l(\kappa) = \prod_{m<l}\frac{\kappa-m}{\kappa+d-1+m}$, by which PS smooths harmonics of degree l."""
    value = Integer(1)
    for m in range(degree):
        value *= (concentration - m) / (concentration + dim - 1 + m)
    return value


def _pair_series(first: int, second: int) -> Expr:
    terms = (
        (2 * degree + 1)
        * eigenvalue(degree, Integer(first), 3)
        * eigenvalue(degree, Integer(second), 3)
        * legendre(degree, _cosine)
        for degree in range(min(first, second) + 1)
    )
    return sum(terms, start=Integer(0)) / (4 * pi)


PAIR_NORMALIZER = tuple(
    Derivation(
        "Eq. (10)",
        f"Z of two Power Spherical experts in space with κ = {first} and {second}: the series terminates",
        (
            Step(
                "integration over the sphere",
                exp(power_spherical_log_normalizer(3, Integer(first)))
                * exp(power_spherical_log_normalizer(3, Integer(second)))
                * _pair_integral(first, second),
                _pair_series(first, second),
                by=lambda e: simplify(expand_func(e.doit())),
            ),
        ),
        f"d = 3, κ = {first}, {second}",
    )
    for first, second in ((1, 1), (1, 2), (2, 2), (2, 3))
)
