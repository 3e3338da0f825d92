"""The ledger is complete, each of its claims is run by a file of this folder, and a failing one is reported."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from sympy import Symbol

from experiments.verification.claim import Claim, Outcome
from experiments.verification.claim import claim as make_claim
from experiments.verification.errata import ERRATA, Erratum
from experiments.verification.lab import Lab, at
from experiments.verification.ledger import claims, number, run, selected
from tests.derivations.claims_of import equation_number, label

CHECKS = {
    1: 5, 2: 4, 3: 2, 4: 4, 5: 2, 6: 5, 7: 3, 8: 3, 9: 6, 10: 1, 11: 3, 12: 4, 13: 5, 14: 1, 15: 1, 16: 3, 17: 2, 18: 2,
    19: 2, 20: 2, 21: 3, 22: 1, 23: 4, 24: 2, 25: 3, 26: 1, 27: 3, 28: 1, 29: 2, 30: 1, 32: 1, 33: 1, 34: 1,
    35: 3, 36: 2, 37: 1, 38: 1, 39: 1,
}  # fmt: skip
"""How many checks each claim has: one that is lost, or hidden by another of its name, is missed here."""


def test_every_check_of_every_claim_is_in_the_ledger() -> None:
    assert Counter(number(claim) for claim in claims()) == CHECKS


def test_every_claim_is_run_by_a_file_of_this_folder() -> None:
    files = {
        int(match.group(1))
        for path in Path(__file__).parent.iterdir()
        if (match := re.match(r"test_equation_(\d+)\.py", path.name))
    }
    assert {equation_number(claim) for claim in claims() if not claim.long} - {0} == files


def test_names_of_checks_are_unique() -> None:
    names = [label(claim) for claim in claims()]
    assert len(names) == len(set(names))


def test_every_claim_says_what_it_states_and_for_what_it_is_checked() -> None:
    for claim in claims():
        assert claim.statement.endswith("."), claim.statement
        assert claim.statement.count("$") % 2 == 0, claim.statement
        assert not re.search(r"Correction:|Code:|Printed:.*Printed:", claim.statement), claim.statement
        assert claim.extent or claim.kind != "symbolic", claim.statement


def test_the_symbolic_claims_hold_for_any_number_of_views_dimension_and_concentration() -> None:
    extents = {claim.id: claim.extent for claim in claims() if claim.kind == "symbolic"}
    assert {name for name, extent in extents.items() if "d = " in extent} == {"C25"}
    for name in ("C4", "C5", "C9", "C12", "C13", "C17"):
        assert "M, d, κ" in extents[name]


def test_every_symbolic_claim_tolerates_nothing() -> None:
    assert {claim.tolerance for claim in claims() if claim.kind == "symbolic"} == {0}


@pytest.mark.parametrize("error", [1.0 + 1e-9, math.inf, math.nan, -math.inf])
def test_an_error_beyond_the_tolerance_fails(error: float) -> None:
    claim = Claim("C0", "none", "", "numeric", 1.0, lambda _: Outcome(error))
    assert not run(claim, Lab()).passed


def test_a_check_that_raises_has_failed() -> None:
    def check(lab: Lab) -> Outcome:
        raise ZeroDivisionError(lab.seed)

    result = run(Claim("C0", "none", "", "numeric", 1.0, check), Lab())
    assert not result.passed
    assert "ZeroDivisionError" in result.outcome.detail


def test_running_a_claim_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    run(Claim("C0", "none", "", "numeric", 1.0, lambda _: Outcome(float(torch.rand(())))), Lab())
    assert torch.equal(before, torch.get_rng_state())


def test_a_check_draws_the_same_numbers_whatever_ran_before_it_and_others_from_another_seed() -> None:
    def check(lab: Lab) -> Outcome:
        return Outcome(float(torch.rand(())) + float(lab.rng.random()))

    claim, lab = Claim("C0", "none", "", "numeric", 2.0, check), Lab()
    first = run(claim, lab).outcome.error
    lab.rng.random()
    torch.rand(3)
    assert run(claim, lab).outcome.error == first
    assert run(claim, Lab(seed=1)).outcome.error != first


def test_claims_are_chosen_by_number_or_by_length() -> None:
    short, long = (Claim(name, "", "", "numeric", 0, lambda _: Outcome(0), long=name == "C2") for name in ("C1", "C2"))
    every = [short, long]
    assert selected(every, only=None, long=False) == [short]
    assert selected(every, only=None, long=True) == every
    assert selected(every, only=["C2"], long=False) == [long]
    with pytest.raises(ValueError, match=r"C1, C2.*got C7"):
        selected(every, only=["C1", "C7"], long=False)


def test_three_errata_are_errors_and_five_are_readings() -> None:
    assert Counter(erratum.kind for erratum in ERRATA) == {"error": 3, "reading": 5}


def erratum(printed: float, corrected: float, shipped: float) -> Outcome:
    return Erratum("error", "", "C0", "", "", "", "", lambda _: (printed, corrected, shipped)).as_claim().check(Lab())


def test_an_erratum_whose_printed_form_is_right_fails() -> None:
    assert math.isinf(erratum(1.0, 1.0, 1.0).error)
    assert math.isinf(erratum(1.009, 1.0, 1.0).error)


def test_an_erratum_that_the_code_does_not_follow_fails() -> None:
    assert erratum(2.0, 1.0, 1.0).error == 0
    assert erratum(2.0, 1.0, 1.5).error == 0.5
    assert erratum(2.0, 1.0, 2.0).error == 1


def test_the_formulas_of_the_errata_are_printed_from_the_objects() -> None:
    sign = next(erratum for erratum in ERRATA if erratum.place == "Eq. (12), sign")
    assert sign.printed.startswith(r"$- \sum_{i=1}^{M} \sum_{j=1}^{M}")
    assert sign.corrected.startswith(r"$- \frac{\sum_{i=1}^{M} \sum_{j=1}^{M}")


def test_a_typed_formula_is_refused_and_so_is_one_that_is_not_shown() -> None:
    def shown() -> float:
        """The length is {0}."""
        return 0.0

    def typed() -> float:
        """The length is $R$."""
        return 0.0

    r = Symbol("R")
    assert make_claim("C0", "none", shows=(r**2,))(shown).statement == "The length is $R^{2}$."
    for check, formulas in ((typed, ()), (typed, (r,)), (shown, ()), (shown, (r, r))):
        with pytest.raises(ValueError, match=r"must have its formulas as \{0\}"):
            make_claim("C0", "none", shows=formulas)(check)


def test_a_formula_is_evaluated_by_the_names_of_its_symbols() -> None:
    a, b = Symbol("a"), Symbol("b")
    assert at(a - 2 * b, b=5.0, a=1.0) == -9
    with pytest.raises(KeyError):
        at(a, c=1.0)
