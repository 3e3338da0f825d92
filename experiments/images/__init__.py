"""Datasets, augmentations and degradations of images."""
