r"""Eqs. (2)–(5): the divergence from the posterior, the negative evidence lower bound, and the paper's loss."""

from __future__ import annotations

from sympy import Expr, Integer, log

from ssl_as_inference.derivations.notation import SphereIntegral, named_function, z
from ssl_as_inference.derivations.step import Derivation, Step, jensen

q = named_function("q", template=r"q_\phi({0})")
posterior = named_function("posterior", template=r"p({0}\mid\mathbb{{X}})")
expert_posterior = named_function("expert_posterior", template=r"p_\psi({0}\mid\mathbb{{X}})")
likelihood = named_function("likelihood", template=r"p_\theta(\mathbb{{X}}\mid {0})")
prior = named_function("prior", template=r"p({0})")
evidence = named_function("evidence", template=r"p_\theta(\mathbb{{X}})")()
_joint = named_function("joint", template=r"p_\theta(\mathbb{{X}}, {0})")


def expectation(integrand: Expr, density: Expr | None = None) -> Expr:
    r"""$\mathbb{E}_{q}[h(z)] = \int q(z)\,h(z)\,dz$."""
    return SphereIntegral((q(z) if density is None else density) * integrand, z)


def _guide_is_normalized(expression: Expr) -> Expr:
    return expression.subs(SphereIntegral(q(z), z), Integer(1))


KL = expectation(log(q(z)) - log(posterior(z)))
"""Eq. (2)."""

NEGATIVE_ELBO = -expectation(log(likelihood(z))) + expectation(log(q(z)) - log(prior(z)))
"""Eq. (4), which the paper calls the ELBO."""

BAYES = Derivation(
    "Eq. (3)",
    "Bayes' theorem from the definition of conditional densities",
    (
        Step(
            "definition of conditional densities",
            log(posterior(z)),
            log(likelihood(z)) + log(prior(z)) - log(evidence),
            given={posterior: lambda z: _joint(z) / evidence, likelihood: lambda z: _joint(z) / prior(z)},
        ),
    ),
)

KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE = Derivation(
    "Eq. (4)",
    "Eq. (3) into Eq. (2): the negative ELBO and the log evidence",
    (
        Step(
            "Bayes' rule, Eq. (3)",
            KL,
            expectation(log(q(z)) - BAYES.result),
            given={posterior: lambda z: likelihood(z) * prior(z) / evidence},
        ),
        Step(
            "linearity of the expectation",
            expectation(log(q(z)) - BAYES.result),
            NEGATIVE_ELBO + log(evidence) * SphereIntegral(q(z), z),
        ),
        Step(
            "the guide is normalised",
            NEGATIVE_ELBO + log(evidence) * SphereIntegral(q(z), z),
            NEGATIVE_ELBO + log(evidence),
            by=_guide_is_normalized,
        ),
    ),
)

LOSS = -expectation(log(expert_posterior(z))) + expectation(log(q(z)))
"""Eq. (5)."""

KL_IS_CROSS_ENTROPY_MINUS_ENTROPY = Derivation(
    "Eq. (5)",
    "the divergence from a parametrised posterior",
    (
        Step(
            "a parametrised posterior in place of the true one",
            KL,
            expectation(log(q(z)) - log(expert_posterior(z))),
            given={posterior: expert_posterior},
        ),
        Step("linearity of the expectation", expectation(log(q(z)) - log(expert_posterior(z))), LOSS),
    ),
)

_log_ratio = log(expert_posterior(z) / q(z))
_of_the_mean = -log(SphereIntegral(expert_posterior(z), z))

KL_IS_NOT_NEGATIVE = Derivation(
    "Eq. (5)",
    "the divergence is at least 0 (Gibbs)",
    (
        Step("rules of logarithms", LOSS, expectation(-_log_ratio)),
        Step(
            "Jensen's inequality for −log",
            expectation(-_log_ratio),
            _of_the_mean,
            at_least=jensen(lambda x: -log(x), q(z), expert_posterior(z) / q(z), z),
        ),
        Step(
            "the posterior is normalised",
            _of_the_mean,
            Integer(0),
            by=lambda e: e.subs(SphereIntegral(expert_posterior(z), z), Integer(1)),
        ),
    ),
)

COLLAPSE_IS_OPTIMAL = Derivation(
    "Eq. (5)",
    "the loss takes its least value, 0, wherever guide and posterior agree, whether or not they depend on the views",
    (
        Step(
            "the guide equals the posterior",
            LOSS,
            Integer(0),
            given={expert_posterior: q},
        ),
    ),
)
