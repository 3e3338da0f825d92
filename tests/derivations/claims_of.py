"""How the files of this folder run the claims of the ledger, an equation each."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from experiments.verification.claim import Claim
from experiments.verification.lab import Lab
from experiments.verification.ledger import claims, run


def equation_number(claim: Claim) -> int:
    """The first equation that a claim belongs to, 0 if it is on Algorithm 1 or a section."""
    match = re.search(r"\((\d+)\)", claim.equation)
    return int(match.group(1)) if match else 0


def label(claim: Claim) -> str:
    """A short name of a claim, for test reports."""
    words = re.sub(r"[^\w ]", "", re.sub(r"\$[^$]*\$", "", claim.statement)).split()
    return "-".join([claim.id, claim.kind.replace(" ", "_"), *words[:4], *words[4:][-3:]])


def holding(number: int) -> Callable[[Claim], None]:
    """A test of every claim of an equation that does not take long."""
    chosen = [claim for claim in claims() if equation_number(claim) == number and not claim.long]

    @pytest.mark.parametrize("claim", chosen, ids=label)
    def test_the_claim_holds(claim: Claim) -> None:
        result = run(claim, Lab())
        assert result.passed, f"error {result.outcome.error} > {claim.tolerance}: {result.outcome.detail}"

    return test_the_claim_holds
