"""What the parts of `python -m experiments.benchmark` have in common."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import replace

from experiments.benchmarks.timing import computing_on
from experiments.records.environment import describe_device, device_named


def run(options: argparse.Namespace) -> int:
    """Compare, print the page and save it; returns the exit status.

    Raises:
        ValueError: If a GPU is asked for where there is none.
    """
    device = device_named(options.device)
    part = importlib.import_module(f"experiments.benchmarks.{options.part}")
    with computing_on(options.threads, options.seed):
        record = part.compare(options, device)
    quick = ("Tiny sizes (--quick): the times mean nothing.",) if options.quick else ()
    record = replace(record, notes=(*quick, *record.notes), device=describe_device(device))
    print(record.page())
    print("Saved:", *record.save_page(options.out), sep="\n  ")
    return 0
