"""The ledger of claims C1 … C31: every statement about the paper's equations, with the check that may refute it."""
