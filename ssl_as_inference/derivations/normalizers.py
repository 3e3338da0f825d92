r"""The normalisers $\log C(\kappa)$ of Eqs. (7) and (11) in closed form, and the integrals that they come from."""

from __future__ import annotations

from sympy import (
    Derivative,
    Expr,
    Integer,
    Integral,
    Mul,
    Rational,
    Sum,
    Symbol,
    besseli,
    exp,
    expand_power_base,
    factorial,
    gamma,
    gammasimp,
    log,
    loggamma,
    oo,
    pi,
    powsimp,
    simplify,
)

from ssl_as_inference.derivations.notation import d, differentiate, kappa
from ssl_as_inference.derivations.step import Derivation, Step

nu = Symbol("nu", positive=True)
t = Symbol("t", real=True)
_s = Symbol("s", positive=True)
_n = Symbol("n", integer=True, nonnegative=True)


def von_mises_fisher_log_normalizer(dim: Expr | int = d, concentration: Expr = kappa) -> Expr:
    r"""$\log C(\kappa) = \nu\log\kappa - \frac d2\log 2\pi - \log I_\nu(\kappa)$, $\nu = d/2-1$, of Eq. (7)."""
    half = Rational(1, 2) * dim
    return (half - 1) * log(concentration) - half * log(2 * pi) - log(besseli(half - 1, concentration))


def power_spherical_log_normalizer(dim: Expr | int = d, concentration: Expr = kappa) -> Expr:
    r"""$\log C(\kappa) = -[(a+b)\log2 + b\log\pi + \log\Gamma(a) - \log\Gamma(a+b)]$ of Eq. (11).

    Here $b = (d-1)/2$ and $a = b+\kappa$.
    """
    b = Rational(1, 2) * (dim - 1)
    a = b + concentration
    return -((a + b) * log(2) + b * log(pi) + loggamma(a) - loggamma(a + b))


def mean_resultant_length(order: Expr = nu, concentration: Expr = kappa) -> Expr:
    r"""$A(\kappa) = I_{\nu+1}(\kappa)/I_\nu(\kappa)$ of the von Mises–Fisher distribution."""
    return besseli(order + 1, concentration) / besseli(order, concentration)


def integral_over_the_sphere(height: Expr, dim: Expr | int = d) -> Expr:
    r"""$\int h(\mu^\top z)\,dz$ over the sphere, as an integral over the cosine t."""
    b = Rational(1, 2) * (dim - 1)
    circle = 2 * pi**b / gamma(b)  # area of the sphere of one dimension less
    return circle * Integral(height * ((1 - t) * (1 + t)) ** (b - 1), (t, -1, 1))


def _powers(integrand: Expr) -> dict[Expr, Expr]:
    """Bases and exponents of a product of powers, 1 − t² as (1 − t)(1 + t)."""
    split = integrand.subs(1 - t**2, Mul(1 - t, 1 + t, evaluate=False))
    found: dict[Expr, Expr] = expand_power_base(split, force=True).as_powers_dict()
    return found


def _from_zero_to_one(expression: Expr) -> Expr:
    """Substitute t = 2s − 1 in the integrals over the cosine."""

    def apply(integrand: Expr, limits: Expr) -> Expr:
        if limits[0] != t:
            return Integral(integrand, limits)
        rest = Symbol("rest", positive=True)  # 1 − s, which SymPy would not know to be positive
        halves = {1 - t: 2 * rest, 1 + t: 2 * _s}
        substituted = Mul(2, *[halves.get(base, base) ** exponent for base, exponent in _powers(integrand).items()])
        split = expand_power_base(substituted.subs(t, 2 * _s - 1))
        return Integral(split.subs(rest, 1 - _s), (_s, 0, 1))

    return expression.replace(Integral, apply)


def beta_integral(expression: Expr) -> Expr:
    r"""$\int_0^1s^{p-1}(1-s)^{q-1}ds = B(p, q)$ and $\int_{-1}^1t^{2n}(1-t^2)^{q-1}dt = B(n+\frac12, q)$.

    Anything else stays as it is (DLMF 5.12.1).
    """

    def apply(integrand: Expr, limits: Expr) -> Expr:
        powers = _powers(integrand)
        variable, ends = limits[0], tuple(limits[1:])
        p, minus = powers.pop(variable, Integer(0)), powers.pop(1 - variable, Integer(0))
        plus = powers.pop(1 + variable, Integer(0))
        rest = Mul(*[base**exponent for base, exponent in powers.items()])
        if not rest.has(variable) and ends == (0, 1) and plus == 0:
            return rest * _beta(p + 1, minus + 1)
        if not rest.has(variable) and ends == (-1, 1) and plus == minus and (p / 2).is_integer:
            return rest * _beta((p + 1) / 2, minus + 1)
        return Integral(integrand, limits)

    return expression.replace(Integral, apply)


