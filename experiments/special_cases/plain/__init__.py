"""The published algorithms in plain PyTorch, independent of the rest of this project: torch and torchvision alone."""
