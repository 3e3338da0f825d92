r"""What the experts of an encoder average to, $\mathrm{E}_x\,p_\psi(z\mid x)$, which Bayes' rule asks to be the prior.

A draw from that average is a view of an image, and then a z of the view's expert. Whether many such z are uniform on
the sphere is tested by their moments: in d dimensions no density of the average could be estimated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.graphical_model import MultiViewPair


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
        pull = torch.autograd.grad(-terms.loss(), mu)[0].double()
        unit = mu.detach().double()
        pulls.append(pull - (pull * unit).sum(-1, keepdim=True) * unit)
    cosine = torch.nn.functional.cosine_similarity(pulls[0], pulls[1], dim=-1)
    return float(cosine.clamp(-1, 1).arccos().rad2deg().mean())
