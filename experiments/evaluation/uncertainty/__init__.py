"""Is κ an uncertainty? What `python -m experiments.uncertainty` composes: rivals of κ, images, measures, tables."""
