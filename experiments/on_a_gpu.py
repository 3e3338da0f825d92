"""Everything that wants a GPU, in one command: the tests, the equations, the benchmarks, a whole pretraining, Table 1.

Each part is a command of its own, whose output is kept in a log as it comes; one that fails or outlasts its share of
the time does not keep the others from running. A summary says what ran, for how long, on which device, from which
commit.
With --tiny the same parts run on a CPU with tiny settings, to see that the command works before a GPU is taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.records.environment import current_commit, describe_device, installed_versions, typed_command

PARTS = ("tests", "equations", "distributions", "step and jobs", "run", "table 1")


_FAST = ("engine.accelerator=gpu", "engine.precision=bf16-mixed", "engine.channels_last=true", "engine.compile=true")


@dataclass(frozen=True)
class Done:
    """How a part ended.

    Attributes:
        part: Its name.
        command: What ran.
        seconds: How long.
        status: Its exit status; `None` if it was stopped for the time it took.
        log: File that holds its output.
    """

    part: str
    command: str
    seconds: float
    status: int | None
    log: str


def commands(
    out: Path,
    images: str | None = None,
    workers: int = 16,
    run_options: Sequence[str] = (),
    table_options: Sequence[str] = (),
    *,
    tiny: bool,
) -> dict[str, list[str]]:
    """Module and arguments of each part.

    Args:
        out: Folder for the results.
        images: Folder of images in folders of classes for the jobs.
        workers: Loading processes.
        run_options: More options of the pretraining, KEY=VALUE.
        table_options: More options of Table 1, such as --root path/of/sets.
        tiny: On the CPU, with tiny settings.
    """
    device = ["--device", "cpu" if tiny else "cuda"]
    quick = ["--quick"] if tiny else []
    benchmark = ["experiments.benchmark", "pretrain", *device, "--workers", "0" if tiny else str(workers), *quick]
    jobs = ["--images", images] if images else []
    run = ["--config", "experiments/configs/digits_vi_simsiam.yaml", "--run-options", "training.epochs=1"]
    if not tiny:
        run = ["--run-options", *_FAST, *run_options]
    scale = ["--scale", "tiny", "--seeds", "1"] if tiny else ["--scale", "full"]
    place = ["--device", "cpu" if tiny else "gpu", "--out", str(out / "table1")]
    claims = ["--only", "C1", "C12"] if tiny else ["--all"]
    return {
        "tests": ["pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"],
        "equations": ["experiments.verify", *device, *claims, "--out", str(out / "equations")],
        "distributions": [
            "experiments.benchmark",
            "distributions",
            *device,
            *quick,
            "--out",
            str(out / "distributions"),
        ],
        "step and jobs": [*benchmark, "--parts", "step", "jobs", *jobs, "--out", str(out / "step_and_jobs")],
        "run": [*benchmark, "--parts", "run", *run, "--out", str(out / "run")],
        "table 1": ["experiments.table1", *scale, *place, *table_options],
    }


def run_part(part: str, command: Sequence[str], out: Path, limit: float) -> Done:
    """Run one part in a process of its own and keep its output."""
    log = out / f"{part.replace(' ', '_')}.log"
    begin = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        try:
            ended = subprocess.run(  # noqa: S603  # this interpreter on this project's commands
                [sys.executable, "-m", *command], stdout=stream, stderr=subprocess.STDOUT, check=False, timeout=limit
            )
            status: int | None = ended.returncode
        except subprocess.TimeoutExpired:
            status = None
    return Done(part, typed_command(command[0], command[1:]), round(time.monotonic() - begin, 1), status, log.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every part ended well."""
    parser = CommandLineParser(prog="python -m experiments.on_a_gpu", description=__doc__)
    parser.add_argument("--out", type=writable_folder, default="runs/on_a_gpu", help="folder for logs and results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run")
    parser.add_argument("--images", help="folder of images in folders of classes, such as ImageNette's train")
    parser.add_argument("--workers", type=whole_number(0), default=16, help="loading processes of the jobs")
    parser.add_argument(
        "--run-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of the pretraining, such as data.root=path/of/sets data.name=imagenette-160",
    )
    parser.add_argument(
        "--table-options",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="of experiments.table1: everything from here on, such as --root path/of/sets; it goes on where it stopped",
    )
    parser.add_argument("--minutes", type=whole_number(1), default=10, help="longest time for one part")
    parser.add_argument("--tiny", action="store_true", help="on a CPU with tiny settings, to try the command")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --tiny tries the same parts on a CPU")
    out: Path = options.out
    wanted = commands(
        out, options.images, options.workers, options.run_options, options.table_options, tiny=options.tiny
    )
    done: list[Done] = []
    for part in tqdm(options.parts, desc="parts", disable=None):
        done.append(run_part(part, wanted[part], out, 60.0 * options.minutes))
        summary = {
            "device": describe_device(),
            "tiny": options.tiny,
            "commit": current_commit(),
            "versions": installed_versions(),
            "parts": [asdict(one) for one in done],
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        state = {0: "ended well", None: "was stopped for its time"}.get(done[-1].status, "FAILED")
        print(f"{part}: {state} after {done[-1].seconds:.0f} s, see {out / done[-1].log}")
    print(f"Summary: {out / 'summary.json'}")
    return 0 if all(one.status == 0 for one in done) else 1


if __name__ == "__main__":
    raise SystemExit(main())
