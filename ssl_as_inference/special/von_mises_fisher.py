r"""Normaliser and moments of the von Mises–Fisher distribution, exact to rounding in every dimension.

The density is $C(\kappa)\exp(\kappa\mu^\top z)$ with respect to the surface measure of the unit sphere of
$\mathbb{R}^d$ (Mardia & Jupp, *Directional Statistics*, 2000, §9.3.2), and

.. math:: \log C(\kappa) = \nu\log\kappa - \tfrac d2\log 2\pi - \log I_\nu(\kappa), \quad \nu = \tfrac d2 - 1, \qquad
          A(\kappa) = \frac{I_{\nu+1}(\kappa)}{I_\nu(\kappa)} = -\frac{d\log C}{d\kappa}.

All functions take the dimension d ≥ 2 and a tensor of concentrations κ ≥ 0 of any shape, compute in float64 (κ is a
scalar per distribution, so this is cheap) and return its dtype, float32 at least. The error of a value f, and of its
first two derivatives, is at most $c\max(1, |f|, |\kappa f'|)\,\varepsilon$ with c ≤ 25 in float64, and one rounding in
float32: `docs/results/certified_bounds.md` has the constants and where that is proved. The last term is the rounding of
κ, which counts next to a zero of log C in high dimension. Derivatives are finite everywhere; third and higher ones come
from differentiating the formulas.
"""

from __future__ import annotations

import torch  # noqa: F401  # the examples use it
from torch import Tensor

from ssl_as_inference.own_derivatives import Elementwise
from ssl_as_inference.precision import result_dtype
from ssl_as_inference.special.log_bessel import evaluate
from ssl_as_inference.sphere import checked_dim

_DERIVATIVE = {  # each quantity's derivative: a factor, and the quantity that it multiplies
    "log_normalizer": ("-1", "resultant"),
    "log_normalizer_plus_concentration": ("1", "resultant_complement"),
    "resultant": ("1", "resultant_slope"),
    "resultant_complement": ("-1", "resultant_slope"),
    "resultant_slope": ("1", "resultant_curvature"),
    "kl_to_uniform": ("κ", "resultant_slope"),  # (κA − g)′ = κA′
    "entropy": ("-κ", "resultant_slope"),
}


class _Quantity(Elementwise):
    """One of the quantities of `log_bessel`, whose derivative is another one of them."""

    @staticmethod
    def value(kappa: Tensor, dim: int, quantity: str) -> Tensor:
        return evaluate(quantity, dim, kappa)

    @staticmethod
    def partials(kappa: Tensor, dim: int, quantity: str) -> tuple[Tensor]:
        factor, following = _DERIVATIVE[quantity]
        slope = _value(following, dim, kappa)
        if factor.endswith("κ"):
            slope = kappa * slope
        return (-slope if factor.startswith("-") else slope,)


def _value(quantity: str, dim: int, kappa: Tensor) -> Tensor:
    if quantity not in _DERIVATIVE:  # plain operations, which autograd differentiates
        return evaluate(quantity, dim, kappa)
    value: Tensor = _Quantity.apply(kappa, dim, quantity)
    return value


def _public(quantity: str, dim: int, concentration: Tensor) -> Tensor:
    return _value(quantity, checked_dim(dim), concentration.double()).to(result_dtype(concentration))


def von_mises_fisher_log_normalizer(dim: int, concentration: Tensor) -> Tensor:
    r"""$\log C(\kappa)$; minus the logarithm of the sphere's area at κ = 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_log_normalizer(3, torch.tensor(0.0)).exp() * 4 * torch.pi  # 1 over the area
        tensor(1.0000)
    """
    return _public("log_normalizer", dim, concentration)


def von_mises_fisher_log_normalizer_plus_concentration(dim: int, concentration: Tensor) -> Tensor:
    r"""$\log C(\kappa) + \kappa$, the log density at the mode, without the cancellation of the two terms.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> kappa = torch.tensor(1e6)  # on the sphere in space the mode has height κ/2π
        >>> von_mises_fisher_log_normalizer_plus_concentration(3, kappa) - (kappa / (2 * torch.pi)).log()
        tensor(0.)
    """
    return _public("log_normalizer_plus_concentration", dim, concentration)


def von_mises_fisher_mean_resultant_length(dim: int, concentration: Tensor) -> Tensor:
    r"""$A(\kappa) = \mathbb{E}[\mu^\top z] = I_{d/2}(\kappa)/I_{d/2-1}(\kappa)$, from 0 at κ = 0 to 1.

    Its derivative $A'(\kappa) = 1 - A^2 - (d-1)A/\kappa$ is the variance of $\mu^\top z$.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_mean_resultant_length(3, torch.tensor(2.0))  # coth κ − 1/κ
        tensor(0.5373)
    """
    return _public("resultant", dim, concentration)


def von_mises_fisher_mean_resultant_complement(dim: int, concentration: Tensor) -> Tensor:
    r"""$1 - A(\kappa) = \mathbb{E}[1-\mu^\top z]$, which keeps its digits for large κ, where it is (d−1)/2κ.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_mean_resultant_complement(3, torch.tensor(1e20))
        tensor(1.0000e-20)
    """
    return _public("resultant_complement", dim, concentration)


def von_mises_fisher_resultant_slope(dim: int, concentration: Tensor) -> Tensor:
    r"""$A'(\kappa) = 1 - A^2 - (d-1)A/\kappa = \operatorname{Var}(\mu^\top z)$, which is 1/d at κ = 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_resultant_slope(3, torch.tensor(1e10))  # 1/κ² − 1/sinh² κ
        tensor(1.0000e-20)
    """
    return _public("resultant_slope", dim, concentration)


def von_mises_fisher_tangent_variance(dim: int, concentration: Tensor) -> Tensor:
    r"""$A(\kappa)/\kappa$, the variance of z along a unit tangent at μ, which is 1/d at κ = 0.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_tangent_variance(8, torch.tensor(0.0))
        tensor(0.1250)
    """
    return _public("tangent_variance", dim, concentration)


def von_mises_fisher_entropy(dim: int, concentration: Tensor) -> Tensor:
    r"""$-\mathbb{E}\log p = -\log C(\kappa) - \kappa A(\kappa)$, with respect to the surface measure.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_entropy(2, torch.tensor(0.0)).exp() / torch.pi  # the circle has length 2π
        tensor(2.0000)
    """
    return _public("entropy", dim, concentration)


def von_mises_fisher_kl_to_uniform(dim: int, concentration: Tensor) -> Tensor:
    r"""$\mathrm{KL}(\mathrm{vMF}(\mu,\kappa)\,\|\,\text{uniform}) = \log C(\kappa) - \log C(0) + \kappa A(\kappa)$.

    It keeps its relative accuracy for small κ as well, where it is κ²/2d.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        concentration: κ ≥ 0, any shape.

    Returns:
        Shape and dtype of `concentration`.

    Raises:
        ValueError: If dim is not an integer ≥ 2.

    Example:
        >>> von_mises_fisher_kl_to_uniform(5, torch.tensor(1e-3)) * 2 * 5
        tensor(1.0000e-06)
    """
    return _public("kl_to_uniform", dim, concentration)
