"""Compare pretraining with its peers: the step with plain PyTorch, the whole job with lightly, a run with the clock.

Three parts. "step": one training step through the Pyro pair and the KL objective beside the same step in plain
PyTorch, with ResNet-18 and without a backbone, times and peak memory. "jobs": images a second with data included, by
both data paths and by lightly's SimSiam with its own transform, loss and loader, where it is installed (pip install -e
'.[peers]'); on a GPU also the share of the speed of forward and backward alone. "run": a 200-epoch pretraining on
ImageNette from start to end. All measurements are taken in turns in one process, a run in its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.benchmarks import end_to_end, full_run, training_step
from experiments.benchmarks.peers import Skipped
from experiments.benchmarks.places import add_device_argument, chosen_device
from experiments.benchmarks.pretrain_report import as_markdown, as_record
from experiments.benchmarks.report import PACKAGES
from experiments.benchmarks.timing import Stopwatch, computing_on
from experiments.command_line.parser import whole_number, writable_folder
from experiments.records.environment import current_commit, installed_versions, processor_name

PARTS = ("step", "jobs", "run")
_PACKAGES = (*PACKAGES, "torchvision", "lightning", "timm", "lightly")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        repeats: Rounds of the step with ResNet-18.
        small_repeats: Rounds of the step without a backbone, where noise is larger than what is measured.
        job_repeats: Rounds of the jobs.
        job_steps: Steps of a job in a round.
        view: Pixels of a job's views.
        batch: Images of a job's step.
        dim: Dimension of a job's sphere.
        written: Images that are written where none are given.
    """

    repeats: int = 21
    small_repeats: int = 400
    job_repeats: int = 7
    job_steps: int = 1
    view: int = 128
    batch: int = 64
    dim: int = 2048
    written: int = 256


GPU = Sizes(repeats=101, job_repeats=15, job_steps=100, written=2048)
QUICK = Sizes(2, 2, 2, 1, 32, 4, 16, 16)


@dataclass(frozen=True)
class Measured:
    """All that was measured; what was not asked for is empty."""

    steps: list[training_step.Row]
    jobs: list[end_to_end.Row]
    run: full_run.FullRun | None
    skipped: list[Skipped]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's options."""
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=["step", "jobs"], help="what to measure")
    add_device_argument(parser)
    parser.add_argument(
        "--threads", type=whole_number(1), help="threads of PyTorch, by default as many as it takes; 1 is the steadiest"
    )
    parser.add_argument("--repeats", type=whole_number(1), help="rounds of every part instead of its own number")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="seed of weights, inputs and order")
    parser.add_argument(
        "--images", type=Path, help="folder of images in folders of classes for the jobs; by default some are written"
    )
    parser.add_argument("--workers", type=whole_number(0), default=0, help="loading processes of each job; 0 for none")
    parser.add_argument(
        "--config", default="experiments/configs/imagenette_vi_simsiam.yaml", help="configuration of the run"
    )
    parser.add_argument("--run-options", nargs="+", default=[], metavar="KEY=VALUE", help="more options of the run")
    parser.add_argument("--out", type=writable_folder, default="runs/benchmark_pretrain", help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; the times mean nothing")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables and save them; returns the exit status."""
    device = chosen_device(options.device)
    if device is None:
        return 2
    sizes = QUICK if options.quick else GPU if device.type == "cuda" else Sizes()
    with computing_on(options.threads), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # what the peers' dependencies deprecate is not this command's news
        torch.manual_seed(options.seed)
        try:
            measured = _measure(options, sizes, device)
        except (full_run.FullRunFailedError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        threads = torch.get_num_threads()
        clock = "the steps in processor time" if _alone(device) else "in elapsed time"
    setting = {
        "device": processor_name(device),
        "commit": current_commit(),
        "threads": threads,
        "clock": clock,
        "workers": options.workers,
        "seed": options.seed,
        "quick": options.quick,
        "images": "written from two photographs" if options.images is None else str(options.images),
        "versions": installed_versions(_PACKAGES),
        **asdict(sizes),
    }
    text = as_markdown(measured.steps, measured.jobs, measured.run, measured.skipped, setting)
    print(text)
    saved = [options.out / "benchmark_pretrain.md", options.out / "benchmark_pretrain.json"]
    record = as_record(measured.steps, measured.jobs, measured.run, measured.skipped, setting)
    saved[0].write_text(text + "\n", encoding="utf-8")
    saved[1].write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    print("\nSaved:", *saved, sep="\n  ")
    return 0


def _measure(options: argparse.Namespace, sizes: Sizes, device: torch.device) -> Measured:
    steps: list[training_step.Row] = []
    jobs: list[end_to_end.Row] = []
    skipped: list[Skipped] = []
    clock = time.thread_time if _alone(device) else time.perf_counter
    networks = training_step.QUICK_NETWORKS if options.quick else training_step.NETWORKS
    repeats = {
        training_step.RESNET: options.repeats or sizes.repeats,
        training_step.ALONE: options.repeats or sizes.small_repeats,
    }
    rounds = sum(repeats.values()) * len(training_step.METHODS) if "step" in options.parts else 0
    job_repeats = options.repeats or sizes.job_repeats
    rounds += job_repeats if "jobs" in options.parts else 0
    with tqdm(total=rounds, desc="step", disable=not rounds) as bar:
        if "step" in options.parts:
            stopwatch = Stopwatch(device, 1, bar.update, clock)
            steps = training_step.measure_training_steps(networks, options.seed, stopwatch, repeats)
        if "jobs" in options.parts:
            bar.set_description("jobs")
            with tempfile.TemporaryDirectory() as temporary:
                folder = options.images or end_to_end.write_sample_images(Path(temporary) / "images", sizes.written)
                job = end_to_end.Job(folder, sizes.view, sizes.batch, sizes.dim, options.workers, device, options.seed)
                stopwatch = Stopwatch(device, job_repeats, bar.update)
                jobs, skipped = end_to_end.measure_jobs(job, stopwatch, steps=sizes.job_steps)
    finished = None
    if "run" in options.parts:
        more = [f"--{entry}" for entry in options.run_options]
        with tempfile.TemporaryDirectory() as temporary:
            finished = full_run.time_full_run(options.config, Path(temporary) / "run", more)
    return Measured(steps, jobs, finished, skipped)


def _alone(device: torch.device) -> bool:
    """Whether all work of a step is one thread's, whose own time other work on the machine disturbs less."""
    return device.type == "cpu" and torch.get_num_threads() == 1
