"""The claims of the ledger on Eq. (2)."""

from __future__ import annotations

from tests.derivations.claims_of import holding

test_the_claim_holds = holding(2)
