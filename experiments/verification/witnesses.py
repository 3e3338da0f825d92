r"""References that share nothing with the shipped special functions: quadrature over the sphere, and mpmath.

An integral of a function of the cosine $t = \mu^\top z$ is one over $t = \tanh u$,
$\int g\,dz = \omega_{d-1}\int g(t)(1-t^2)^{(d-3)/2}dt = \omega_{d-1}\int g\,\operatorname{sech}^{d-1}u\,du$, with
$\omega_{d-1}$ the area of the sphere of one dimension less. The integrand is analytic in a strip and decays
exponentially, so that the trapezoidal rule reaches rounding. $1\pm t$ are taken from u and keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp

Array = NDArray[np.float64]
LogHeight = Callable[[Array, Array], Array]
"""A logarithm of a function of the cosine, given 1 − t and 1 + t."""

_FALL = 50.0
_REACH = 45.0


def log_area(dim: int) -> float:
    """Logarithm of the area of the unit sphere in R^dim."""
    return float(math.log(2) + dim / 2 * math.log(math.pi) - gammaln(dim / 2))


def _split(u: Array) -> tuple[Array, Array]:
    """1 − tanh u and 1 + tanh u."""
    return 2 / (1 + np.exp(2 * u)), 2 / (1 + np.exp(-2 * u))


def _nodes(log_integrand: Callable[[Array], Array], points: int, fall: float) -> Array:
    """Equally spaced u where the integrand is not negligible."""
    coarse = np.linspace(-_REACH, _REACH, 20_001)
    values = log_integrand(coarse)
    kept = coarse[values > values.max() - fall]
    margin = coarse[1] - coarse[0]
    return np.linspace(kept[0] - margin, kept[-1] + margin, points)


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

    def log_integrand(u: Array) -> Array:
        gap, height = _split(u)
        value: Array = log_density(gap, height) + (dim - 1) / 2 * (np.log(gap) + np.log(height))
        return value

    u = _nodes(log_integrand, points, fall)
    logs = log_integrand(u) + math.log(u[1] - u[0])
    total = float(logsumexp(logs))
    gap, height = _split(u)
    rest = log_area(dim - 1) if dim > 2 else math.log(2)  # on the circle both sides of μ count
    return gap, height, np.exp(logs - total), total + rest


def von_mises_fisher_height(kappa: float) -> LogHeight:
    """κ(t − 1): the logarithm of the density over its value at the mode."""
    return lambda gap, height: -kappa * gap + 0 * height


def power_spherical_height(kappa: float) -> LogHeight:
    """κ log{(1 + t)/2}."""
    return lambda gap, height: kappa * np.where(gap < 0.5, np.log1p(-np.minimum(gap, 0.5) / 2), np.log(height / 2))


HEIGHTS: dict[str, Callable[[float], LogHeight]] = {
    "von Mises–Fisher": von_mises_fisher_height,
    "Power Spherical": power_spherical_height,
}


def log_peak(family: str, dim: int, kappa: float) -> float:
    """Log density at the mode, log C + κ or log C + κ log 2, by quadrature."""
    return -cosine_law(dim, HEIGHTS[family](kappa))[3]


def mean_over(
    dim: int,
    log_density: LogHeight,
    cosine: float,
    function: LogHeight,
    points: int = 500,
    fall: float = _FALL,
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
    one_plus = 2 * (
        (c_high * t_high + c_low * t_low) ** 2 * straight + (c_high * t_high - c_low * t_low) ** 2 * crossed
    )
    one_minus = 2 * (
        (c_high * t_low - c_low * t_high) ** 2 * straight + (c_high * t_low + c_low * t_high) ** 2 * crossed
    )
    values = function(one_minus, one_plus)
    return float(weight @ values @ s_weight)


def mean_log_height_in_space(log_density: LogHeight, cosine: float) -> float:
    r"""$\mathbb{E}_q\log\frac12(1+\mu^\top z)$ for d = 3, where the logarithm at −μ needs care.

    The mean around f is elementary, $\frac1{2\pi}\int\log(A+B\cos\varphi)d\varphi = \log\frac{A+\sqrt{A^2-B^2}}2$ with
    $A = 1+ct$ and $A^2-B^2 = (c+t)^2$; what is left has a kink at t = −c.
    """

    def density(t: float) -> float:
        return math.exp(float(log_density(np.array(1 - t), np.array(1 + t))))

    def integrand(t: float) -> float:
        return density(t) * math.log((1 + cosine * t + abs(cosine + t)) / 4)

    options: dict[str, Any] = {"epsabs": 1e-14, "epsrel": 1e-13, "limit": 400}
    parts = ((-1.0, -cosine), (-cosine, 1.0))
    total = sum(quad(density, *part, **options)[0] for part in parts)
    return float(sum(quad(integrand, *part, **options)[0] for part in parts) / total)


def exact_cosines(mu: Array, f: Array) -> list[list[Any]]:
    r"""$\mu_i^\top f_j$ of the directions of two stacks of vectors, in extended precision, as mpmath numbers."""
    long_mu, long_f = mu.astype(np.longdouble), f.astype(np.longdouble)
    long_mu /= np.sqrt((long_mu**2).sum(-1, keepdims=True))
    long_f /= np.sqrt((long_f**2).sum(-1, keepdims=True))
    cosines = long_mu @ long_f.T

    def number(x: np.longdouble) -> Any:
        high = float(x)
        return mpmath.mpf(high) + mpmath.mpf(float(x - np.longdouble(high)))

    return [[number(x) for x in row] for row in cosines]


def log_log_slope(x: Array, y: Array) -> float:
    """Slope of log y over log x by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
