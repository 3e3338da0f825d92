"""The derived expressions as functions of numbers: what the shipped code is compared with is what was verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from sympy import Expr, Indexed, Symbol, lambdify

from ssl_as_inference.derivations.normalizers import power_spherical_log_normalizer, von_mises_fisher_log_normalizer
from ssl_as_inference.derivations.notation import Inner, LogNormalizer, M, N, concentrations, d, f, kappa, mu

Family = Literal["von Mises–Fisher", "Power Spherical"]

_NORMALIZERS: dict[str, Callable[[Any, Any], Expr]] = {
    "von Mises–Fisher": von_mises_fisher_log_normalizer,
    "Power Spherical": power_spherical_log_normalizer,
}


def compile_loss(
    expression: Expr, family: Family, views: int, modules: Any = "mpmath"
) -> Callable[[int, Sequence[Any], Sequence[Sequence[Any]]], Any]:
    r"""Turn a loss in terms of $\kappa_i$ and $\mu_i^\top f_j$ into a function of numbers.

    Args:
        expression: A loss such as `vi_simsiam.CORRECTED_LOSS.result`.
        family: Which normaliser $\log C$ stands for.
        views: M, or the number of images N where the loss is a sum over a batch.
        modules: What `sympy.lambdify` computes with.

    Returns:
        A function of d, the M concentrations (of which a loss of constant κ takes the first) and the M × M cosines.

    Raises:
        ValueError: If the family is unknown.

    Example:
        >>> from ssl_as_inference.derivations.vi_simsiam import CORRECTED_LOSS
        >>> loss = compile_loss(CORRECTED_LOSS.result, "Power Spherical", views=2)
        >>> cosines = [[0.5, 0.5], [0.5, 0.5]]
        >>> round(float(loss(3, [1.0, 1.0], cosines)), 9)  # −2 log{(1 + c)/4π}
        4.251118278
    """
    if family not in _NORMALIZERS:
        raise ValueError(f"family must be one of {sorted(_NORMALIZERS)}, got {family!r}")
    indices = range(1, views + 1)
    kappas = [Symbol(f"kappa_{a}") for a in indices]
    cosines = [[Symbol(f"c_{a}_{b}") for b in indices] for a in indices]
    explicit = expression.subs({M: views, N: views}).doit()
    explicit = explicit.replace(LogNormalizer, lambda k: _NORMALIZERS[family](d, k))
    numbers: dict[Expr, Symbol] = {kappa: kappas[0]}
    numbers |= {concentrations[a]: kappas[a - 1] for a in indices}
    numbers |= {Inner(mu[a], f[b]): cosines[a - 1][b - 1] for a in indices for b in indices}
    explicit = explicit.xreplace(numbers)
    unknown = explicit.atoms(Indexed, Inner)
    if unknown:
        raise ValueError(f"expression must be in terms of kappa[i] and Inner(mu[i], f[j]), also got {unknown}")
    compiled: Callable[..., Any] = lambdify([d, kappas, cosines], explicit, modules=modules)
    return compiled
