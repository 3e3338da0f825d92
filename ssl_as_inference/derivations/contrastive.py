r"""InfoNCE (arXiv:1807.03748, Eq. (4)), the loss of SimCLR and MoCo, in the paper's frame.

The model is $p(z)\,p(x_n\mid z)$ for image n, with the likelihood by Bayes' rule from the expert of one view. The guide
is a Dirac measure at the other view's $f_n$. The prior is not uniform but the average of the experts of the batch's N
images. The loss is the reconstruction term of Eq. (4), as the paper's loss is under a uniform prior (C17). What is left
out is the divergence of the guide from the prior.
"""

from __future__ import annotations

from collections.abc import Callable

from sympy import Expr, Indexed, Integer, Sum, exp, log

from ssl_as_inference.derivations.multimodal_vi import prior
from ssl_as_inference.derivations.notation import (
    Dirac,
    Inner,
    LogNormalizer,
    N,
    SphereIntegral,
    concentrations,
    f,
    kappa,
    m,
    mu,
    n,
    named_function,
    sift,
    z,
)
from ssl_as_inference.derivations.step import Derivation, Step

expert = named_function("image_expert", template=r"p_\psi({0}\mid x_{{{1}}})")
image_likelihood = named_function("image_likelihood", template=r"p(x_{{{1}}}\mid {0})")
image_evidence = named_function("image_evidence", template=r"p(x_{{{0}}})")

_images = (n, 1, N)
BATCH_PRIOR = Sum(expert(z, m), (m, 1, N)) / N
r"""$\bar p(z)$, which estimates the prior $\mathrm{E}_x\,p_\psi(z\mid x)$ that makes Bayes' rule consistent."""


def _expected(log_density: Expr) -> Expr:
    r"""$-\sum_n\mathbb{E}_{\delta(z-f_n)}$ of it."""
    return -Sum(SphereIntegral(Dirac(z, f[n]) * log_density, z), _images)


RECONSTRUCTION = _expected(log(image_likelihood(z, n)) - log(image_evidence(n)))
"""The reconstruction term of Eq. (4), less the log evidence of each image, which does not depend on z."""

_against_the_prior = _expected(log(expert(z, n)) - log(prior(z)))
_against_the_batch = _expected(log(expert(z, n)) - log(BATCH_PRIOR))


def info_nce(height: Callable[[Expr, Expr], Expr]) -> Expr:
    r"""$-\sum_n\log\frac{e^{h(n, f_n)}}{\sum_me^{h(m, f_n)}}$: which of the images does each atom belong to?"""
    return -Sum(log(exp(height(n, f[n])) / Sum(exp(height(m, f[n])), (m, 1, N))), _images)


def _derive(family: str, log_density: Callable[[Expr, Expr], Expr], height: Callable[[Expr, Expr], Expr]) -> Derivation:
    """That the loss is `info_nce` of heights, less N log N.

    Args:
        family: The experts, in words.
        log_density: Image and vector to the logarithm of its expert's density there.
        height: The same without what cancels.
    """
    inserted = _expected(log_density(n, z) - log(Sum(exp(log_density(m, z)), (m, 1, N)) / N))
    return Derivation(
        "InfoNCE",
        f"the reconstruction term under the batch's prior, {family}",
        (
            Step(
                "Bayes' rule for each image",
                RECONSTRUCTION,
                _against_the_prior,
                given={image_likelihood: lambda z, n: expert(z, n) * image_evidence(n) / prior(z)},
            ),
            Step(
                "the prior is the average of the batch's experts",
                _against_the_prior,
                _against_the_batch,
                given={prior: lambda _: BATCH_PRIOR},
            ),
            Step(
                "density of the experts",
                _against_the_batch,
                inserted,
                given={expert: lambda z, n: exp(log_density(n, z))},
            ),
            Step("sifting of the Dirac measure", inserted, info_nce(height) - N * log(N), by=sift),
        ),
    )


VON_MISES_FISHER = _derive(
    "von Mises–Fisher experts of one κ, whose normalisers cancel",
    lambda index, x: LogNormalizer(kappa) + kappa * Inner(mu[index], x),
    lambda index, x: kappa * Inner(mu[index], x),
)
"""InfoNCE at temperature 1/κ, less log N an image."""


def _power(index: Expr, x: Expr) -> Expr:
    k = concentrations[index]
    return LogNormalizer(k) + k * log(1 + Inner(mu[index], x))


POWER_SPHERICAL = _derive("Power Spherical experts of predicted κ, whose normalisers stay", _power, _power)

COLLAPSE_IS_NO_OPTIMUM = Derivation(
    "InfoNCE",
    "a collapsed encoder has loss 0, which is N log N above the bound that InfoNCE ≥ 0 sets",
    (
        Step(
            "all directions and all atoms are the same",
            VON_MISES_FISHER.result,
            Integer(0),
            by=lambda e: e.replace(Indexed, lambda base, _: base[1]),
        ),
    ),
)

THE_DIVERGENCE_HAS_NO_NEGATIVES = Derivation(
    "InfoNCE",
    "with the prior's own term of Eq. (4), which InfoNCE leaves out, the prior and with it the negatives cancel",
    (
        Step(
            "Bayes' rule for each image",
            RECONSTRUCTION + _expected(log(prior(z))),
            _expected(log(expert(z, n))),
            given={image_likelihood: lambda z, n: expert(z, n) * image_evidence(n) / prior(z)},
        ),
    ),
)
