r"""What the graphical model assumes of an encoder, checked on encoders that were trained on digits.

Bayes' rule asks that the experts of an encoder average to the prior, $\mathrm{E}_x\,p_\psi(z\mid x)$. A draw from that
average is a view of an image, and then a z of the view's expert. Whether many such z are uniform on the sphere is
tested by their moments: in d dimensions no density of the average could be estimated.
"""

from __future__ import annotations

import math
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from experiments.images.digits import DigitViews, load
from experiments.pretraining.building import build_pair
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.training import pretrain
from experiments.studies.quickstart import digits_plan
from experiments.verification.claim import Z_SCORE, Outcome, claim
from experiments.verification.lab import Lab
from inference.fitting.kl_objective import KLObjective
from inference.judging.collapse import effective_rank
from ssl_as_inference.distributions import SphericalUniform
from ssl_as_inference.graphical_model import MultiViewPair

_EPOCHS = 20
_FAR, _LEAST_ANGLE = 100.0, 10.0
_METHODS = ("SimSiam", "VI-SimSiam")


def rayleigh(z: Tensor) -> float:
    r"""Rayleigh's test of uniformity by the mean, for independent unit vectors `(draws, dim)`.

    $Nd\lVert\bar z\rVert^2$ is $\chi^2_d$ if they are uniform (Mardia and Jupp 2000, Section 10.4.1). Returned is its
    distance from d in standard deviations, $\sqrt{2d}$.
    """
    count, dim = z.shape
    return float((count * dim * z.mean(0).square().sum() - dim) / math.sqrt(2 * dim))


def bingham(z: Tensor) -> float:
    r"""Bingham's test of uniformity by the second moments $S = \frac1N\sum zz^\top$.

    $\frac{d(d+2)}2N(\mathrm{tr}\,S^2-\frac1d)$ is $\chi^2$ of $(d-1)(d+2)/2$ degrees of freedom if they are uniform
    (the same, Section 10.7.1). Returned is its distance from its mean in standard deviations.
    """
    count, dim = z.shape
    freedom = (dim - 1) * (dim + 2) / 2
    statistic = dim * (dim + 2) / 2 * count * ((z.T @ z / count).square().sum() - 1 / dim)
    return float((statistic - freedom) / math.sqrt(2 * freedom))


def angle_of_pulls(pair: MultiViewPair, views: list[Tensor]) -> float:
    r"""Mean angle in degrees between the pulls of two objectives on the first view's $\mu$, along the sphere.

    One is the default, a sum of one divergence for each expert. The other is the divergence from the model's posterior,
    with the product of the experts normalised.
    """
    pulls = []
    for objective in (KLObjective(), KLObjective("all", normalized=True)):
        terms = objective.evaluate(pair.model, pair.guide, views)
        mu = terms.experts[0].mean_direction
        pull, unit = torch.autograd.grad(-terms.loss(), mu)[0].double(), mu.detach().double()
        pulls.append(pull - (pull * unit).sum(-1, keepdim=True) * unit)
    cosine = torch.nn.functional.cosine_similarity(pulls[0], pulls[1], dim=-1)
    return float(cosine.clamp(-1, 1).arccos().rad2deg().mean())


@cache
def _pairs(method: str, seed: int, epochs: int) -> dict[str, MultiViewPair]:
    """The quickstart's pair with the weights that it begins with, and trained on the digits."""
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        plan = digits_plan(seed, epochs, Path(folder), {"engine.accelerator": "cpu"})
        (config,) = (run.config for row, run in zip(plan.rows, plan.runs({}), strict=True) if row.label == method)
        untrained = build_pair(config)
        update_bn([2 * load()[0].images - 1], untrained.model.encoder)
        pretrain(config)
        return {"untrained": untrained.eval(), "trained": load_pretrained(config.out).pair.eval()}


def _views(seed: int) -> list[Tensor]:
    """Two views of each of the 1,797 digits as the encoders see them, with the mean and the standard deviation ½."""
    images = torch.cat([part.images for part in load()])
    draw = DigitViews(torch.Generator().manual_seed(seed))
    return [2 * draw(images) - 1 for _ in range(2)]


def _departure(z: Tensor) -> tuple[float, str]:
    """How far draws are from uniform, in standard deviations of two tests, and what they are."""
    z = z.double()
    tests = rayleigh(z), bingham(z)
    size = f"mean of length {z.mean(0).norm():.3f}, effective rank {effective_rank(z):.1f} of {z.size(1)}"
    return max(map(abs, tests)), f"{size}, Rayleigh {tests[0]:.1f} and Bingham {tests[1]:.1f} standard deviations"


def not_as_claimed(method: str, control: float, draws: float, directions: float) -> int:
    """How many departures from uniform are not as C38 says: of uniform draws, of z, of mean directions."""
    as_said = draws <= Z_SCORE if method == "SimSiam" else draws >= _FAR
    return (not control <= Z_SCORE) + (not as_said) + (not directions >= _FAR)


@claim("C38", "Eqs. (6), (10)", 0.0, kind="trajectory", long=True, method=_METHODS)
def the_average_of_the_experts(lab: Lab, method: str, epochs: int = _EPOCHS) -> Outcome:
    """Bayes' rule asks that the experts average to the uniform prior. VI-SimSiam trained on digits does not fulfil it.

    A z drawn from the expert of a view of each image is more than 100 standard deviations from uniform in Rayleigh's or
    Bingham's test, before and after training. Of SimSiam at its κ = 1 the tests see nothing (4 standard deviations),
    because each of its experts is nearly uniform by itself; its mean directions are as far from uniform.

    Correction: The paper takes the prior to be uniform and does not say that nothing in the loss enforces it.
    """
    pairs = _pairs(method, lab.seed, epochs)
    torch.manual_seed(lab.seed)  # whether the pairs were trained now or before
    control, measured = _departure(SphericalUniform(pairs["trained"].dim, dtype=torch.float64).sample((1797,)))
    details, wrong = [f"{method}: uniform draws {measured}"], 0
    for name, pair in pairs.items():
        expert: Any = pair.model.expert(_views(lab.seed)[0])
        kappa = f"{expert.concentration.min():.3g} … {expert.concentration.max():.3g}"
        of_draws, of_directions = (_departure(each.detach()) for each in (expert.sample(), expert.mean_direction))
        details.append(f"{name}: z {of_draws[1]}; μ {of_directions[1]}; κ {kappa}")
        wrong += not_as_claimed(method, control, of_draws[0], of_directions[0])
    return Outcome(float(wrong), ". ".join(details))


@claim("C39", "Eqs. (5), (6)", 0.0, kind="trajectory", long=True, method=_METHODS)
def two_objectives_pull_apart(lab: Lab, method: str, epochs: int = _EPOCHS) -> Outcome:
    """What SimSiam and VI-SimSiam minimise is not the divergence from the model's posterior.

    It is a sum of one divergence for each expert, over the pairs of different views. On encoders trained on digits, and
    on untrained ones, the two pull a view's mean direction along the sphere more than 10° apart.
    """
    views = [view[:256] for view in _views(lab.seed)]
    angles = {name: angle_of_pulls(pair, views) for name, pair in _pairs(method, lab.seed, epochs).items()}
    said = ", ".join(f"{name} {angle:.1f}°" for name, angle in angles.items())
    return Outcome(float(sum(not angle > _LEAST_ANGLE for angle in angles.values())), f"{method}: {said}")
