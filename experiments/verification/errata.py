"""The errors and gaps of arXiv:2203.11437v1, each as numbers: what is printed, what is right, what the code does.

An *error* contradicts the paper's own equations: the sign and the 1/M of Eq. (12), the missing normaliser. A *reading*
is a sentence or a sign of equality that holds only in a sense that the paper leaves to its reader.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sympy import Eq, Expr, Integer, log
from torch import nn
from torch.distributions import kl_divergence

from experiments.special_cases.recovery import Network
from experiments.verification.claim import Claim, Outcome, paragraphs
from experiments.verification.claims_inference import ENTROPIES, entropy_by_quadrature
from experiments.verification.lab import FISHER, POWER, Lab, Table, at, cosine_slope
from experiments.verification.witnesses import Array, log_area, log_integral_of_product, log_peak
from inference.fitting.kl_objective import KLObjective
from models.networks import PowerSphericalHead
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.derivations import dirac_guide, multimodal_vi, product_of_experts, simsiam, vi_simsiam
from ssl_as_inference.derivations.notation import M, canonical, sift, z
from ssl_as_inference.distributions import DeltaMixture, SphericalMixture
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Erratum:
    """What is wrong, missing or to be read with care in the paper.

    Attributes:
        kind: An error, or a reading.
        place: Equation, section or algorithm.
        claim: Claim of the ledger that treats it.
        printed: The printed form.
        corrected: The corrected form.
        code: Where the code follows which.
        quantity: What the counterexample computes, with the numbers that go in.
        counterexample: Its value by the paper as printed, by the corrected statement (from quadrature, mpmath or by
            hand), and from the shipped code.
    """

    kind: Literal["error", "reading"]
    place: str
    claim: str
    printed: str
    corrected: str
    code: str
    quantity: str
    counterexample: Callable[[Lab], Triple]

    def check(self, lab: Lab) -> Outcome:
        """Distance of the shipped value from the corrected one; infinite if the printed form is not refuted."""
        printed, corrected, shipped = self.counterexample(lab)
        refuted = abs(printed - corrected) > 1e-2
        detail = f"{self.quantity}: printed {printed:.10g}, corrected {corrected:.10g}, shipped {shipped:.10g}"
        return Outcome(abs(shipped - corrected) if refuted else math.inf, detail)

    def as_claim(self) -> Claim:
        """The claim that the code is as corrected, and that this differs from what is printed."""
        words = "Erratum" if self.kind == "error" else "Reading"
        statement = f"{words}. Printed: {self.printed} Corrected: {self.corrected}"
        return Claim(self.claim, self.place, statement, "numeric", 1e-10, self.check, correction=f"Code: {self.code}")


ERRATA: list[Erratum] = []


def _erratum(
    kind: Literal["error", "reading"], place: str, claim: str, *formulas: Expr
) -> Callable[[Callable[[Lab], Triple]], Erratum]:
    """Make a counterexample an erratum.

    Its docstring is what the erratum says: what is computed, and paragraphs "Printed:", "Corrected:" and "Code:", in
    which {0}, {1}, … stand for the formulas, objects of `ssl_as_inference.derivations`.
    """

    def decorate(counterexample: Callable[[Lab], Triple]) -> Erratum:
        quantity, printed, corrected, code = paragraphs(counterexample, formulas).values()
        made = Erratum(kind, place, claim, printed, corrected, code, quantity.removesuffix("."), counterexample)
        ERRATA.append(made)
        return made

    return decorate


_MU = np.array([[1, 0, 0], [1, 0, 1] / np.sqrt(2)])
_F = np.array([[1, 2, 0] / np.sqrt(5), [1, 0.5, 2] / np.sqrt(5.25)])


@_erratum("error", "Eq. (12), sign", "C12", vi_simsiam.PRINTED_LOSS, vi_simsiam.CORRECTED_LOSS.result)
def _sign(lab: Lab) -> Triple:
    """dL/dc of one pair at κ = 6, c = 0.5.

    Printed: {0}.

    Corrected: {1}; as printed the loss would reward anti-alignment. Algorithm 1 has the right sign.

    Code: `PowerSpherical.log_prob` and `KLObjective` follow the corrected form.
    """
    derived = (vi_simsiam.PRINTED_SLOPE.result, vi_simsiam.CORRECTED_SLOPE.result)
    printed, corrected = (float(at(slope, kappa=6.0, c=0.5)) for slope in derived)
    return printed, corrected, cosine_slope(lab, POWER, 3, 6.0, 0.5)


_BARE_SUM = dirac_guide.PRINTED_EXPECTATION_IS_M_TIMES_TOO_LARGE.start


@_erratum("error", "Eq. (12), factor 1/M", "C7", _BARE_SUM, dirac_guide.EXPECTATION.result)
def _missing_factor(lab: Lab) -> Triple:
    """E_q[1] for M = 2.

    Printed: the expectation under the guide is {0}.

    Corrected: it is {1}, as Eq. (8) says.

    Code: `DeltaMixture` and `KLObjective("all")` carry 1/M, `KLObjective("cross")` carries 1/(M − 1) an expert.
    """
    q = DeltaMixture(lab.tensor(_F))
    printed = canonical(sift(dirac_guide.printed_expectation(Integer(1)))).subs(M, 2)
    return float(printed), float(dirac_guide.NORMALIZATION.result), q.log_prob(q.enumerate_support()).exp().sum().item()


_BARE_PRODUCT = Eq(product_of_experts.PRODUCT_OF_EXPERTS.start, product_of_experts.LOG_EXPERTS)
_PRODUCT = product_of_experts.PRODUCT_OF_EXPERTS.result


@_erratum("error", "Eqs. (6), (10), equality", "C4", _BARE_PRODUCT, _PRODUCT)
def _not_equal(lab: Lab) -> Triple:
    """Integral of the product of two experts at 45°, κ = 5, d = 3.

    Printed: {0}.

    Corrected: it is {1}: less a log Z that depends on the views, also for constant κ.

    Code: `ProductOfExperts.log_prob` is the printed product, `log_normalizer` and `normalized` the corrected form;
    `KLObjective(normalized=True)` includes log Z.
    """
    log_z = lab.product(FISHER, _MU, 5.0).log_normalizer()
    return 1.0, math.exp(log_integral_of_product(_MU, 5.0)), log_z.exp().item()


_SECOND_TERM = multimodal_vi.expectation(log(multimodal_vi.q(z)))


@_erratum("reading", '"the second term in Eq. (5) is constant"', "C8", _SECOND_TERM, *ENTROPIES)
def _second_term(lab: Lab) -> Triple:
    """H(q) of 3 orthogonal atoms less that of 3 equal ones, τ = 100.

    Printed: {0} is constant.

    Corrected: {1} with {2} for components of concentration τ; h diverges as τ → ∞, and I depends on the atoms.

    Code: `KLObjective` leaves it out, which is exact for distinct atoms behind the stop-gradient; `SphericalMixture`
    has it at finite τ.
    """
    eye = np.eye(3)
    mixtures = [SphericalMixture(lab.law(FISHER, atoms, 100.0)) for atoms in (eye, eye[[0, 0, 0]])]
    apart, equal = (entropy_by_quadrature(q, *lab.grid(160)) for q in mixtures)
    return 0.0, math.log(3), apart - equal


_WITH_EVIDENCE = multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE.result


@_erratum("reading", "Eq. (4)", "C2", multimodal_vi.NEGATIVE_ELBO, _WITH_EVIDENCE)
def _evidence(lab: Lab) -> Triple:
    """Eq. (2) less Eq. (4) for two directions drawn about z, κ = 5, d = 3.

    Printed: Eq. (3) into Eq. (2) gives {0}, called the ELBO.

    Corrected: it gives {1}, and Eq. (4) is the negative ELBO. The minimiser in φ is the same, that in θ is not.

    Code: The registered divergences and cross-entropies differ by the log evidence.
    """
    product, q = lab.product(FISHER, _MU, 5.0), lab.law(FISHER, _F[0], 3.0)
    negative_elbo = cross_entropy(q, product) + kl_divergence(q, lab.uniform(3))
    shipped = kl_divergence(q, product.normalized()) - negative_elbo
    return 0.0, log_integral_of_product(_MU, 5.0) - log_area(3), shipped.item()


@_erratum("reading", 'Eq. (9), "∝"', "C9", simsiam.PRINTED_LOSS, simsiam.LOSS.result)
def _not_proportional(lab: Lab) -> Triple:
    """Ratio of the losses of two sets of atoms, κ = 3, d = 3.

    Printed: the loss is proportional to {0}.

    Corrected: it is affine in it, {1}.

    Code: `KLObjective("all")` follows the corrected form.
    """
    tables = [Table(FISHER, _MU, np.full(2, 3.0), f, lab) for f in (_F, _MU)]
    derived = [[float(t.derived(loss)) for t in tables] for loss in (simsiam.PRINTED_LOSS, simsiam.LOSS.result)]
    shipped = [t.loss(KLObjective("all")) for t in tables]
    printed, corrected, found = (first / second for first, second in (*derived, shipped))
    return printed, corrected, found


_GUIDES = dirac_guide.GUIDE, dirac_guide.GUIDE_OVER_THE_OTHERS


@_erratum("reading", 'Section 4, terms i = j "can practically be ignored"', "C13", *_GUIDES)
def _diagonal(lab: Lab) -> Triple:
    """Angle in degrees between the pull on μ₁ with and without i = j.

    Printed: with the guide {0} the terms i = j provide less effective information and can be left out.

    Corrected: they are M of the M² terms and change the direction of the gradient. Leaving them out is exact under
    another reading, each expert against {1}, the guide over the other views.

    Code: `KLObjective("cross")`, the default, is that reading and Algorithm 1; `KLObjective("all")` keeps the terms.
    """

    def angle(*pulls: Array) -> float:
        across = [pull - pull @ _MU[0] * _MU[0] for pull in pulls]
        first, second = (pull / np.linalg.norm(pull) for pull in across)
        return math.degrees(math.acos(first @ second))

    table = Table(FISHER, _MU, np.full(2, 3.0), _F, lab)
    shipped = [-table.gradient(KLObjective(pairs))[0] for pairs in ("all", "cross")]
    return 0.0, angle(_F.sum(0), _F[1]), angle(*shipped)


@_erratum("reading", "Algorithm 1, normalisation", "C1", vi_simsiam.ALGORITHM_1, vi_simsiam.ALGORITHM_1_OF_ANY_VECTORS)
def _normalization(lab: Lab) -> Triple:
    """Algorithm 1's loss for μ of length 2 and z of length 3, κ = 4.

    Printed: {0} of the predictor's and the projector's outputs as they are.

    Corrected: {1}. Both are to be normalised first (the paper says that embeddings lie on the hypersphere, its
    algorithm does not show where), and κ made positive.

    Code: `PowerSphericalHead`, `VonMisesFisherHead` and `MultiViewGuide` normalise; `relative_concentration` maps κ.
    """
    kappa, cosine = 4.0, float(_F[0] @ _F[1])
    log_c = log_peak(POWER, 3, kappa) - kappa * math.log(2)
    network = Network(lambda view: nn.functional.pad(2 * view, (0, 1), value=kappa))
    model = MultiViewModel(nn.Identity(), PowerSphericalHead(network, lambda raw, _: raw))
    guide = MultiViewGuide(Network(lambda view: 3 * view))
    shipped = KLObjective()(model, guide)([lab.tensor(f[None]) for f in _F]).item()
    printed, corrected = (-2 * (log_c + kappa * math.log(1 + length * cosine)) for length in (6, 1))
    return printed, corrected, shipped
