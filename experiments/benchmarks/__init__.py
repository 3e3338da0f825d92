"""What `python -m experiments.benchmark` measures: the parts of its sub-commands."""
