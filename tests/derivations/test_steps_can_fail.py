"""A derivation that is tampered with is refused: what verifies the steps can tell right from wrong."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sympy import Derivative, Expr, Integral, Limit, Sum, Symbol, log, loggamma, polygamma

from experiments.verification.report import all_derivations
from ssl_as_inference import derivations as package
from ssl_as_inference.derivations.dirac_guide import GUIDE
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.notation import (
    Dirac,
    Inner,
    LogNormalizer,
    M,
    N,
    SphereIntegral,
    canonical,
    concentrations,
    f,
    i,
    j,
    mu,
    sift,
    to_latex,
    z,
)
from ssl_as_inference.derivations.product_of_experts import VON_MISES_FISHER_LOG_Z
from ssl_as_inference.derivations.step import Derivation, DerivationError, Step
from ssl_as_inference.derivations.vi_simsiam import CORRECTED_LOSS, PRINTED_LOSS

SLOW = ("series terminates",)  # to simplify when wrong
DERIVATIONS = [d for d in all_derivations() if not any(word in d.title for word in SLOW)]

TAMPERINGS: dict[str, Callable[[Expr], Expr]] = {
    "sign": lambda e: -e,
    "factor of M": lambda e: M * e,
    "constant": lambda e: e + 1,
}


def title(derivation: Any) -> str:
    return f"{derivation.equation} {derivation.title}"


@pytest.mark.parametrize("tampering", TAMPERINGS)
@pytest.mark.parametrize("derivation", DERIVATIONS, ids=title)
def test_a_tampered_result_is_refused(derivation: Derivation, tampering: str) -> None:
    last = derivation.steps[-1]
    wrong = replace(last, right=TAMPERINGS[tampering](last.right))
    if wrong.right == last.right:  # minus zero, and M times zero
        return
    with pytest.raises(DerivationError):
        replace(derivation, steps=(*derivation.steps[:-1], wrong)).verify()


# Where the rule is an integration or a derivative, SymPy's own simplification carries it out as well.
RULES = [
    (d, k)
    for d in DERIVATIONS
    for k, step in enumerate(d.steps)
    if (step.by is not None or step.given) and not step.left.has(Integral, Derivative, Limit)
]


@pytest.mark.parametrize(("derivation", "number"), RULES, ids=lambda x: x if isinstance(x, int) else title(x))
def test_a_step_does_not_hold_without_its_rule(derivation: Derivation, number: int) -> None:
    with pytest.raises(DerivationError):
        replace(derivation.steps[number], by=None, given={}).verify()


def test_the_printed_equation_12_does_not_follow() -> None:
    last = CORRECTED_LOSS.steps[-1]
    for wrong in (PRINTED_LOSS, PRINTED_LOSS / M):
        with pytest.raises(DerivationError):
            replace(last, right=wrong).verify()


def test_a_swapped_index_is_refused() -> None:
    last = CORRECTED_LOSS.steps[-1]
    k = concentrations
    swapped = -Sum(LogNormalizer(k[i]) + k[j] * log(1 + Inner(mu[i], f[j])), (i, 1, M), (j, 1, M)) / M
    with pytest.raises(DerivationError):
        replace(last, right=swapped).verify()


def test_the_normaliser_of_the_product_needs_the_resultant() -> None:
    last = VON_MISES_FISHER_LOG_Z.steps[-1]
    with pytest.raises(DerivationError):
        replace(last, right=last.right + LogNormalizer(Symbol("R", positive=True))).verify()


def test_sifting_takes_the_value_at_the_atom() -> None:
    integral = SphereIntegral(GUIDE * Inner(mu[1], z) ** 2, z)
    assert canonical(sift(integral) - Sum(Inner(mu[1], f[j]) ** 2, (j, 1, M)) / M) == 0
    assert sift(SphereIntegral(Dirac(z, f[1]) * Inner(mu[1], z), z)) == Inner(mu[1], f[1])


def test_inner_products_are_bilinear_and_symmetric() -> None:
    a = Symbol("a", positive=True)
    assert Inner(f[1], mu[1]) == Inner(mu[1], f[1])
    assert canonical(Inner(a * mu[1] + mu[2], f[1]) - a * Inner(mu[1], f[1]) - Inner(mu[2], f[1])) == 0
    assert canonical(Inner(mu[1], f[1]) - Inner(mu[1], f[2])) != 0


@pytest.mark.parametrize("count", [M, N], ids=str)
def test_a_step_that_is_false_for_three_views_or_images_alone_is_refused(count: Expr) -> None:
    with pytest.raises(DerivationError, match=f"{count} = 3"):
        Step("wrong at 3", Sum(1, (i, 1, count)), count + (count - 2) * (count - 4), symbolic=False).verify()


def test_compiling_an_unknown_family_or_a_foreign_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="family must be one of"):
        compile_loss(CORRECTED_LOSS.result, "Gaussian", 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expression must be in terms of"):
        compile_loss(Inner(mu[1], z), "Power Spherical", 2)


@pytest.mark.parametrize("derivation", all_derivations(), ids=title)
def test_a_reader_sees_each_step_rewrite_something(derivation: Derivation) -> None:
    for step in derivation:
        assert to_latex(step.left) != to_latex(step.right), f"{step.rule}: {to_latex(step.left)}"


def test_every_derivation_of_the_package_is_verified_by_a_claim() -> None:
    found: list[Derivation] = []
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            found += [
                each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Derivation)
            ]
    assert len(all_derivations()) >= 40
    assert not [title(derivation) for derivation in found if derivation not in all_derivations()]


def test_the_report_takes_the_derivations_in_the_order_of_the_paper_and_then_what_is_beyond_it() -> None:
    first = {derivation.equation: number for number, derivation in reversed(list(enumerate(all_derivations())))}
    assert first["Eq. (1)"] < first["Eqs. (2)–(4)"] < first["Eq. (5)"] < first["Eq. (8)"] < first["Eq. (12)"]
    assert first["Eq. (12)"] < first["Alg. 1"] < first["InfoNCE"] == max(first.values())


def test_both_sides_of_an_inner_product_stand_in_brackets_where_they_are_sums() -> None:
    assert to_latex(Inner(mu[1] - f[2], mu[1] - f[2])).count(r"\left(") == 2


def test_gamma_functions_are_printed_as_they_are_written_by_hand() -> None:
    x = Symbol("x")
    assert to_latex(loggamma(x) ** 2) == r"\left[\log\Gamma\left(x\right)\right]^{2}"
    assert to_latex(polygamma(0, x)) == r"\psi\left(x\right)"
    assert to_latex(polygamma(1, x)) == r"\psi^{(1)}\left(x\right)"


def test_latex_is_printed_from_the_steps() -> None:
    for derivation in all_derivations():
        text = derivation.latex()
        rows = text.split("\\\\\n")
        assert [row.strip() for row in rows[1::2]] == [
            rf"& \triangleright\ \text{{{step.rule}}}" for step in derivation
        ]
        assert len(rows) == 1 + 2 * len(derivation.steps)
