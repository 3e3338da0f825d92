r"""References that share nothing with the shipped special functions: quadrature over the sphere, and mpmath.

An integral of a function of the cosine $t = \mu^\top z$ is one over $t = \tanh u$,
$\int g\,dz = \omega_{d-1}\int g(t)(1-t^2)^{(d-3)/2}dt = \omega_{d-1}\int g\,\operatorname{sech}^{d-1}u\,du$, with
$\omega_{d-1}$ the area of the sphere of one dimension less. The integrand is analytic in a strip and decays
exponentially, so that the trapezoidal rule reaches rounding. $1\pm t$ are taken from u and keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import binom, digamma, eval_gegenbauer, gammaln, ive, logsumexp

Array = NDArray[np.float64]
LogHeight = Callable[[Array, Array], Array]
"""A logarithm of a function of the cosine, given 1 − t and 1 + t."""

FISHER, POWER = "von Mises–Fisher", "Power Spherical"
_FALL = 50.0
_REACH = 45.0


def log_area(dim: int) -> float:
    """Logarithm of the area of the unit sphere in R^dim."""
    return float(math.log(2) + dim / 2 * math.log(math.pi) - gammaln(dim / 2))


def cosine_law(
    dim: int, log_density: LogHeight, points: int = 1500, fall: float = _FALL
) -> tuple[Array, Array, Array, float]:
    """Quadrature for a rotationally symmetric function on the sphere.

    Args:
        dim: Dimension d ≥ 2 of the space around the sphere.
        log_density: Logarithm of the function; it need not integrate to one.
        points: Number of nodes.
        fall: The nodes run to where the integrand has fallen by $e^{-fall}$.

    Returns:
        1 − t and 1 + t at the nodes, weights that sum to one, and the logarithm of the integral over the sphere.
    """

    def gaps(u: Array) -> tuple[Array, Array]:
        return 2 / (1 + np.exp(2 * u)), 2 / (1 + np.exp(-2 * u))

    def log_integrand(u: Array) -> Array:
        gap, height = gaps(u)
        return np.asarray(log_density(gap, height) + (dim - 1) / 2 * (np.log(gap) + np.log(height)))

    coarse = np.linspace(-_REACH, _REACH, 20_001)
    margin, values = coarse[1] - coarse[0], log_integrand(coarse)
    kept = coarse[values > values.max() - fall]
    u = np.linspace(kept[0] - margin, kept[-1] + margin, points)
    logs = log_integrand(u) + math.log(u[1] - u[0])
    total = float(logsumexp(logs))
    rest = log_area(dim - 1) if dim > 2 else math.log(2)  # on the circle both sides of μ count
    return *gaps(u), np.exp(logs - total), total + rest


def von_mises_fisher_height(kappa: float) -> LogHeight:
    """κ(t − 1): the logarithm of the density over its value at the mode."""
    return lambda gap, height: -kappa * gap + 0 * height


def power_spherical_height(kappa: float) -> LogHeight:
    """κ log{(1 + t)/2}."""
    return lambda gap, height: kappa * np.where(gap < 0.5, np.log1p(-np.minimum(gap, 0.5) / 2), np.log(height / 2))


HEIGHTS: dict[str, Callable[[float], LogHeight]] = {FISHER: von_mises_fisher_height, POWER: power_spherical_height}


def log_peak(family: str, dim: int, kappa: float) -> float:
    """Log density at the mode, log C + κ or log C + κ log 2, by quadrature."""
    return -cosine_law(dim, HEIGHTS[family](kappa))[3]


def mean_gap(family: str, dim: int, kappa: float) -> float:
    """1 − mean resultant length, by quadrature."""
    gap, _, weight, _ = cosine_law(dim, HEIGHTS[family](kappa))
    return float(weight @ gap)


def log_integral_of_product(mu: Array, kappa: Array | float) -> float:
    r"""$\log\int\prod_iC(\kappa_i)e^{\kappa_i\mu_i^\top z}dz$ by quadrature over the cosine of z with Σκμ."""
    count, dim = mu.shape
    kappas = np.broadcast_to(kappa, (count,))
    resultant = float(np.linalg.norm(kappas @ mu))
    singles = sum(log_peak(FISHER, dim, k) - k for k in kappas)
    return float(singles + cosine_law(dim, von_mises_fisher_height(resultant))[3] + resultant)


def two_directions(dim: int, cosine: float) -> Array:
    """Two unit vectors with this cosine, `(2, d)`."""
    found = np.zeros((2, dim))
    found[0, 0], found[1, :2] = 1, (cosine, math.sqrt(1 - cosine**2))
    return found


def sphere_grid(points: int) -> tuple[Array, Array]:
    """Nodes and weights of a product rule on the sphere in space: Gauss–Legendre in height, equal angles around."""
    height, weight = np.polynomial.legendre.leggauss(points)
    angle = 2 * math.pi * np.arange(2 * points) / (2 * points)
    ring = np.sqrt(1 - height**2)[:, None]
    z = np.stack([ring * np.cos(angle), ring * np.sin(angle), height[:, None] + 0 * angle], -1).reshape(-1, 3)
    return z, np.repeat(weight, 2 * points) * math.pi / points


def mean_over(
    dim: int, log_density: LogHeight, cosine: float, function: LogHeight, points: int = 500, fall: float = _FALL
) -> float:
    r"""$\mathbb{E}_q\,h(\mu^\top z)$ for q rotationally symmetric about f, $\mu^\top f$ = `cosine`, d ≥ 3.

    $\mu^\top z = ct + \sqrt{1-c^2}\sqrt{1-t^2}\,s$, where s is the cosine of a uniform point on the sphere of one
    dimension less.
    """
    gap, height, weight, _ = cosine_law(dim, log_density, points, fall)
    s_gap, s_height, s_weight, _ = cosine_law(dim - 1, lambda a, b: 0 * a + 0 * b, points, fall)
    # 1 ± μᵀz as sums of squares of half angles, without cancellation
    c_low, c_high = math.sqrt((1 - cosine) / 2), math.sqrt((1 + cosine) / 2)
    t_low, t_high = np.sqrt(gap / 2)[:, None], np.sqrt(height / 2)[:, None]
    straight, crossed = s_height[None, :] / 2, s_gap[None, :] / 2

    def squares(first: Array, second: Array) -> Array:
        return 2 * ((first + second) ** 2 * straight + (first - second) ** 2 * crossed)

    values = function(squares(c_high * t_low, -c_low * t_high), squares(c_high * t_high, c_low * t_low))
    return float(weight @ values @ s_weight)


def mean_log_height(family: str, dim: int, tau: float, cosine: float) -> float:
    r"""$\mathbb{E}_q\log\frac12(1+\mu^\top z)$ for q of concentration τ about f, $\mu^\top f$ = `cosine`, d ≥ 3.

    For d = 3 the logarithm at −μ needs care. There the mean around f is elementary,
    $\frac1{2\pi}\int\log(A+B\cos\varphi)d\varphi = \log\frac{A+\sqrt{A^2-B^2}}2$ with $A = 1+ct$ and
    $A^2-B^2 = (c+t)^2$. What is left has a kink at t = −c, where a rule of n points is off by n⁻².
    """
    if dim > 3:
        return mean_over(dim, HEIGHTS[family](tau), cosine, HEIGHTS[POWER](1.0))
    gap, _, weight, _ = cosine_law(3, HEIGHTS[family](tau), points=1_000_000)
    return float(weight @ np.log((1 + cosine * (1 - gap) + np.abs(cosine + 1 - gap)) / 4))


def _harmonics(dim: int, cosine: float, degrees: Array) -> Array:
    """Gegenbauer polynomials P_l(c) with P_l(1) = 1."""
    if dim == 2:
        return np.cos(degrees * math.acos(cosine))
    nu = dim / 2 - 1
    return np.asarray(eval_gegenbauer(degrees, nu, cosine) / eval_gegenbauer(degrees, nu, 1.0))


def _eigenvalues(family: str, dim: int, kappa: float, degrees: Array) -> Array:
    r"""$\lambda_l$, by which a density smooths the harmonics of degree l = 1, 2, … ."""
    if family == FISHER:
        return np.asarray(ive(dim / 2 - 1 + degrees, kappa) / ive(dim / 2 - 1, kappa))
    return np.asarray(np.cumprod((kappa - degrees + 1) / (kappa + dim - 2 + degrees)))


def mean_log_height_by_series(family: str, dim: int, tau: float, cosine: float) -> float:
    r"""$\psi(b)-\psi(d-1)+\sum_{l\ge1}(-1)^{l-1}\frac{2l+d-2}{l(l+d-2)}\lambda_lP_l(c)$, as `mean_log_height`."""
    degrees = np.arange(1.0, 100.0)
    factor = (-1) ** (degrees - 1) * (2 * degrees + dim - 2) / (degrees * (degrees + dim - 2))
    series = factor * _eigenvalues(family, dim, tau, degrees) * _harmonics(dim, cosine, degrees)
    return float(digamma((dim - 1) / 2) - digamma(dim - 1) + series.sum())


def log_pair_series(dim: int, first: float, second: float, cosine: float) -> float:
    r"""$\log\{Z/C(0)\} = \log\sum_lN(d,l)\lambda_l(\kappa_1)\lambda_l(\kappa_2)P_l(c)$ of two Power Spherical."""
    degrees = np.arange(1.0, 100.0)
    count = binom(degrees + dim - 1, dim - 1) - binom(degrees + dim - 3, dim - 1)  # N, the dimension of the harmonics
    eigenvalues = [_eigenvalues(POWER, dim, kappa, degrees) for kappa in (first, second)]
    return float(np.log1p((count * eigenvalues[0] * eigenvalues[1] * _harmonics(dim, cosine, degrees)).sum()))


def log_log_slope(x: ArrayLike, y: ArrayLike) -> float:
    """Slope of log y over log x by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
