r"""How much each term of the objective counts: weights of pairs of an expert and an atom.

The likelihood weighs the images already: the gradient of $-\log p_i(f_j)$ on the cosine $c = \mu_i^\top f_j$ is −κ for
a von Mises–Fisher expert and $-\kappa/(1+c)$ for a Power Spherical one. An image of large κ has a large gradient on μ,
an image of small κ almost none. A weight removes some or all of this difference. `KLObjective` puts it behind a
stop-gradient: with a gradient, κ could lower the loss by changing the weights.
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
    r"""$w = 1/\kappa$ (von Mises–Fisher) or $(1+c)/\kappa$ (Power Spherical): every term has SimSiam's gradient.

    The gradient of $-w\log p$ on the cosine is −1, that of the negative cosine similarity with weight one: the mean
    direction learns exactly as in SimSiam, whatever κ is. κ still learns from the likelihood, each term weighted by w.
    So the loss is in SimSiam's unit, a cosine, and not in nats. Its gradient does not grow with the dimension and must
    not be divided by it. Only the gradient has a meaning. The value of the loss depends on the present weights and on
    the reference measure of the density, so values of different steps cannot be compared.

    Where κ is below the dtype's ε, ε is used instead: the expert is then uniform up to rounding, and 1/κ would
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


def tempered_concentration(expert: VonMisesFisher | PowerSpherical, atoms: Tensor, *, beta: float = 0.5) -> Tensor:  # noqa: ARG001  # every weight is called with the atoms
    r"""$w = \{\kappa/(d-1)\}^{-\beta}$: what β-NLL is to regression with a predicted variance (arXiv:2203.09168).

    κ takes the place of an inverse variance. β = 0 is the likelihood, under which the gradient on a Power Spherical
    expert's cosine is −κ/(1+c); β = 1 leaves −(d−1)/(1+c), the same for every κ; between them an image of large κ has a
    larger gradient, but not as large as under the likelihood. κ grows with d; relative to d − 1 it is of order one, and
    so is w. The loss remains in nats, for an image or for a dimension; its value, too, depends on the present weights.

    Where κ/(d−1) is below the dtype's ε, ε is used instead, as in `unit_pull`.

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
