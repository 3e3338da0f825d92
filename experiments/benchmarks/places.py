"""Where a benchmark computes: an option that its commands share."""

from __future__ import annotations

import argparse
import sys

import torch


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--device`."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")


def chosen_device(name: str) -> torch.device | None:
    """What `--device` stands for here; `None`, after a line that says so, where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        print("error: --device cuda: PyTorch sees no GPU here, use --device cpu (see --help)", file=sys.stderr)
        return None
    return torch.device(name)