def _beta(p: Expr, q: Expr) -> Expr:
    return gamma(p) * gamma(q) / gamma(p + q)


def _even_powers_of_the_exponential(expression: Expr) -> Expr:
    r"""Write $\int e^{\kappa t}w(t)dt$, w even, as $\sum_n\frac{\kappa^{2n}}{(2n)!}\int t^{2n}w(t)dt$."""

    def apply(integrand: Expr, limits: Expr) -> Expr:
        weight = integrand / exp(kappa * t)
        if weight.has(exp) or simplify(weight - weight.subs(t, -t)) != 0:
            return Integral(integrand, limits)
        return Sum(kappa ** (2 * _n) / factorial(2 * _n) * Integral(t ** (2 * _n) * weight, limits), (_n, 0, oo))

    return expression.replace(Integral, apply)


def _series_of_the_bessel_function(expression: Expr) -> Expr:
    r"""Sum multiples of $I_\nu(\kappa) = \sum_n\frac{(\kappa/2)^{2n+\nu}}{n!\,\Gamma(n+\nu+1)}$ (DLMF 10.25.2)."""
    order = d / 2 - 1
    series = (kappa / 2) ** (2 * _n + order) / (factorial(_n) * gamma(_n + order + 1))

    def apply(term: Expr, limits: Expr) -> Expr:
        multiple = gammasimp(term / series)
        multiple = powsimp(expand_power_base(multiple, force=True))
        return Sum(term, limits) if multiple.has(_n) else multiple * besseli(order, kappa)

    return simplify(expression.replace(Sum, apply))


_vmf_integral = exp(von_mises_fisher_log_normalizer()) * integral_over_the_sphere(exp(kappa * t))
_weight = ((1 - t) * (1 + t)) ** ((d - 1) / 2 - 1)
_coefficient = kappa ** (2 * _n) / factorial(2 * _n)
_before = exp(von_mises_fisher_log_normalizer()) * 2 * pi ** ((d - 1) / 2) / gamma((d - 1) / 2)

VON_MISES_FISHER_NORMALIZES = Derivation(
    "Eq. (7)",
    "the von Mises–Fisher density integrates to one",
    (
        Step(
            "power series of the exponential, whose odd powers integrate to zero",
            _vmf_integral,
            _before * Sum(_coefficient * Integral(t ** (2 * _n) * _weight, (t, -1, 1)), (_n, 0, oo)),
            by=_even_powers_of_the_exponential,
        ),
        Step(
            "beta integral",
            _before * Sum(_coefficient * Integral(t ** (2 * _n) * _weight, (t, -1, 1)), (_n, 0, oo)),
            _before * Sum(_coefficient * _beta(_n + Rational(1, 2), (d - 1) / 2), (_n, 0, oo)),
            by=beta_integral,
        ),
        Step(
            "power series of the Bessel function",
            _before * Sum(_coefficient * _beta(_n + Rational(1, 2), (d - 1) / 2), (_n, 0, oo)),
            Integer(1),
            by=_series_of_the_bessel_function,
        ),
    ),
)

_ps_before = exp(power_spherical_log_normalizer()) * 2 * pi ** ((d - 1) / 2) / gamma((d - 1) / 2)
_ps_integrand = 2 ** (kappa + d - 2) * _s ** (kappa + (d - 3) / 2) * (1 - _s) ** ((d - 3) / 2)

POWER_SPHERICAL_NORMALIZES = Derivation(
    "Eq. (11)",
    "the Power Spherical density integrates to one",
    (
        Step(
            "substitution t = 2s − 1",
            exp(power_spherical_log_normalizer()) * integral_over_the_sphere((1 + t) ** kappa),
            _ps_before * Integral(_ps_integrand, (_s, 0, 1)),
            by=_from_zero_to_one,
        ),
        Step(
            "beta integral",
            _ps_before * Integral(_ps_integrand, (_s, 0, 1)),
            Integer(1),
            by=lambda e: simplify(beta_integral(e).replace(loggamma, lambda x: log(gamma(x)))),
        ),
    ),
)


def _without_lower_order(expression: Expr) -> Expr:
    r"""Apply the recurrence $I_{\nu-1} = I_{\nu+1} + (2\nu/\kappa)I_\nu$ (DLMF 10.29.1)."""
    recurrence = besseli(nu + 1, kappa) + 2 * nu / kappa * besseli(nu, kappa)
    return simplify(expression.subs(besseli(nu - 1, kappa), recurrence))


_log_c = von_mises_fisher_log_normalizer(2 * nu + 2)

MEAN_RESULTANT_LENGTH = Derivation(
    "Eq. (7)",
    "the mean resultant length is minus the derivative of the log-normaliser",
    (
        Step(
            "derivative of the log-normaliser, recurrence of the Bessel functions",
            -Derivative(_log_c, kappa),
            mean_resultant_length(),
            by=lambda e: _without_lower_order(differentiate(e)),
        ),
    ),
)
