"""Everything that needs a GPU, in one command: its tests, a pretraining, the benchmark of pretraining, Table 1.

The most valuable part comes first, because a machine may be taken away at any time. Each part is a command in a session
of its own, which is ended as a whole when its time is over. The others run even if one fails or is stopped. After each
part a summary says what ran, for how long, on which device, from which commit, and one archive holds what fits of logs,
metrics, tables and weights, the smallest files first. With --tiny the same parts run on a CPU with tiny settings, to
see that the command works before a GPU is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, existing_folder, whole_number, writable_folder

PARTS = ("tests", "run", "benchmark", "table 1")
ARCHIVE_BYTES = 16 * 2**20
_MOST_MINUTES = {"tests": 2}  # the rest of a short loan is for what only a GPU can measure
_SECONDS_TO_SAVE = 20.0  # from the request to end until the end
_NO_PLUGINS = "--import-mode=importlib"  # instead of options that only pytest's plugins understand
_SETTINGS = {"accelerator": "gpu", "precision": "bf16-mixed", "channels_last": "true", "compile": "true"}


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        part: What it belongs to.
        command: What ran.
        seconds: How long.
        status: Its exit status; `None` if it was stopped for the time it took, or not started for want of it.
        log: File that holds its output.
    """

    part: str
    command: str
    seconds: float
    status: int | None
    log: str


def commands(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Modules and arguments of each part, of which the next is tried where one fails."""
    out, tiny = options.out, options.tiny
    tests = sorted(str(path) for path in Path("tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    run = ["experiments.pretrain", "--config", options.config, "--monitor.progress", "false"]
    run += [f"--{entry}" for entry in options.run_options]
    fast = [argument for name, value in _SETTINGS.items() for argument in (f"--engine.{name}", value)]
    runs = [[*run, *([] if tiny else fast), "--out", f"{out}/run"]]
    if not tiny:  # after a recording that fails, the GPU is of no use to the same process
        runs.insert(0, [*run, *fast, "--engine.cuda_graphs", "true", "--out", f"{out}/run_recorded"])
    device = ["--device", "cpu" if tiny else "cuda", "--workers", "0" if tiny else str(options.workers)]
    images = ["--images", str(options.images)] if options.images else []
    quick = ["--quick"] if tiny else []
    place = ["--device", "cpu" if tiny else "gpu", "--out", f"{out}/table1"]
    scale = ["--scale", "tiny", "--seeds", "1"] if tiny else ["--scale", "full"]
    return {
        "tests": [["pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", f"addopts={_NO_PLUGINS}", *tests]],
        "run": runs,
        "benchmark": [["experiments.benchmark", "pretrain", *device, *images, *quick, "--out", f"{out}/benchmark"]],
        "table 1": [["experiments.table1", *scale, *place, *options.table_options]],
    }


def run_command(part: str, command: Sequence[str], log: Path, limit: float) -> Done:
    """Run a command in a session of its own, keep its output, and end whatever is left of the session."""
    begin = time.monotonic()
    typed = " ".join(["python", "-m", *command])
    if limit <= 0:
        return Done(part, typed, 0.0, None, log.name)
    with log.open("w", encoding="utf-8") as stream:
        running = subprocess.Popen(  # noqa: S603  # this interpreter on this project's commands
            [sys.executable, "-m", *command], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = running.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(running)
    return Done(part, typed, round(time.monotonic() - begin, 1), status, log.name)


def _end(running: subprocess.Popen[bytes]) -> None:
    """Ask the command to save and end, and take from the GPU whatever it or its children leave there."""
    if running.poll() is None:
        running.terminate()
        try:
            running.wait(_SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            running.kill()
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def write_archive(folder: Path, limit: int = ARCHIVE_BYTES) -> list[str]:
    """Pack a folder into `results.tar.gz` beneath it, anew each time: the smallest files first, as many as fit.

    Args:
        folder: What is packed.
        limit: Bytes of the files together, which are more than those of the archive.

    Returns:
        The files that are left out.
    """
    archive = folder / "results.tar.gz"
    writing = archive.with_suffix(".writing")
    files = [path for path in folder.rglob("*") if path.is_file() and path not in {archive, writing}]
    left_out, total = [], 0
    with tarfile.open(writing, "w:gz") as packed:
        for path in sorted(files, key=lambda one: (one.stat().st_size, one)):
            total += path.stat().st_size + 1536  # a header, and the rest of the last block
            name = path.relative_to(folder).as_posix()
            if total > limit:
                left_out.append(name)
            else:
                packed.add(path, name)
    writing.replace(archive)
    return left_out


def _key_and_value(text: str) -> str:
    if "=" not in text.strip("="):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every part ended well."""
    parser = CommandLineParser(prog="python -m experiments.on_a_gpu", description=__doc__)
    parser.add_argument("--out", type=writable_folder, default="runs/on_a_gpu", help="folder for logs and results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run, in this order")
    parser.add_argument("--images", type=existing_folder, help="images in folders of classes, for the benchmark")
    parser.add_argument("--workers", type=whole_number(0), default=16, help="loading processes of the benchmark")
    parser.add_argument("--config", help="configuration of the pretraining; without it VI-SimSiam on ImageNette")
    parser.add_argument(
        "--run-options",
        nargs="+",
        default=[],
        type=_key_and_value,
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
    parser.add_argument("--minutes", type=whole_number(1), default=10, help="longest time for one command")
    parser.add_argument("--total-minutes", type=whole_number(1), default=12, help="longest time for all together")
    parser.add_argument("--tiny", action="store_true", help="on a CPU with tiny settings, to try the command")
    options = parser.parse_args(arguments)
    if options.config is None:
        name = "digits" if options.tiny else "imagenette"
        options.config = f"experiments/configs/{name}_vi_simsiam.yaml"
    if options.tiny:
        options.run_options = [*options.run_options, "training.epochs=1"]

    import torch  # noqa: PLC0415  # slow

    from experiments.records.environment import (  # noqa: PLC0415
        current_commit,
        describe_device,
        installed_versions,
    )

    if not options.tiny and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --tiny tries the same parts on a CPU")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what runs in its own session, too
    until = time.monotonic() + 60 * options.total_minutes
    summary = {
        "device": describe_device(),
        "tiny": options.tiny,
        "commit": current_commit(),
        "versions": installed_versions(),
    }
    done: list[Done] = []
    for part in options.parts:
        for command in commands(options)[part]:
            log = options.out / f"{len(done)}_{part.replace(' ', '_')}.log"
            minutes = min(options.minutes, _MOST_MINUTES.get(part, options.minutes))
            done.append(run_command(part, command, log, min(60.0 * minutes, until - time.monotonic())))
            state = {0: "ended well", None: "was stopped for its time"}.get(done[-1].status, "FAILED")
            print(f"{part}: {state} after {done[-1].seconds:.0f} s, see {log}", flush=True)
            content = {**summary, "parts": [asdict(one) for one in done]}
            (options.out / "summary.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
            left_out = write_archive(options.out)
            if done[-1].status in {0, None}:
                break  # what follows is for the case that this failed
    print(f"Results: {options.out / 'results.tar.gz'}; too large for it: {', '.join(left_out) or 'nothing'}")
    return 0 if {one.part for one in done if one.status == 0} == set(options.parts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
