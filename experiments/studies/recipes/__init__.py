"""What makes κ trustworthy, and what does not: what `python -m experiments.recipes` composes."""
