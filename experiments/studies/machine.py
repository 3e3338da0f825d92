"""What of a plan belongs to the machine: devices, runs at once, threads of each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.command_line.parser import whole_number

_RUNS_A_GPU = 4


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add `--root`, `--download`, `--jobs` and `--device`."""
    parser.add_argument("--root", default="data", help="folder of the named sets")
    parser.add_argument("--download", action="store_true", help="fetch a named set that is missing")
    parser.add_argument(
        "--jobs", type=whole_number(1), help=f"runs at once; default: one a core, or {_RUNS_A_GPU} a GPU"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto", help="auto: a GPU if there is one")


def machine_fields(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of the configuration by their dotted names, from what `add_machine_options` parsed and `out`.

    Raises:
        ValueError: If a GPU is asked for where there is none.
    """
    on_gpu = options.device == "gpu" or (options.device == "auto" and gpus() > 0)
    if on_gpu and not gpus():
        raise ValueError("--device gpu: PyTorch sees none here")
    machine: dict[str, Any] = {
        "data.root": options.root,
        "data.download": options.download,
        "data.cache": str(Path(options.out) / "cache"),
        "engine.accelerator": "gpu" if on_gpu else "cpu",
        "engine.threads": _threads(options, on_gpu=on_gpu),
        "checkpoints.every_steps": None,
    }
    if on_gpu:  # as in experiments/configs/changes/gpu.yaml
        machine |= {"engine.precision": "bf16-mixed", "engine.compile": True}
    return machine


def jobs(options: argparse.Namespace, machine: Mapping[str, Any]) -> int:
    """How many runs at once."""
    return _jobs(options, on_gpu=machine["engine.accelerator"] == "gpu")


def gpus() -> int:
    """How many there are."""
    return torch.cuda.device_count()


def _jobs(options: argparse.Namespace, *, on_gpu: bool) -> int:
    return int(options.jobs or (_RUNS_A_GPU * gpus() if on_gpu else _cores()))


def _threads(options: argparse.Namespace, *, on_gpu: bool) -> int:
    """Threads of each run: more than one on a CPU is slower for networks as small as those that suit it."""
    return max(1, _cores() // _jobs(options, on_gpu=on_gpu)) if on_gpu else 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
