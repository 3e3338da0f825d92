r"""Eqs. (1)–(12) of arXiv:2203.11437v1 under their numbers, in the form in which they hold, and InfoNCE.

What the paper prints otherwise is in the modules of the derivations, under names that begin with PRINTED.

    >>> from ssl_as_inference.derivations.notation import to_latex
    >>> print(to_latex(EQUATIONS[8]))
    q_\phi(z) = \frac{\sum_{j=1}^{M} \delta\left(z - {f}_{j}\right)}{M}
"""

from __future__ import annotations

from sympy import Eq, Expr, Product, Symbol

from ssl_as_inference.derivations import contrastive, multimodal_vi, simsiam, vi_simsiam
from ssl_as_inference.derivations.dirac_guide import GUIDE
from ssl_as_inference.derivations.multimodal_vi import evidence, expert_posterior, likelihood, posterior, prior, q
from ssl_as_inference.derivations.notation import (
    M,
    canonical,
    concentrations,
    i,
    kappa,
    mu,
    named_function,
    z,
)
from ssl_as_inference.derivations.ssl_loss import BYOL_IS_AFFINE_IN_SSL, SSL_LOSS

VON_MISES_FISHER = named_function("vMF", template=r"\mathrm{{vMF}}({0}; {1}, {2})")
POWER_SPHERICAL = named_function("PS", template=r"\mathrm{{PS}}({0}; {1}, {2})")
_Z = named_function("Z", template=r"Z(\mathbb{{X}})")()


def _equal(left: Expr, right: Expr) -> Expr:
    return Eq(left, right, evaluate=False)


def _loss(name: str) -> Symbol:
    return Symbol(rf"\mathcal{{L}}_{{{name}}}")


EQUATIONS: dict[int, Expr] = {
    1: _equal(_loss("SSL"), SSL_LOSS),
    2: _equal(_loss("KL"), multimodal_vi.KL),
    3: _equal(posterior(z), likelihood(z) * prior(z) / evidence),
    4: _equal(_loss("ELBO"), multimodal_vi.NEGATIVE_ELBO),
    5: _equal(_loss("KL"), multimodal_vi.LOSS),
    6: _equal(expert_posterior(z), Product(VON_MISES_FISHER(z, mu[i], kappa), (i, 1, M)) / _Z),
    7: _equal(VON_MISES_FISHER(z, mu[i], kappa), simsiam.DENSITY),
    8: _equal(q(z), GUIDE),
    9: _equal(simsiam.LOSS.start, simsiam.LOSS.result),
    10: _equal(expert_posterior(z), Product(POWER_SPHERICAL(z, mu[i], concentrations[i]), (i, 1, M)) / _Z),
    11: _equal(POWER_SPHERICAL(z, mu[i], concentrations[i]), vi_simsiam.DENSITY),
    12: _equal(vi_simsiam.CORRECTED_LOSS.start, vi_simsiam.CORRECTED_LOSS.result),
}

NAMED: dict[str, Expr] = {
    "byol": canonical(BYOL_IS_AFFINE_IN_SSL.result - 2 * SSL_LOSS) + 2 * _loss("SSL"),
    "evidence": _equal(
        _loss("KL"),
        _loss("ELBO") + multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE.result - multimodal_vi.NEGATIVE_ELBO,
    ),
    "batch-prior": _equal(prior(z), contrastive.BATCH_PRIOR),
    "info-nce": _equal(contrastive.RECONSTRUCTION, contrastive.VON_MISES_FISHER.result),
}
"""What stands beside the equations, and InfoNCE, which the paper has not."""
