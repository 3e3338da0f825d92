r"""Eqs. (6) and (10): the product of experts, which is a density only up to its normaliser $Z(\mathbb{X})$."""

from __future__ import annotations

from sympy import (
    Derivative,
    Expr,
    Integer,
    Integral,
    Product,
    Rational,
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
from ssl_as_inference.derivations.normalizers import (
    mean_resultant_length,
    power_spherical_log_normalizer,
    von_mises_fisher_log_normalizer,
)
from ssl_as_inference.derivations.notation import (
    Inner,
    LogNormalizer,
    M,
    SphereIntegral,
    canonical,
    concentrations,
    differentiate,
    i,
    kappa,
    mu,
    named_function,
    sift,
    z,
)
from ssl_as_inference.derivations.step import VIEWS, Derivation, Step

R = Symbol("R", positive=True)
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
_log_normalizers = Sum(LogNormalizer(concentrations[i]), (i, 1, M))
_log_product = Sum(LogNormalizer(concentrations[i]) + concentrations[i] * Inner(mu[i], z), (i, 1, M))


def _definition_of_the_normalizer(expression: Expr) -> Expr:
    r"""$\int\exp(\eta^\top z)\,dz = 1/C(R)$ with $R = \lVert\eta\rVert$: that is what C is."""

    def apply(integrand: Expr, variable: Expr) -> Expr:
        exponent = log(integrand)
        for views in (M, *VIEWS):
            if canonical(exponent - canonical(Inner(_eta, variable)).subs(M, views).doit()) == 0:
                return exp(-LogNormalizer(R))
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

# Moment matching (C16), in space, where A(R) = coth R − 1/R.
_components = [Symbol(f"eta_{k}", positive=True) for k in (1, 2, 3)]
_mean = [Symbol(rf"\bar{{f}}_{k}", real=True) for k in (1, 2, 3)]
_length = sqrt(sum((x**2 for x in _components), start=Integer(0)))
_log_c = expand_func(von_mises_fisher_log_normalizer(3, R)).rewrite(exp)
_resultant = simplify(expand_func(mean_resultant_length(Rational(1, 2), R)).rewrite(exp))
_exact = -_log_c.subs(R, _length) - sum((x * y for x, y in zip(_components, _mean, strict=True)), start=Integer(0))

MOMENT_MATCHING = tuple(
    Derivation(
        "Eq. (6)",
        f"the gradient of the normalised loss is A(R)η/R − f̄, component {k + 1} in space",
        (
            Step(
                "chain rule",
                Derivative(_exact, component),
                _resultant.subs(R, _length) * component / _length - _mean[k],
                by=differentiate,
            ),
        ),
    )
    for k, component in enumerate(_components)
)

_theta = Symbol("theta", positive=True)
_two_views = -_log_c.subs(R, 2 * kappa * cos(_theta)) - 2 * kappa * cos(_theta)

ATTENUATION = Derivation(
    "Eq. (6)",
    "for two views at angles ±θ from the target the normaliser weakens the pull by 1 − A(R), R = 2κ cos θ, in space",
    (
        Step(
            "chain rule",
            Derivative(_two_views, _theta),
            2 * kappa * sin(_theta) * (1 - _resultant.subs(R, 2 * kappa * cos(_theta))),
            by=differentiate,
        ),
    ),
)

# Symmetry (C17): the experts as likelihoods of the embeddings.
embedding_likelihood = named_function("embedding_likelihood", template=r"p(\mu_{{{0}}}\mid z)")
_log_q = named_function("log_q", template=r"\log q({0})")
_paper = -SphereIntegral(GUIDE * LOG_EXPERTS, z)
_entropy = SphereIntegral(GUIDE * _log_q(z), z)
_negative_elbo = -SphereIntegral(GUIDE * Sum(log(embedding_likelihood(i)), (i, 1, M)), z) + SphereIntegral(
    GUIDE * (_log_q(z) - LogNormalizer(0)), z
)

SYMMETRY = Derivation(
    "Eqs. (4), (6)",
    "the unnormalised loss is the negative ELBO of the embeddings, since the densities are symmetric in z and μ",
    (
        Step(
            "symmetry of the density in z and μ",
            _paper + _entropy - LogNormalizer(0),
            -SphereIntegral(GUIDE * Sum(log(embedding_likelihood(i)), (i, 1, M)), z) + _entropy - LogNormalizer(0),
            given={embedding_likelihood: expert},
        ),
        Step(
            "the prior is uniform and the guide normalised",
            -SphereIntegral(GUIDE * Sum(log(embedding_likelihood(i)), (i, 1, M)), z) + _entropy - LogNormalizer(0),
            _negative_elbo,
            by=sift,
        ),
    ),
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
    )
    for first, second in ((1, 1), (1, 2), (2, 2), (2, 3))
)
