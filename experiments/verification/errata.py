"""The errors and gaps of arXiv:2203.11437v1, each as numbers: what is printed, what is right, what the code does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sympy import lambdify
from torch import nn
from torch.distributions import kl_divergence

from experiments.verification.checks import float64
from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.claims_multimodal_vi import sphere_grid
from experiments.verification.claims_vi_simsiam import slope_in_the_cosine
from experiments.verification.tables import Table
from experiments.verification.witnesses import Array, cosine_law, log_area, log_peak, von_mises_fisher_height
from inference.fitting.kl_objective import KLObjective, Pairs
from models.networks import PowerSphericalHead
from ssl_as_inference.cross_entropies import cross_entropy
from ssl_as_inference.derivations import vi_simsiam
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.notation import kappa as kappa_symbol
from ssl_as_inference.derivations.simsiam import LOSS as AFFINE_LOSS
from ssl_as_inference.derivations.simsiam import PRINTED_LOSS as PRINTED_SIMSIAM_LOSS
from ssl_as_inference.distributions import (
    DeltaMixture,
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel

FISHER, POWER = "von Mises–Fisher", "Power Spherical"


@dataclass(frozen=True)
class Counterexample:
    """One quantity three times.

    Attributes:
        quantity: What is computed, with the numbers that go in.
        printed: Its value by the paper as printed.
        corrected: Its value by the corrected statement, from quadrature, mpmath or by hand.
        shipped: Its value from the shipped code.
    """

    quantity: str
    printed: float
    corrected: float
    shipped: float


@dataclass(frozen=True)
class Erratum:
    """What is wrong or missing in the paper.

    Attributes:
        place: Equation, section or algorithm.
        claim: Claim of the ledger that treats it.
        printed: The printed form.
        corrected: The corrected form.
        code: Where the code follows which.
        counterexample: Computes it.
    """

    place: str
    claim: str
    printed: str
    corrected: str
    code: str
    counterexample: Callable[[Settings], Counterexample]

    def check(self, settings: Settings) -> Outcome:
        """Distance of the shipped value from the corrected one; infinite if the printed form is not refuted."""
        found = self.counterexample(settings)
        error = abs(found.shipped - found.corrected)
        refuted = abs(found.printed - found.corrected) > 1e-2
        detail = (
            f"{found.quantity}: printed {found.printed:.10g}, corrected {found.corrected:.10g}, "
            f"shipped {found.shipped:.10g}"
        )
        return Outcome(error if refuted else math.inf, detail)


def _unit(*values: float) -> Array:
    vector = np.array(values)
    unit: Array = vector / np.linalg.norm(vector)
    return unit


_MU = np.stack([_unit(1, 0, 0), _unit(1, 0, 1)])
_F = np.stack([_unit(1, 2, 0), _unit(1, 0.5, 2)])


def _table(family: str, kappa: float, settings: Settings, f: Array = _F) -> Table:
    return Table(family, _MU, np.full(2, kappa), f, settings.device)


def _sign(settings: Settings) -> Counterexample:
    printed = lambdify([kappa_symbol, vi_simsiam.c], vi_simsiam.PRINTED_SLOPE.result)
    corrected = lambdify([kappa_symbol, vi_simsiam.c], vi_simsiam.CORRECTED_SLOPE.result)
    shipped = slope_in_the_cosine(0.5, 6.0, 3, settings)
    return Counterexample("dL/dc of one pair at κ = 6, c = 0.5", printed(6.0, 0.5), corrected(6.0, 0.5), shipped)


def _missing_factor(settings: Settings) -> Counterexample:
    q = DeltaMixture(float64(_F, settings))
    shipped = q.log_prob(q.enumerate_support()).exp().sum().item()
    return Counterexample("E_q[1] for M = 2", 2.0, 1.0, shipped)


def _not_equal(settings: Settings) -> Counterexample:
    kappa = 5.0
    resultant = float(np.linalg.norm(kappa * _MU.sum(0)))
    integral = cosine_law(3, von_mises_fisher_height(resultant))[3] + resultant
    log_z = 2 * (log_peak(FISHER, 3, kappa) - kappa) + integral
    experts = VonMisesFisher(float64(_MU, settings), float64(kappa, settings))
    shipped = ProductOfExperts(experts).log_normalizer().exp().item()
    return Counterexample("integral of the product of two experts at 45°, κ = 5, d = 3", 1.0, math.exp(log_z), shipped)


def _second_term(settings: Settings) -> Counterexample:
    z, weight = sphere_grid(160, settings)

    def entropy(atoms: Array) -> float:
        q = SphericalMixture(VonMisesFisher(float64(atoms, settings), float64(100.0, settings)))
        log_q = q.log_prob(z)
        return float(-(log_q.exp() * log_q * weight).sum())

    eye = np.eye(3)
    shipped = entropy(eye) - entropy(eye[[0, 0, 0]])
    return Counterexample("H(q) of 3 orthogonal atoms less that of 3 equal ones, τ = 100", 0.0, math.log(3), shipped)


def _evidence(settings: Settings) -> Counterexample:
    kappa = 5.0
    resultant = float(np.linalg.norm(kappa * _MU.sum(0)))
    integral = cosine_law(3, von_mises_fisher_height(resultant))[3] + resultant
    evidence = 2 * (log_peak(FISHER, 3, kappa) - kappa) + integral - log_area(3)
    product = ProductOfExperts(VonMisesFisher(float64(_MU, settings), float64(kappa, settings)))
    q = VonMisesFisher(float64(_F[0], settings), float64(3.0, settings))
    prior = SphericalUniform(3, dtype=torch.float64, device=settings.device)
    negative_elbo = cross_entropy(q, product) + kl_divergence(q, prior)
    shipped = (kl_divergence(q, product.normalized()) - negative_elbo).item()
    return Counterexample("Eq. (2) less Eq. (4) for two directions drawn about z, κ = 5, d = 3", 0.0, evidence, shipped)


def _not_proportional(settings: Settings) -> Counterexample:
    tables = [_table(FISHER, 3.0, settings, f) for f in (_F, _MU)]
    values = []
    for expression in (PRINTED_SIMSIAM_LOSS, AFFINE_LOSS.result):
        loss = compile_loss(expression, "von Mises–Fisher", 2)
        values.append([float(loss(3, list(t.kappa), (t.mu @ t.f.T).tolist())) for t in tables])
    shipped = [t.loss(KLObjective("all")).item() for t in tables]
    return Counterexample(
        "ratio of the losses of two sets of atoms, κ = 3, d = 3",
        values[0][0] / values[0][1],
        values[1][0] / values[1][1],
        shipped[0] / shipped[1],
    )


def _tangent(vector: Array) -> Array:
    across = vector - vector @ _MU[0] * _MU[0]
    unit: Array = across / np.linalg.norm(across)
    return unit


def _diagonal(settings: Settings) -> Counterexample:
    pulls = []
    kinds: tuple[Pairs, ...] = ("all", "cross")
    for pairs in kinds:
        table = _table(FISHER, 3.0, settings)
        views = [view.requires_grad_() for view in table.views()]
        loss = table.loss(KLObjective(pairs), views)
        pulls.append(_tangent(-torch.autograd.grad(loss, views)[0][0, 3:-1].cpu().numpy()))
    corrected = math.degrees(math.acos(float(_tangent(_F.sum(0)) @ _tangent(_F[1]))))
    shipped = math.degrees(math.acos(float(pulls[0] @ pulls[1])))
    return Counterexample("angle in degrees between the pull on μ₁ with and without i = j", 0.0, corrected, shipped)


class _Scaled(nn.Module):
    """A network whose output is not of unit length."""

    def __init__(self, scale: float, *, with_concentration: bool) -> None:
        super().__init__()
        self.scale, self.with_concentration = scale, with_concentration

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        scaled = self.scale * view
        return torch.cat([scaled, torch.ones_like(view[:, :1])], -1) if self.with_concentration else scaled


def _normalization(settings: Settings) -> Counterexample:
    kappa, log_c = 4.0, log_peak(POWER, 3, 4.0) - 4.0 * math.log(2)
    cosine = float(_F[0] @ _F[1])
    printed = -2 * (log_c + kappa * math.log(1 + 6 * cosine))
    corrected = -2 * (log_c + kappa * math.log(1 + cosine))
    head = PowerSphericalHead(_Scaled(2.0, with_concentration=True), lambda raw, _: kappa * torch.ones_like(raw))
    model = MultiViewModel(nn.Identity(), head)
    guide = MultiViewGuide(_Scaled(3.0, with_concentration=False))
    views = [float64(f[None], settings) for f in _F]
    shipped = KLObjective()(model, guide)(views).item()
    return Counterexample("Algorithm 1's loss for μ of length 2 and z of length 3, κ = 4", printed, corrected, shipped)


ERRATA = (
    Erratum(
        "Eq. (12), sign",
        "C12",
        r"$\log C(\kappa_i) - \kappa_i\log(1+\mu_i^\top f_j)$",
        r"$\log C(\kappa_i) + \kappa_i\log(1+\mu_i^\top f_j)$; as printed the loss would reward anti-alignment."
        " Algorithm 1 has the right sign.",
        "`PowerSpherical.log_prob` and `KLObjective` follow the corrected form.",
        _sign,
    ),
    Erratum(
        "Eqs. (9), (12), factor 1/M",
        "C7",
        r"$\mathbb{E}_{q_\phi}[\cdot] = \sum_i\mathbb{E}_{\delta(z-f_\phi(x_i))}[\cdot]$",
        r"$\mathbb{E}_{q_\phi}[\cdot] = \frac1M\sum_i\mathbb{E}_{\delta(z-f_\phi(x_i))}[\cdot]$, as Eq. (8) says.",
        '`DeltaMixture` and `KLObjective("all")` carry 1/M, `KLObjective("cross")` carries 1/(M − 1) an expert.',
        _missing_factor,
    ),
    Erratum(
        "Eqs. (6), (10), equality",
        "C4",
        r"$p_\psi(z\mid\mathbb{X}) = \prod_i p(z\mid x_i)$",
        r"$p_\psi(z\mid\mathbb{X}) = \prod_i p(z\mid x_i)/Z(\mathbb{X})$; Z depends on the views, also for constant κ.",
        "`ProductOfExperts.log_prob` is the printed product, `log_normalizer` and `normalized` the corrected form;"
        " `KLObjective(normalized=True)` includes log Z.",
        _not_equal,
    ),
    Erratum(
        '"the second term in Eq. (5) is constant"',
        "C8",
        r"$\mathbb{E}_q[\log q]$ is constant.",
        r"$-H(q) = -h(\tau) - I$ with $0 \le I \le \log M$; it diverges as τ → ∞, and I depends on the atoms.",
        "`KLObjective` leaves it out, which is exact for distinct atoms behind the stop-gradient;"
        " `SphericalMixture` has it at finite τ.",
        _second_term,
    ),
    Erratum(
        "Eq. (4)",
        "C2",
        "Eq. (3) into Eq. (2) gives Eq. (4), called the ELBO.",
        r"It gives Eq. (4) $+ \log p_\theta(\mathbb{X})$; Eq. (4) is the negative ELBO. The minimiser in φ is the same,"
        " that in θ is not.",
        "The registered divergences and cross-entropies differ by the log evidence.",
        _evidence,
    ),
    Erratum(
        'Eq. (9), "∝"',
        "C9",
        r"$\mathcal{L}_{KL} \propto -\sum_i\sum_j g_i^\top f_j$",
        r"$\mathcal{L} = -M\log C(\kappa) - \frac\kappa M\sum_i\sum_j g_i^\top f_j$: affine.",
        '`KLObjective("all")` follows the corrected form.',
        _not_proportional,
    ),
    Erratum(
        'Section 4, terms i = j "can practically be ignored"',
        "C13",
        "The terms i = j provide less effective information and can be left out.",
        "They are M of the M² terms and change the direction of the gradient. Leaving them out is exact under another"
        " reading: each expert against the guide over the other views.",
        '`KLObjective("cross")`, the default, is that reading and Algorithm 1; `KLObjective("all")` keeps the terms.',
        _diagonal,
    ),
    Erratum(
        "Algorithm 1, normalisation",
        "C1",
        "`PSd(mu, kappa)` of the predictor's output, evaluated at the projector's output.",
        "Both have to be normalised first, and κ made positive; Eq. (1), too, needs unit vectors.",
        "`PowerSphericalHead`, `VonMisesFisherHead` and `MultiViewGuide` normalise; `relative_concentration` maps κ.",
        _normalization,
    ),
)

CLAIMS = tuple(
    Claim(
        erratum.claim,
        erratum.place,
        f"Erratum. Printed: {erratum.printed} Corrected: {erratum.corrected}",
        "numeric",
        1e-10,
        erratum.check,
        correction=f"Code: {erratum.code}",
    )
    for erratum in ERRATA
)
