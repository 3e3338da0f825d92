"""Programs to run: `python -m experiments.NAME --help`."""
