r"""The von Mises–Fisher normaliser as a function of the squared concentration, smooth down to zero.

A product of experts has the concentration $R = \lVert\sum_i\kappa_i\mu_i\rVert$, which has no derivative where the
experts cancel; log C is a function of $x = R^2$ that has all of them. Its slope is
$-s_d(x)$, $s_d = A_d(\kappa)/2\kappa$ with $\kappa = \sqrt x$ and $s_d(0) = 1/2d$, and since
$(I_{\nu+1}/\kappa I_\nu)' = (I_{\nu+1}/\kappa I_\nu)(I_{\nu+2}/I_{\nu+1} - I_{\nu+1}/I_\nu)$,

$$s_d' = s_d\,(s_{d+2} - s_d).$$
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.special.log_bessel import evaluate
from ssl_as_inference.sphere import checked_dim


class _Slope(Elementwise):
    """s_d(x); every further derivative follows from the recurrence."""

    @staticmethod
    def value(square: Tensor, dim: int) -> Tensor:
        kappa = square.sqrt()
        positive = kappa > 0
        slope = evaluate("resultant", dim, kappa) / (2 * torch.where(positive, kappa, 1.0))
        return torch.where(positive, slope, 1 / (2 * dim))

    @staticmethod
    def partials(square: Tensor, dim: int) -> tuple[Tensor]:
        slope: Tensor = _Slope.apply(square, dim)
        return (slope * (_Slope.apply(square, dim + 2) - slope),)


class _LogNormalizer(Elementwise):
    @staticmethod
    def value(square: Tensor, dim: int) -> Tensor:
        return evaluate("log_normalizer", dim, square.sqrt())

    @staticmethod
    def partials(square: Tensor, dim: int) -> tuple[Tensor]:
        return (-_Slope.apply(square, dim),)


def von_mises_fisher_log_normalizer_of_square(dim: int, squared_concentration: Tensor) -> Tensor:
    r"""$\log C(\sqrt x)$ of the von Mises–Fisher distribution, with finite derivatives of every order at x = 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        squared_concentration: x = κ² ≥ 0, any shape.

    Returns:
        Shape of `squared_concentration`, float64.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> x = torch.zeros((), requires_grad=True)
        >>> torch.autograd.grad(von_mises_fisher_log_normalizer_of_square(5, x), x)[0]  # −1/2d
        tensor(-0.1000)
    """
    value: Tensor = _LogNormalizer.apply(squared_concentration.double(), checked_dim(dim))
    return value
