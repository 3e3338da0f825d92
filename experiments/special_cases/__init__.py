"""The published methods as special cases of the pair, beside plain PyTorch, and what is no special case."""
