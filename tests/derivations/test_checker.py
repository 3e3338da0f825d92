"""What checks the claims is checked itself: each kind of planted error must be reported, and right answers pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from sympy import Derivative, Expr, Function, Integer, Integral, Rational, Sum, Symbol, besseli, exp, log, oo

from experiments.special_cases import calibration, negative_results, stop_gradient
from experiments.verification import trajectories, witnesses
from experiments.verification.claim import Claim, Outcome, claim, largest, symbolic, worst_of, z_score
from experiments.verification.lab import (
    FISHER,
    POWER,
    Lab,
    Table,
    Tables,
    cosine_slope,
    draw_table,
    kappa_slope,
    relative_error,
)
from experiments.verification.ledger import run
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations import multimodal_vi, normalizers, product_of_experts, vi_simsiam
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.notation import (
    Dirac,
    Inner,
    LogNormalizer,
    M,
    SphereIntegral,
    canonical,
    concentrations,
    d,
    differentiate,
    f,
    i,
    j,
    kappa,
    mu,
    sift,
    z,
)
from ssl_as_inference.derivations.step import Derivation, DerivationError, Step, jensen, positive_terms

LAB = Lab()
TRUE = Derivation("Eq. (0)", "true", (Step("arithmetic", Integer(1) + M, M + Integer(1)),))
FALSE = Derivation("Eq. (0)", "false", (Step("arithmetic", Integer(1) + M, Integer(2) * M),))


# the claims


@pytest.mark.parametrize(
    ("derivations", "error"),
    [((TRUE,), 0), ((FALSE,), 1), ((TRUE, FALSE), 1), ((FALSE, TRUE), 1), ((FALSE, TRUE, FALSE), 2)],
    ids=["true", "false", "the last", "the first", "two of three"],
)
def test_a_symbolic_claim_counts_the_derivations_that_fail(derivations: Any, error: int) -> None:
    def statement() -> Any:
        """They hold."""
        return derivations

    made = symbolic("C0", "Eq. (0)")(statement)
    outcome = made.check(LAB)
    assert outcome.error == error
    assert made.passed(outcome) is (error == 0)
    assert ("false: arithmetic" in outcome.detail) is (error > 0)
    assert made.statement.startswith("They hold: $M + 1 = ")
    assert made.extent == "symbolic in M"


@pytest.mark.parametrize("planted", [(a, b) for a in (1, 2, 3) for b in ("x", "y")], ids=str)
@pytest.mark.parametrize("error", [0.5, math.nan, math.inf, -math.inf])
def test_an_error_in_any_one_case_of_a_claim_is_reported(planted: tuple[int, str], error: float) -> None:
    @claim("C0", "", 0.1, number=(1, 2, 3), name=("x", "y"))
    def check(number: int, name: str) -> float:
        """All are small."""
        return error if (number, name) == planted else 0.01

    result = run(check, LAB)
    assert not result.passed
    assert result.outcome.detail == f"largest of 6 at number = {planted[0]}, {planted[1]}"


def test_a_claim_without_error_holds_and_says_for_what_it_was_checked() -> None:
    @claim("C0", "", 0.1, dim__kappa=((2, 0.5), (3, 1e5)), family=("vMF",))
    def check(dim: int, kappa: float, family: str) -> dict[str, float]:
        """A statement.

        It has two sentences.

        Error: relative.

        Correction: It was one.
        """
        return {"a": dim * 1e-3, family: kappa * 1e-7}

    result = run(check, LAB)
    assert result.passed
    assert result.outcome == Outcome(0.01, "relative; largest of 4 at d = 3, κ = 100000, vMF, vMF")
    assert check.extent == "d = 2, κ = 0.5; d = 3, κ = 100000; vMF"
    assert (check.statement, check.correction) == ("A statement. It has two sentences.", "It was one.")


def test_what_every_case_measured_is_told() -> None:
    @claim("C0", "", 1.0, number=(1, 2))
    def check(number: int) -> Outcome:
        """Measured."""
        return Outcome(number / 4, f"found {number}")

    assert check.check(LAB) == Outcome(0.5, "found 1; found 2; largest of 2 at number = 2")


def test_a_claim_whose_axis_is_empty_has_not_been_checked_and_fails() -> None:
    @claim("C0", "", 1.0, number=lambda _: [])
    def check(number: int) -> float:
        """Nothing."""
        return 0.0 * number

    assert not run(check, LAB).passed


def test_axes_are_drawn_from_the_seed_of_the_lab() -> None:
    def numbers(lab: Lab) -> Iterator[float]:
        yield from lab.rng.random(3)

    @claim("C0", "", 1.0, number=numbers)
    def check(number: float) -> float:
        """Drawn."""
        return number

    first, again, other = (run(check, Lab(seed=seed)).outcome for seed in (3, 3, 4))
    assert first == again != other


def test_the_largest_error_is_found_wherever_it_stands() -> None:
    for order in ([3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]):
        assert largest(order) == 3
        assert worst_of((f"{x:g}", x) for x in order) == Outcome(3.0, "largest of 3 at 3")
    assert math.isinf(largest([0.0, math.nan, 1.0]))
    with pytest.raises(ValueError, match="empty"):
        largest([])


def test_a_biased_mean_has_a_large_z_score_and_an_unbiased_one_has_not() -> None:
    samples = torch.tensor([1.0, -1.0] * 200)
    error = math.sqrt(400 / 399 / 400)
    assert z_score(samples, 0.0) == 0
    for shift in (-6 * error, 6 * error):
        assert z_score(samples + shift, 0.0) == pytest.approx(6, rel=1e-6)


# the steps of derivations


def test_a_step_that_is_false_but_for_the_numbers_of_views_that_are_written_out_is_refused() -> None:
    with pytest.raises(DerivationError, match="a symbolic M"):
        Step("wrong for five", (M - 2) * (M - 3) * (M - 4), Integer(0)).verify()


def test_a_step_that_is_false_for_one_number_of_views_is_refused() -> None:
    at_three = Sum(1, (i, 1, M)) - M + (M - 2) * (M - 4)
    with pytest.raises(DerivationError, match="M = 3"):
        Step("wrong at three", at_three, Integer(0), symbolic=False).verify()


def test_every_step_is_verified_not_the_first_alone() -> None:
    good, bad = Step("good", M, M + 0), Step("bad", M, M + 1)
    with pytest.raises(DerivationError, match="bad"):
        Derivation("", "", (good, bad)).verify()
    with pytest.raises(DerivationError, match="bad"):
        Derivation("", "", (bad, Step("good", M + 1, M + 1))).verify()


def test_steps_that_do_not_meet_are_refused() -> None:
    with pytest.raises(DerivationError, match="starts at"):
        Derivation("", "", (Step("a", M, M), Step("b", M + 1, M + 1))).verify()


q, u = Function("q"), Function("u")


@pytest.mark.parametrize(
    ("convex", "left", "right"),
    [
        (log, lambda x: SphereIntegral(q(z) * log(x(z)), z), log),  # concave
        (lambda x: -log(x), lambda x: SphereIntegral(q(z) * log(x(z)), z), lambda x: -log(x)),  # another function
        (lambda x: -log(x), lambda x: -2 * SphereIntegral(q(z) * log(x(z)), z), lambda x: -log(x)),
    ],
    ids=["concave", "another left side", "a factor"],
)
def test_jensens_inequality_is_refused_where_it_does_not_hold(convex: Any, left: Any, right: Any) -> None:
    mean = SphereIntegral(q(z) * u(z), z)
    step = Step("Jensen", left(u), right(mean), at_least=jensen(convex, q(z), u(z), z))
    with pytest.raises(DerivationError, match="not shown to be ≥ 0"):
        step.verify()
    right_one = Step("Jensen", -SphereIntegral(q(z) * log(u(z)), z), -log(mean), at_least=jensen(_minus, q(z), u(z), z))
    right_one.verify()
    assert right_one.relation == r"\ge"


def _minus(x: Expr) -> Expr:
    return -log(x)


def test_an_inequality_turned_round_is_refused() -> None:
    step = multimodal_vi.KL_IS_NOT_NEGATIVE.steps[1]
    with pytest.raises(DerivationError):
        replace(step, left=step.right, right=step.left).verify()
    curvature = vi_simsiam.SLOPE_INCREASES.steps[1]
    with pytest.raises(DerivationError):
        replace(curvature, left=-curvature.left).verify()


def test_a_sum_with_a_negative_term_is_not_positive() -> None:
    n, x = Symbol("n", integer=True, nonnegative=True), Symbol("x", positive=True)
    assert positive_terms(Sum(1 / (x + n) ** 2, (n, 0, oo)))
    assert not positive_terms(Sum((n - 1) / (x + n) ** 4, (n, 0, oo)))
    assert not positive_terms(Sum(1 / (x + n) ** 2, (n, 0, oo)) - 1)
    assert not positive_terms(Sum(1 / (x + n) ** 2, (n, 0, oo)) - Sum(1 / (x + n) ** 3, (n, 1, oo)))


ETA = Sum(concentrations[i] * mu[i], (i, 1, M))


@pytest.mark.parametrize(
    "integrand",
    [
        exp(Inner(ETA, z) ** 2),
        exp(2 * Inner(ETA, z)),
        exp(-Inner(ETA, z)),
        exp(Inner(mu[1], z)),
        exp(concentrations[1] * Inner(mu[1], z)),
        1 + exp(Inner(ETA, z)),
        Inner(ETA, z),
    ],
    ids=str,
)
def test_the_normaliser_of_an_exponential_family_is_that_of_its_own_exponent_alone(integrand: Expr) -> None:
    rule = product_of_experts.VON_MISES_FISHER_LOG_Z.steps[-1].by
    assert rule is not None
    assert rule(SphereIntegral(integrand, z)) == SphereIntegral(integrand, z)
    assert not rule(SphereIntegral(exp(canonical(Inner(ETA, z))), z)).has(SphereIntegral)


def test_the_resultant_of_the_normaliser_is_the_length_of_eta() -> None:
    two = product_of_experts.R.subs(M, 2).doit()
    k = concentrations
    expected = k[1] ** 2 * Inner(mu[1], mu[1]) + 2 * k[1] * k[2] * Inner(mu[1], mu[2]) + k[2] ** 2 * Inner(mu[2], mu[2])
    assert canonical(two**2 - expected) == 0
    wrong = LogNormalizer(product_of_experts.R * 2)
    last = product_of_experts.VON_MISES_FISHER_LOG_Z.steps[-1]
    with pytest.raises(DerivationError):
        replace(last, right=last.right + LogNormalizer(product_of_experts.R) - wrong).verify()


def test_an_inner_product_of_two_sums_over_one_index_has_all_their_pairs() -> None:
    product = canonical(Inner(ETA, ETA))
    assert canonical(product.subs(M, 2).doit() - product_of_experts.R.subs(M, 2).doit() ** 2) == 0


def test_sifting_needs_one_dirac_measure_in_the_variable() -> None:
    for integrand in (Dirac(z, f[1]) * Dirac(z, f[2]), Inner(mu[1], z), Dirac(mu[1], f[1]) * Inner(mu[1], z)):
        assert sift(SphereIntegral(integrand, z)).has(SphereIntegral)


def test_derivatives_are_carried_out_where_they_are_asked_for() -> None:
    assert differentiate(Derivative(kappa**2, kappa) * kappa) == 2 * kappa**2


t = normalizers.t
SPHERE = ((1 - t) * (1 + t)) ** ((d - 1) / 2 - 1)


@pytest.mark.parametrize("dim", [2, 3, 4, 7])
@pytest.mark.parametrize("power", [0, 2, 6])
def test_the_beta_integral_is_that_of_numerical_integration(dim: int, power: int) -> None:
    found = normalizers.beta_integral(Integral(t**power * SPHERE.subs(d, dim), (t, -1, 1)))
    expected = quad(lambda x: math.sin(x) ** (dim - 2) * math.cos(x) ** power, 0, math.pi)[0]  # t = cos x
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "integral",
    [
        Integral(t * SPHERE, (t, -1, 1)),
        Integral((1 - t) * SPHERE, (t, -1, 1)),
        Integral(SPHERE, (t, 0, 1)),
        Integral(exp(t) * SPHERE, (t, -1, 1)),
        Integral(SPHERE, (t, -1, Rational(1, 2))),
    ],
    ids=["odd", "lopsided", "half", "with another factor", "cut off"],
)
def test_the_beta_integral_leaves_alone_what_is_none(integral: Expr) -> None:
    assert normalizers.beta_integral(integral).has(Integral)


@pytest.mark.parametrize("dim", [3, 5])
def test_both_densities_integrate_to_one_by_sympys_own_integration(dim: int) -> None:
    heights = {
        normalizers.von_mises_fisher_log_normalizer(dim, Rational(7, 2)): exp(Rational(7, 2) * t),
        normalizers.power_spherical_log_normalizer(dim, Integer(3)): (1 + t) ** 3,
    }
    for log_normalizer, height in heights.items():
        total = exp(log_normalizer) * normalizers.integral_over_the_sphere(height, dim).doit()
        assert float(total) == pytest.approx(1, rel=1e-12)


def test_wrong_normalisers_are_refused() -> None:
    for derivation in (normalizers.VON_MISES_FISHER_NORMALIZES, normalizers.POWER_SPHERICAL_NORMALIZES):
        last = derivation.steps[-1]
        wrong = [replace(step, right=step.right + 1) for step in derivation.steps]
        for step in (*wrong, replace(last, right=last.right * 2), replace(last, right=last.right * kappa)):
            with pytest.raises(DerivationError):
                step.verify()


def test_an_odd_weight_or_another_series_is_left_alone() -> None:
    series, bessel = (normalizers.VON_MISES_FISHER_NORMALIZES.steps[k].by for k in (0, 2))
    assert series is not None
    assert bessel is not None
    odd = Integral(exp(kappa * t) * (1 - t), (t, -1, 1))
    assert series(odd) == odd
    n = Symbol("n", integer=True, nonnegative=True)
    exponential = Sum(kappa**n / (n + 1), (n, 0, oo))
    assert not bessel(exponential).has(besseli)


# losses and tables


_k = concentrations
FISHER_LOSS = -Sum(LogNormalizer(_k[i]) + _k[i] * Inner(mu[i], f[j]), (i, 1, M), (j, 1, M)) / M


@dataclass(frozen=True)
class Wrong(Table):
    """A table whose loss is off by what is planted."""

    planted: float = 0.0

    def loss(self, objective: Any) -> float:
        return super().loss(objective) + self.planted


@pytest.mark.parametrize("family", [FISHER, POWER])
def test_a_loss_that_is_not_the_derived_one_is_found(family: str) -> None:
    drawn = draw_table(LAB, family, 3, 3)
    expression = FISHER_LOSS if family == FISHER else vi_simsiam.CORRECTED_LOSS.result
    assert drawn.error(expression, KLObjective("all")) < 1e-14
    planted = Wrong(drawn.family, drawn.mu, drawn.kappa, drawn.f, drawn.lab, planted=1e-6 * drawn.scale)
    assert planted.error(expression, KLObjective("all")) == pytest.approx(1e-6, rel=0.5)
    assert drawn.error(expression, KLObjective("cross")) > 1e-6


def test_a_swapped_cosine_is_found() -> None:
    drawn = draw_table(Lab(seed=1), POWER, 3, 2).with_kappa(np.array([2.0, 50.0]))
    swapped = compile_loss(vi_simsiam.CORRECTED_LOSS.result, "Power Spherical", 2)
    cosines = drawn.mu @ drawn.f.T
    right, wrong = (float(swapped(3, drawn.kappa.tolist(), c.tolist())) for c in (cosines, cosines.T))
    assert relative_error(drawn.loss(KLObjective("all")), right, drawn.scale) < 1e-14
    assert relative_error(drawn.loss(KLObjective("all")), wrong, drawn.scale) > 1e-3


def test_tables_go_through_every_combination() -> None:
    drawn = list(Tables((POWER,), dims=(2, 5), views=(1, 3), repeat=2)(Lab()))
    assert [(table.dim, table.count) for table in drawn] == [(2, 1)] * 2 + [(2, 3)] * 2 + [(5, 1)] * 2 + [(5, 3)] * 2
    assert len({table.kappa[0] for table in drawn}) == 8
    for table in drawn:
        for vectors in (table.mu, table.f):
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1)
    assert {table.family for table in Tables(dims=(2,), views=(1,))(Lab())} == {FISHER, POWER}
    constant, fixed = (next(Tables(views=(3,), **options)(Lab())) for options in ({"constant": True}, {"kappa": 4.0}))
    assert len(set(constant.kappa)) == 1
    assert set(fixed.kappa) == {4.0}


def test_a_fresh_lab_draws_the_same_and_another_seed_does_not() -> None:
    first, again, other = (Lab(seed=seed).directions(2, 3) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_errors_are_relative_to_the_largest_of_one_reference_and_scale() -> None:
    assert relative_error(1.5, 1.0) == 0.5
    assert relative_error(15.0, 10.0) == 0.5
    assert relative_error(1.5, 1.0, 5.0) == 0.1


@pytest.mark.parametrize("cosine", [-0.7, 0.0, 0.9])
def test_slopes_are_those_of_differences(cosine: float) -> None:
    def loss(cosine: Any, kappa: Any) -> Any:
        b = mpmath.mpf(3) / 2
        log_c = -((2 * b + kappa) * mpmath.log(2) + b * mpmath.log(mpmath.pi))
        log_c += mpmath.loggamma(2 * b + kappa) - mpmath.loggamma(b + kappa)
        return -(log_c + kappa * mpmath.log1p(cosine))

    in_cosine = mpmath.diff(lambda c: loss(c, 5.0), cosine)
    in_kappa = mpmath.diff(lambda k: loss(cosine, k), 5.0)
    assert cosine_slope(LAB, POWER, 4, 5.0, cosine) == pytest.approx(float(in_cosine), rel=1e-9)
    assert kappa_slope(LAB, POWER, 4, 5.0, cosine) == pytest.approx(float(in_kappa), rel=1e-9)


# the witnesses


def test_quadrature_gives_what_is_known_in_space() -> None:
    kappa_ = 3.7
    integral = witnesses.cosine_law(3, witnesses.von_mises_fisher_height(kappa_))[3]
    assert integral + kappa_ == pytest.approx(math.log(4 * math.pi * math.sinh(kappa_) / kappa_), rel=1e-13)
    assert witnesses.mean_gap(FISHER, 3, kappa_) == pytest.approx(1 - (1 / math.tanh(kappa_) - 1 / kappa_), rel=1e-12)
    assert witnesses.mean_gap(POWER, 3, kappa_) == pytest.approx(1 - kappa_ / (kappa_ + 2), rel=1e-12)
    assert witnesses.log_area(3) == pytest.approx(math.log(4 * math.pi))
    assert witnesses.log_area(2) == pytest.approx(math.log(2 * math.pi))
    mu_ = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    resultant = math.hypot(2, 1)
    single = [math.log(k / (4 * math.pi * math.sinh(k))) for k in (2.0, 1.0)]
    expected = sum(single) + math.log(4 * math.pi * math.sinh(resultant) / resultant)
    assert witnesses.log_integral_of_product(mu_, np.array([2.0, 1.0])) == pytest.approx(expected, rel=1e-12)


def test_means_over_both_angles_give_what_is_known() -> None:
    height = witnesses.von_mises_fisher_height(5.0)
    one = witnesses.mean_over(4, height, 0.3, lambda gap, other: 1 + 0 * gap * other)
    gap_of_mu = witnesses.mean_over(4, height, 0.3, lambda gap, other: gap + 0 * other)
    assert one == pytest.approx(1, rel=1e-12)
    assert gap_of_mu == pytest.approx(1 - 0.3 * (1 - witnesses.mean_gap(FISHER, 4, 5.0)), rel=1e-12)
    for family in (FISHER, POWER):
        series = witnesses.mean_log_height_by_series(family, 8, 4.0, 0.2)
        assert series == pytest.approx(witnesses.mean_log_height(family, 8, 4.0, 0.2), rel=1e-9)


def test_the_rule_on_the_sphere_integrates_polynomials_exactly() -> None:
    nodes, weight = witnesses.sphere_grid(8)
    assert weight.sum() == pytest.approx(4 * math.pi)
    for axis in range(3):
        assert weight @ nodes[:, axis] ** 2 == pytest.approx(4 * math.pi / 3)
        assert weight @ nodes[:, axis] == pytest.approx(0, abs=1e-12)


def test_two_power_spherical_experts_on_the_circle_and_in_space() -> None:
    # κ = 1 and 1: Z = C² ∫ (1 + μ₁ᵀz)(1 + μ₂ᵀz) dz = (1 + c/d)/area
    for dim in (2, 3, 6):
        assert witnesses.log_pair_series(dim, 1, 1, 0.4) == pytest.approx(math.log1p(0.4 / dim), rel=1e-12)


def test_a_slope_and_two_directions() -> None:
    x = np.array([1.0, 10.0, 100.0])
    assert witnesses.log_log_slope(x, 7 * x**-2) == pytest.approx(-2)
    vectors = witnesses.two_directions(5, -0.3)
    assert vectors[0] @ vectors[1] == pytest.approx(-0.3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)


# the claims about trainings, with trainings whose right answers are known


def steps(*weights: float, buffers: float = 0.0) -> list[Any]:
    from experiments.special_cases.recovery import Step as TrainingStep  # noqa: PLC0415

    return [TrainingStep(0.0, 0.0, 0.0, 0.0, weight, buffers) for weight in weights]


def outcome(check: Claim, monkeypatch: pytest.MonkeyPatch, **fakes: Any) -> bool:
    for name, fake in fakes.items():
        for module in (calibration, negative_results, stop_gradient):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fake)
    return run(check, LAB).passed


@pytest.mark.parametrize(("weights", "holds"), [((0, 0, 0), True), ((0, 1e-7, 0), False), ((0, math.nan, 0), False)])
def test_weights_that_part_at_one_step_are_not_simsiam(
    weights: Any, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for check in (trajectories.constant_von_mises_fisher_is_simsiam, trajectories.the_moving_average_has_two_ends):
        assert outcome(check, monkeypatch, compared=lambda *_: steps(*weights)) is holds


def test_buffers_that_part_or_one_concentration_of_two_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check = trajectories.constant_von_mises_fisher_is_simsiam
    assert not outcome(check, monkeypatch, compared=lambda *_: steps(0.0, buffers=1e-3))
    for bad in ("κ = 1", "κ = 8"):
        assert not outcome(check, monkeypatch, compared=lambda *given, bad=bad: steps(float(given[-1] == bad)))


@pytest.mark.parametrize(("last", "holds"), [(0.3, True), (0.005, False), (0.0, False), (math.nan, False)])
def test_power_spherical_that_stays_with_simsiam_is_reported(
    last: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = trajectories.constant_power_spherical_is_not_simsiam
    assert outcome(check, monkeypatch, compared=lambda *_: steps(1.0, 1.0, last)) is holds


@pytest.mark.parametrize(
    ("spread", "holds"),
    [
        ({"both": 0.9, "no stop-gradient": 0.01, "no predictor": 0.02}, True),
        ({"both": 0.9, "no stop-gradient": 0.01, "no predictor": 0.06}, False),
        ({"both": 0.9, "no stop-gradient": 0.9, "no predictor": 0.02}, False),
        ({"both": 0.4, "no stop-gradient": 0.01, "no predictor": 0.02}, False),
        ({"both": math.nan, "no stop-gradient": 0.01, "no predictor": 0.02}, False),
        ({"both": 0.9, "no stop-gradient": math.nan, "no predictor": 0.02}, False),
    ],
    ids=["as claimed", "no predictor", "no stop-gradient", "both collapse", "not a number", "no number either"],
)
def test_a_variant_that_ends_on_the_wrong_side_is_reported(
    spread: dict[str, float], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_the_last_seed(variant: str, seed: int, *, steps: int) -> Any:
        as_claimed = 0.9 if variant == "both" else 0.01
        return SimpleNamespace(standard_deviation=spread[variant] if seed == 4 and steps else as_claimed)

    check = trajectories.collapse_needs_only_one_part_missing
    assert outcome(check, monkeypatch, collapse=only_the_last_seed) is holds


@pytest.mark.parametrize(("with_diagonal", "holds"), [(0.01, True), (0.05, False), (0.06, False), (math.nan, False)])
def test_a_diagonal_that_does_not_pull_in_one_seed_of_five_is_reported(
    with_diagonal: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(pairs: str, seed: int, *, steps: int) -> Any:
        distance = 0.05 if pairs == "cross" else with_diagonal if seed == 2 and steps else 0.01
        return SimpleNamespace(predictor_distance=distance, effective_rank=4.0)

    check = trajectories.the_diagonal_pulls_the_predictor_to_the_identity
    assert outcome(check, monkeypatch, with_pairs=fake) is holds


@pytest.mark.parametrize(("stopped", "full", "holds"), [(10, 0, True), (9, 0, False), (50, 1, False), (0, 0, False)])
def test_a_loss_that_falls_is_reported(stopped: int, full: int, holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*, stopped: bool) -> list[float]:
        return [float(stopped)]

    def rises(losses_: list[float]) -> int:
        return stopped if losses_[0] else full

    check = trajectories.the_loss_need_not_fall
    assert outcome(check, monkeypatch, losses_of_gradient_descent=fake, rises=rises) is holds


def test_a_path_or_a_calibration_that_is_off_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    path = trajectories.the_target_path_is_what_the_stop_gradient_leaves_out
    for error, holds in ((1e-12, True), (1e-8, False)):
        assert outcome(path, monkeypatch, target_path_error=lambda *_, error=error: error) is holds
    calibrated = trajectories.a_learned_concentration_is_calibrated
    bins = SimpleNamespace(predicted=torch.zeros(1), observed=torch.zeros(1), largest_gap=0.0)
    for gap, holds in ((0.02, True), (0.04, False), (math.nan, False)):
        found = SimpleNamespace(gap=gap, by_prediction=bins, by_truth=bins)
        assert outcome(calibrated, monkeypatch, calibrate=lambda found=found, **_: (found, found)) is holds
