"""The ledger is complete, each of its claims is run by a file of this folder, and a failing one is reported."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from experiments.verification.claim import Claim, Outcome, Settings
from experiments.verification.errata import ERRATA, Counterexample, Erratum
from experiments.verification.ledger import claims, equation_number, label, run

ELSEWHERE = {"C10", "C15", "C26", "C28", "C30", "C31"}
"""Trajectories, which have a module of their own, and Table 1, which is an experiment."""


def test_every_claim_of_the_ledger_exists() -> None:
    found = {claim.id for claim in claims()}
    assert {f"C{number}" for number in range(1, 32)} - ELSEWHERE <= found


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


def test_every_symbolic_claim_tolerates_nothing() -> None:
    assert {claim.tolerance for claim in claims() if claim.kind == "symbolic"} == {0}


@pytest.mark.parametrize("error", [1.0 + 1e-9, math.inf, math.nan])
def test_an_error_beyond_the_tolerance_fails(error: float) -> None:
    claim = Claim("C0", "none", "", "numeric", 1.0, lambda _: Outcome(error))
    assert not run(claim, Settings()).passed


def test_a_check_that_raises_has_failed() -> None:
    def check(settings: Settings) -> Outcome:
        raise ZeroDivisionError(settings.seed)

    result = run(Claim("C0", "none", "", "numeric", 1.0, check), Settings())
    assert not result.passed
    assert "ZeroDivisionError" in result.outcome.detail


def test_running_a_claim_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    run(Claim("C0", "none", "", "numeric", 1.0, lambda _: Outcome(float(torch.rand(())))), Settings())
    assert torch.equal(before, torch.get_rng_state())


def test_the_errata_are_the_eight_that_are_known() -> None:
    assert len(ERRATA) == 8


def test_an_erratum_whose_printed_form_is_right_fails() -> None:
    right = Erratum("", "C0", "", "", "", lambda _: Counterexample("", printed=1.0, corrected=1.0, shipped=1.0))
    assert math.isinf(right.check(Settings()).error)
