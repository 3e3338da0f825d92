"""Where a result comes from: the machine, the versions, the commit."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "ssl-as-inference", "torch", "torchvision", "pyro-ppl", "sympy", "lightning", "timm", "scikit-learn", "numpy",
    "pillow",
)  # fmt: skip
"""What the results of this project's trainings depend on."""


def device_named(text: str, dtype: torch.dtype = torch.float32) -> torch.device:
    """The device that `--device` names, `auto` for a GPU if there is one.

    Args:
        text: What was typed.
        dtype: In which it has to compute.

    Raises:
        ValueError: If there is none.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.zeros(1, device=text, dtype=dtype)
        found.item()  # of "meta" there is nothing
    except (RuntimeError, AssertionError, TypeError) as error:
        which = f"a device that is there and computes in {str(dtype).removeprefix('torch.')}"
        raise ValueError(f"argument --device: expected {which}, such as cpu, got {text!r}") from error
    return found.device


def describe_device(device: torch.device | None = None) -> str:
    """The GPU, or the make of the CPU and the number of threads, which times depend on.

    Args:
        device: What computed; the GPU if there is one when not given.
    """
    if torch.cuda.is_available() if device is None else device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"CPU ({model}), {threads} thread{'s' if threads > 1 else ''}"


def installed_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python's version and those of the packages, without those that are not installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):  # such as this project itself, run from a clone
            found[package] = version(package)
    found["torch"] = str(torch.__version__)  # which tells the build as well
    return found


def current_commit() -> str:
    """The commit that is checked out, marked where files differ from it; "unknown" outside a repository."""
    described = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=, with changes"]
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), *described]
    try:
        if not (root / ".git").exists():  # git would find a repository around it
            return "unknown"
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  # fixed words
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
