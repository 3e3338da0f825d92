"""The ledger of claims: statements about the paper's equations and beyond, each with the check that may refute it."""
