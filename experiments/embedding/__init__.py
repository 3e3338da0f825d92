"""What `python -m experiments.embed` writes: files of embeddings, and the most and least certain images."""
