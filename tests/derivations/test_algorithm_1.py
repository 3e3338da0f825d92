"""The claims of the ledger on Algorithm 1 and on sections."""

from __future__ import annotations

import pytest

from experiments.verification.claim import Claim
from experiments.verification.lab import Lab
from experiments.verification.ledger import claims, equation_number, label, run

CLAIMS = [claim for claim in claims() if equation_number(claim) == 0 and not claim.long]


@pytest.mark.parametrize("claim", CLAIMS, ids=label)
def test_the_claim_holds(claim: Claim) -> None:
    result = run(claim, Lab())
    assert result.passed, f"error {result.outcome.error} > {claim.tolerance}: {result.outcome.detail}"
