"""What the parts of `python -m experiments.benchmark` have in common."""

from __future__ import annotations

import argparse
import importlib

import torch

from experiments.benchmarks.timing import computing_on


def run(options: argparse.Namespace) -> int:
    """Compare, print the page and save it; returns the exit status.

    Raises:
        ValueError: If a GPU is asked for where there is none.
    """
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("argument --device: PyTorch sees no GPU here, use --device cpu")
    part = importlib.import_module(f"experiments.benchmarks.{options.part}")
    with computing_on(options.threads, options.seed):
        record = part.compare(options, torch.device(options.device))
    print(record.page())
    print("Saved:", *record.save_page(options.out), sep="\n  ")
    return 0
