"""Compare the spherical distributions with their peers: time of log_prob and of sampling, accuracy of the normalisers.

Everything is measured in one process and in turns, in float32, on the same inputs. The table of log_prob compares
forward and backward with those of the bare dot product of the same vectors; the table of sampling says beside each time
whether the mean of the draws is right; the table of accuracy compares with 60 digits. Peers that are not installed are
named and left out: pip install -e '.[peers]' installs them.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm import tqdm

from experiments.benchmarks import log_prob_speed, sampling_speed
from experiments.benchmarks.accuracy import GRID_CONCENTRATIONS, GRID_DIMS, Cell, measure_accuracy
from experiments.benchmarks.peers import Skipped, load_implementations
from experiments.benchmarks.peers.compiled import Compiled
from experiments.benchmarks.peers.with_torch import TorchImplementation
from experiments.benchmarks.places import add_device_argument, chosen_device
from experiments.benchmarks.report import (
    PACKAGES,
    accuracy_table,
    left_out,
    log_prob_table,
    record,
    relative_accuracy_table,
    sampling_table,
    summary_table,
)
from experiments.benchmarks.timing import Stopwatch, computing_on, keeping_memory
from experiments.command_line.parser import whole_number, writable_folder
from experiments.records.environment import installed_versions, processor_name


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        batch: Points of one log_prob.
        log_prob_dims: Dimensions of the table of log_prob.
        draws: Points of one call of a sampler.
        sampling_dims: Dimensions of the table of sampling.
        grid_dims: Dimensions of the table of accuracy.
        grid_concentrations: Concentrations of the table of accuracy.
    """

    batch: int = 4096
    log_prob_dims: tuple[int, ...] = (128, 2048)
    draws: int = 10_000
    sampling_dims: tuple[int, ...] = (3, 128, 2048)
    grid_dims: tuple[int, ...] = GRID_DIMS
    grid_concentrations: tuple[float, ...] = GRID_CONCENTRATIONS


QUICK = Sizes(64, (8, 16), 500, (3, 16), (3, 128), (1e-3, 1.0, 1e3))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's options."""
    add_device_argument(parser)
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        help="threads of every library, by default as many as PyTorch takes; 1 gives the steadiest times on a CPU",
    )
    parser.add_argument("--repeats", type=whole_number(1), default=20, help="measurements of each; the median counts")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="seed of the inputs and of the samplers")
    parser.add_argument("--out", type=writable_folder, default="runs/benchmark", help="folder for table and numbers")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; the times mean nothing")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables and save them; returns the exit status."""
    device = chosen_device(options.device)
    if device is None:
        return 2
    sizes = QUICK if options.quick else Sizes()
    with computing_on(options.threads), keeping_memory() as kept, warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # what the peers' dependencies deprecate is not this command's news
        torch.manual_seed(options.seed)
        measured = _measure(sizes, device, options.repeats, options.seed, compiled=not options.quick)
        threads = torch.get_num_threads()
    setting = {
        "device": processor_name(device),
        "threads": threads,
        "freed memory kept": kept,
        "repeats": options.repeats,
        "seed": options.seed,
        "quick": options.quick,
        **asdict(sizes),
    }
    text = _as_markdown(measured, setting)
    print(text)
    saved = [options.out / "benchmark.md", options.out / "benchmark.json"]
    saved[0].write_text(text + "\n", encoding="utf-8")
    saved[1].write_text(json.dumps(_as_record(measured, setting), indent=1, ensure_ascii=False), encoding="utf-8")
    print("\nSaved:", *saved, sep="\n  ")
    return 0


@dataclass(frozen=True)
class _Measured:
    log_prob: list[log_prob_speed.Row]
    sampling: list[sampling_speed.Row]
    accuracy: dict[tuple[str, str], dict[str, Cell]]
    skipped: list[Skipped]


