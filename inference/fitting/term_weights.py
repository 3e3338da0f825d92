r"""How much each term of the objective counts: weights of pairs of an expert and an atom.

The likelihood itself weighs the images: the gradient of $-\log p_i(f_j)$ on the cosine $c = \mu_i^\top f_j$ is −κ for
a von Mises–Fisher expert and $-\kappa/(1+c)$ for a Power Spherical one. An image of large κ pulls hard on μ, and one of
small κ hardly at all. A weight takes some or all of that out. It stands behind a stop-gradient, which `KLObjective`
provides: as a part of what is minimised it would make another loss, which κ could lower by changing the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher

TermWeight = Callable[[Any, Tensor], Tensor]
"""Expert of batch shape `(*plates,)` and atoms `(J, *plates, dim)` to weights, broadcastable with `(J, *plates)`."""


def unit_pull(expert: VonMisesFisher | PowerSpherical, atoms: Tensor) -> Tensor:
    r"""$w = 1/\kappa$ (von Mises–Fisher) or $(1+c)/\kappa$ (Power Spherical): every term pulls as in SimSiam.

    The gradient of $-w\log p$ on the cosine is −1, that of the negative cosine similarity with weight one: the mean
    direction learns exactly as in SimSiam, whatever κ is. κ still learns from the likelihood, each term weighted by w.
    The loss is therefore in SimSiam's unit, a cosine, and no longer in nats: its gradient does not grow with the
    dimension, and a division by it has no place. Only this gradient has a meaning. The value depends on the weights of
    the moment, and on the measure that the density refers to: two steps cannot be compared by it.

    Where κ is below the dtype's ε it is taken for ε: the expert is then the uniform law up to rounding, and 1/κ would
    overflow. 1 + c is at least 2ε, the bound that the derivatives of `PowerSpherical.log_prob` have.

    Args:
        expert: Batch shape `(*plates,)`.
        atoms: Unit vectors, shape `(J, *plates, dim)`.

    Returns:
        Shape `(*plates,)` or `(J, *plates)`.

    Raises:
        ValueError: If the expert is of another family.

    Example:
        >>> mu, z = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.6, 0.8]]])
        >>> unit_pull(PowerSpherical(mu, 4.0), z)
        tensor([[0.4000]])
    """
    if isinstance(expert, VonMisesFisher):
        return 1 / _at_least_eps(expert.concentration)
    if isinstance(expert, PowerSpherical):
        cosine = (expert.mean_direction * atoms).sum(-1)
        return (1 + cosine).clamp_min(2 * torch.finfo(cosine.dtype).eps) / _at_least_eps(expert.concentration)
    raise ValueError(
        f"expert must be VonMisesFisher or PowerSpherical, whose pull is known, got {type(expert).__name__}"
    )


def tempered_concentration(expert: VonMisesFisher | PowerSpherical, atoms: Tensor, *, beta: float = 0.5) -> Tensor:  # noqa: ARG001  # every weight is told the atoms
    r"""$w = \{\kappa/(d-1)\}^{-\beta}$: what β-NLL is to regression with a predicted variance (arXiv:2203.09168).

    κ takes the place of an inverse variance. β = 0 is the likelihood, under which the gradient on a Power Spherical
    expert's cosine is −κ/(1+c); β = 1 leaves −(d−1)/(1+c), the same for every κ; between them an image of large κ pulls
    harder, but less so than the likelihood says. κ grows with d; relative to d − 1 it is of order one, and so is w. The
    loss remains in nats, for an image or for a dimension; its value, too, depends on the weights of the moment.

    Where κ/(d−1) is below the dtype's ε it is taken for ε, as in `unit_pull`.

    Args:
        expert: Batch shape `(*plates,)`.
        atoms: Unit vectors, shape `(J, *plates, dim)`; w does not depend on them.
        beta: β, from 0 to 1.

    Returns:
        Shape `(*plates,)`.

    Raises:
        ValueError: If β is outside [0, 1].

    Example:
        >>> mu = torch.tensor([[1.0, 0.0, 0.0]])
        >>> tempered_concentration(PowerSpherical(mu, 8.0), mu[None], beta=0.5)  # (8/2)^(−1/2)
        tensor([0.5000])
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1], got {beta}")
    weight: Tensor = _at_least_eps(expert.concentration / (expert.dim - 1)) ** -beta
    return weight


def _at_least_eps(concentration: Tensor) -> Tensor:
    return concentration.clamp_min(torch.finfo(concentration.dtype).eps)
