"""The claims of the ledger on Algorithm 1 and on sections."""

from __future__ import annotations

from tests.derivations.claims_of import holding

test_the_claim_holds = holding(0)
