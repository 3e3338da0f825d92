"""Compare pretraining with its peers: the step with plain PyTorch, the whole job with lightly.

Three parts. "step": one training step through the Pyro pair and the KL objective beside the same step in plain PyTorch,
with ResNet-18 and without a backbone, times and peak memory. "jobs": images a second with data included, by both data
paths and by lightly's SimSiam with its own transform, loss and loader, where it is installed (pip install -e
'.[peers]'), and the share of the speed of forward, backward and SGD alone. "embed": what an added κ costs beside the
features of a frozen encoder. All measurements are taken in turns in one process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.benchmarks import jobs, steps
from experiments.benchmarks.timing import Stopwatch, left_out_table
from experiments.records.environment import PACKAGES, installed_versions
from experiments.records.record import Cell, Record, Table
from inference.fitting.cuda_graphs import WARM_UP
from inference.fitting.memory import keep_freed_memory
from inference.judging.representation import embed
from models.frozen_encoder import FrozenEncoderPair
from models.networks import resnet18_backbone


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        repeats: Rounds of the step with ResNet-18.
        small_repeats: Rounds of the step without a backbone, where noise is larger than what is measured.
        job_repeats: Rounds of the jobs.
        view: Pixels of a job's views.
        batch: Images of a job's step.
        dim: Dimension of a job's sphere.
        written: Images that are written where none are given.
    """

    repeats: int = 21
    small_repeats: int = 400
    job_repeats: int = 7
    view: int = 128
    batch: int = 64
    dim: int = 2048
    written: int = 256


GPU = Sizes(repeats=101, job_repeats=15, written=2048)
QUICK = Sizes(2, 2, 2, 32, 4, 16, 16)
_ON_STEPS = (
    "Forward, objective, backward, optimiser, target: through the Pyro pair and the KL objective, and plain PyTorch. "
    "Ratio and difference are medians over the rounds; other work disturbs the fastest rounds least. Memory is the "
    f"ratio of the peaks. Required: ratio ≤ {steps.MOST_RATIO} and memory ≤ {steps.MOST_MEMORY} with ResNet-18, at "
    f"most {steps.MOST_DIFFERENCE * 1e3:g} ms more without a backbone: what surrounds the networks costs the same."
)


def compare(options: argparse.Namespace, device: torch.device) -> Record:
    """Measure and report."""
    sizes = QUICK if options.quick else GPU if device.type == "cuda" else Sizes()
    if options.repeats:
        sizes = replace(sizes, **dict.fromkeys(("repeats", "small_repeats", "job_repeats"), options.repeats))
    if options.pixels:
        sizes = replace(sizes, view=options.pixels)
    if device.type == "cpu":
        keep_freed_memory()  # as every training on a CPU does
    # All work of a step is one thread's, whose own time other work on the machine disturbs less.
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    tables = []
    with tqdm(desc="rounds", unit="round") as bar:
        elapsed = Stopwatch(device, sizes.repeats, bar.update)
        stopwatch = replace(elapsed, clock=time.thread_time) if alone else elapsed
        if "step" in options.parts:
            networks = steps.QUICK_NETWORKS if options.quick else steps.NETWORKS
            repeats = {steps.RESNET: sizes.repeats, steps.ALONE: sizes.small_repeats}
            rows = steps.measure_training_steps(networks, options.seed, stopwatch, repeats)
            columns = tuple(next(iter(rows.values())))
            tables.append(Table("One training step", columns, rows, _ON_STEPS, "step | network"))
        if "jobs" in options.parts:
            tables += _jobs(
                options, sizes, replace(elapsed if options.workers else stopwatch, repeats=sizes.job_repeats)
            )
        if "embed" in options.parts:
            tables.append(_embedding(sizes, stopwatch))
    clock = "elapsed" if not alone else "the steps in processor" if options.workers else "processor"
    return Record(
        name="benchmark_pretrain",
        title="Pretraining, side by side",
        command=options.command,
        configuration={**asdict(sizes), "workers": options.workers, "quick": options.quick},
        seeds=(options.seed,),
        tables=tuple(tables),
        versions=installed_versions((*PACKAGES, "lightly")),
        notes=(f"Medians of measurements in turns, in {clock} time.",),
    )


def _embedding(sizes: Sizes, stopwatch: Stopwatch) -> Table:
    """Features of a frozen ResNet-18, and the same with κ by an added head."""
    backbone = resnet18_backbone()
    pair = FrozenEncoderPair(512).with_encoder(backbone).to(stopwatch.device)
    views = torch.randn(sizes.batch, 3, sizes.view, sizes.view, device=stopwatch.device)
    without, with_kappa = "features alone", "features and κ"
    features = torch.no_grad()(backbone.forward)
    times = stopwatch.measure_in_turns(
        {without: lambda: partial(features, views), with_kappa: lambda: partial(embed, pair, views)}
    )
    rows = {
        name: {"ms (quartiles)": taken.cell(quartiles=True), "ratio": Cell(taken.ratio_to(times[without]), form=".3f")}
        for name, taken in times.items()
    }
    note = f"{sizes.batch} views of {sizes.view} pixels, head of 512 hidden units. Required: ratio ≤ 1.05."
    return Table("Embedding with an added κ", ("ms (quartiles)", "ratio"), rows, note, "what is computed")


def _jobs(options: argparse.Namespace, sizes: Sizes, stopwatch: Stopwatch) -> list[Table]:
    device = stopwatch.device
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.images or jobs.write_sample_images(Path(temporary) / "images", sizes.written)
        half = torch.bfloat16 if options.bfloat16 or device.type == "cuda" else None
        job = jobs.Job(folder, sizes.view, sizes.batch, sizes.dim, options.workers, device, options.seed, half)
        if job.on_gpu:  # a second a measurement, and the recording of a step before the first
            stopwatch = replace(stopwatch, shortest=1.0, warm_up=WARM_UP + 2)
        times = jobs.measure_jobs(job, stopwatch)
    columns = ("images/s", "step, ms (quartiles)", "× lightly", "× bare networks")
    note = (
        f"Data included: {sizes.view} pixels, {sizes.batch} images of two views a step, {options.workers} loading "
        f"processes, networks in {'bfloat16' if half else 'float32'}. Images: "
        f"{options.images or 'written from two photographs'}."
    )
    table = Table("SimSiam with ResNet-18", columns, jobs.cells(times, sizes.batch), note, "job")
    return [table, *left_out_table(stopwatch.left_out)]