def _measure(sizes: Sizes, device: torch.device, repeats: int, seed: int, *, compiled: bool) -> _Measured:
    implementations, skipped = load_implementations()
    implementations.sort(key=lambda one: one.family != "vMF")  # stable: this project's stays first of its family
    rounds = repeats * (2 * len(sizes.log_prob_dims) + len(sizes.sampling_dims))
    grids = 2 * len(sizes.grid_dims) * len(implementations)
    with tqdm(total=rounds + grids, desc="accuracy") as bar:
        accuracy = {
            (one.library, one.family): measure_accuracy(
                one, sizes.grid_dims, sizes.grid_concentrations, on_dim=bar.update
            )
            for one in implementations
        }
        if compiled:  # as the peer that is written in JAX is
            implementations = [
                variant
                for one in implementations
                for variant in ((one, Compiled(one)) if isinstance(one, TorchImplementation) else (one,))
            ]
        stopwatch = Stopwatch(device, repeats, bar.update)
        bar.set_description("log_prob")
        log_prob = log_prob_speed.measure_log_prob(implementations, sizes.log_prob_dims, sizes.batch, stopwatch)
        bar.set_description("sampling")
        sampling = sampling_speed.measure_sampling(implementations, sizes.sampling_dims, sizes.draws, seed, stopwatch)
    return _Measured(log_prob, sampling, accuracy, skipped)


def _as_markdown(measured: _Measured, setting: dict[str, Any]) -> str:
    cells = len(setting["grid_dims"]) * len(setting["grid_concentrations"])
    installed = ", ".join(f"{name} {number}" for name, number in installed_versions(PACKAGES).items())
    quick = "Tiny sizes (--quick): the times mean nothing. " if setting["quick"] else ""
    dims = ", ".join(map(str, setting["grid_dims"]))
    concentrations = ", ".join(f"{kappa:g}" for kappa in setting["grid_concentrations"])
    memory = "freed memory kept for the next call; " if setting["freed memory kept"] else ""
    introduction = (
        "# Distributions, side by side\n\n"
        f"{quick}{setting['device']}, threads: {setting['threads']}; median of {setting['repeats']} measurements in "
        f"turns; {memory}seed {setting['seed']}. {installed}."
    )
    on_summary = (
        f"**In short**: log_prob with its derivatives of {setting['batch']} points, a κ of its own for each, and "
        f"{setting['draws']:,} draws, time of a call; largest errors over the grid below, relative to max(1, size). "
        "TensorFlow Probability is compiled by JAX."
    )
    on_log_prob = (
        f"**log_prob with its derivatives**, float32, {setting['batch']} points, each with a direction of its own, "
        f"drawn at κ = {log_prob_speed.CONCENTRATION:g}. Ratio to the bare dot product, forward and backward. Error "
        "of the log density relative to max(1, its size). TensorFlow Probability is compiled by JAX, what is "
        "called compiled by torch.compile."
    )
    on_sampling = (
        f"**Sampling** {setting['draws']:,} points around one direction at κ = {sampling_speed.CONCENTRATION:g}. The "
        "z-score is that of the mean of μᵀz over all draws; off the sphere: how far a length is from 1."
    )
    on_accuracy = (
        f"**Accuracy** over d ∈ {{{dims}}} × κ ∈ {{{concentrations}}}: largest error relative to max(1, |exact|) "
        f"against 60 digits; in brackets how many of the {cells} values are not finite. −(log C)′ and −(log C)″, by "
        "automatic differentiation, are A(κ) and A′(κ) for vMF, mean and variance of log(1 + μᵀz) for PS."
    )
    left = left_out(measured.skipped, [*measured.log_prob, *measured.sampling])
    return "\n\n".join(
        [
            introduction,
            on_summary,
            summary_table(measured.log_prob, measured.sampling, measured.accuracy),
            on_log_prob,
            log_prob_table(measured.log_prob),
            on_sampling,
            sampling_table(measured.sampling),
            on_accuracy,
            accuracy_table(measured.accuracy),
            "The same values relative to the exact one alone, which counts what is left of them where κ is small:",
            relative_accuracy_table(measured.accuracy),
            "Left out:",
            "\n".join(f"- {line}" for line in left),
        ]
    )


def _as_record(measured: _Measured, setting: dict[str, Any]) -> dict[str, Any]:
    return {
        "setting": setting,
        "versions": installed_versions(PACKAGES),
        "log_prob": [record(row) for row in measured.log_prob],
        "sampling": [record(row) for row in measured.sampling],
        "accuracy": [
            {"library": library, "law": family, "quantity": title, **record(cell)}
            for (library, family), row in measured.accuracy.items()
            for title, cell in row.items()
        ],
        "left out": left_out(measured.skipped, [*measured.log_prob, *measured.sampling]),
    }
