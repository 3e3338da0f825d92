"""Everything that needs a GPU, in one command: its tests, pairs trained side by side, the benchmark of pretraining.

The most valuable part comes first, because a machine may be taken away at any time. Each part is a command in a session
of its own, which is ended as a whole when its time is over. The others run even if one fails or is stopped. Every
minute and after each part, archives of at most 15 MiB are written anew. They hold what fits of logs, metrics, tables,
features and weights, the smallest files first. A summary says what ran, for how long, on which device, from which
commit. With --tiny the same parts run on a CPU with tiny settings, to see that the command works before a GPU is taken.
--wheels fetches what such a machine lacks, if it has no network.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from experiments.command_line.parser import CommandLineParser, existing_folder, whole_number, writable_folder

PARTS = ("tests", "pairs", "steps", "jobs")
ARCHIVE_BYTES, MOST_ARCHIVES = 15 * 2**20, 4  # together less than 64 MiB, which is what such a machine hands back
WHEELS = (
    "pyro-ppl", "pyro-api", "opt-einsum", "psutil", "jsonargparse", "docstring-parser", "typeshed-client",
    "importlib-resources",
)  # fmt: skip
"""What the parts import beside torch, torchvision, lightning, timm, scikit-learn and matplotlib."""

_FOR_WHICH_PYTHON = ("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64")
_MOST_MINUTES = {"tests": 2}  # the rest of a short loan is for what only a GPU can measure
_SHARE_FOR_TRAINING = 0.65  # of the time of the pairs; the rest is for decoding and judging
_SECONDS_TO_SAVE = 20.0  # from the request to end until the end
_BETWEEN_ARCHIVES = 60.0  # seconds
_NO_PLUGINS = "--import-mode=importlib"  # instead of options that only pytest's plugins understand


def commands(options: argparse.Namespace, seconds: float) -> dict[str, list[list[str]]]:
    """Modules and arguments of each part, which has so many seconds, and of which the next is tried where one fails."""
    out, tiny = options.out, options.tiny
    tests = sorted(str(path) for path in Path("tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    minutes = f"{_SHARE_FOR_TRAINING * seconds / 60:.2f}"
    pairs = ["experiments.table1", "--rows", "simsiam", "vi_simsiam", "--minutes", minutes]
    pairs += ["--device", "cpu", "--scale", "tiny"] if tiny else ["--device", "gpu", "--scale", "one_gpu"]
    pairs += options.table_options
    benchmark = ["experiments.benchmark", "pretrain"]
    benchmark += ["--device", "cpu", "--quick"] if tiny else ["--device", "cuda", "--workers", str(options.workers)]
    benchmark += ["--images", str(options.images)] if options.images else []
    return {
        "tests": [["pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", f"addopts={_NO_PLUGINS}", *tests]],
        # After a recording that fails, the GPU is of no use to the same process.
        "pairs": [[*pairs, "--out", f"{out}/pairs"], [*pairs, "--eager", "--out", f"{out}/pairs_eager"]],
        # Each saves what it has measured at its end: of one for both, a stop in the longer would leave nothing.
        "steps": [[*benchmark, "--parts", "step", "embed", "--out", f"{out}/steps"]],
        "jobs": [[*benchmark, "--parts", "jobs", "--out", f"{out}/jobs"]],
    }


def run_command(
    command: Sequence[str], log: Path, limit: float, meanwhile: Callable[[], object] = lambda: None
) -> int | None:
    """Run a command in a session of its own, keep its output, and end whatever is left of the session.

    Args:
        command: A module and its arguments.
        log: Receives what it prints.
        limit: Seconds after which it is stopped.
        meanwhile: Called every minute.

    Returns:
        Its exit status; `None` if it was stopped for the time it took, or not started for want of it.
    """
    until = time.monotonic() + limit
    if limit <= 0:
        return None
    with log.open("w", encoding="utf-8") as stream:
        running = subprocess.Popen(  # noqa: S603  # this interpreter on this project's commands
            [sys.executable, "-m", *command], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while (left := until - time.monotonic()) > 0:
                with suppress(subprocess.TimeoutExpired):
                    return running.wait(min(left, _BETWEEN_ARCHIVES))
                meanwhile()
            return None
        finally:
            _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    """Ask the command to save and end, and take from the GPU whatever it or its children leave there."""
    # As Ctrl-C first, on which pytest says what has failed so far; a command in the background may not listen to that.
    for ask in (signal.SIGINT, signal.SIGTERM):
        if running.poll() is None:
            running.send_signal(ask)
            with suppress(subprocess.TimeoutExpired):
                running.wait(_SECONDS_TO_SAVE / 2)
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def write_archives(folder: Path, into: Path, limit: int = ARCHIVE_BYTES, most: int = MOST_ARCHIVES) -> list[str]:
    """Pack a folder into `results_1.tar.gz` and so on, anew each time: the smallest files first, as many as fit.

    Args:
        folder: What is packed.
        into: Where the archives are written; archives there are not packed.
        limit: Bytes of the files of an archive together, which are more than its own.
        most: Archives.

    Returns:
        The files that are left out.
    """
    left = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a part that runs has taken it away
            if path.is_file() and not path.name.startswith("results_"):
                left.append((path.stat().st_size + 1536, path))  # with a header, and the rest of a last block
    left.sort()
    for number in range(1, most + 1):
        free, writing = limit, into / f"results_{number}.tar.gz.writing"
        with tarfile.open(writing, "w:gz", dereference=True) as packed:
            while left and left[0][0] <= free:
                size, path = left.pop(0)
                free -= size
                with suppress(FileNotFoundError):
                    header, content = packed.gettarinfo(path, path.relative_to(folder).as_posix()), path.read_bytes()
                    header.size = len(content)  # a part that runs may have replaced it in between
                    packed.addfile(header, BytesIO(content))
        writing.replace(writing.with_suffix(""))
        if not left or left[0][0] > limit:
            break
    for old in range(number + 1, most + 1):  # of an earlier, larger state: unpacked later, they would undo this one
        (into / f"results_{old}.tar.gz").unlink(missing_ok=True)
    return [path.relative_to(folder).as_posix() for _, path in left]


def fetch_wheels(folder: Path) -> int:
    """Download `WHEELS` for a machine that has no network; returns the exit status of pip."""
    command = ["-m", "pip", "download", "--only-binary=:all:", "--no-deps", *_FOR_WHICH_PYTHON, "--dest", str(folder)]
    status = subprocess.run([sys.executable, *command, *WHEELS], check=False).returncode  # noqa: S603  # pip
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    if not status:
        where = shlex.quote(str(folder))
        print(f"{size / 2**20:.1f} MiB; install them there with: pip install --no-index --no-deps {where}/*.whl")
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every part ended well."""
    parser = CommandLineParser(prog="python -m experiments.on_a_gpu", description=__doc__)
    parser.add_argument("--out", type=writable_folder, default="runs/on_a_gpu", help="folder for logs and results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run, in this order")
    parser.add_argument("--images", type=existing_folder, help="images in folders of classes, for the benchmark")
    parser.add_argument("--workers", type=whole_number(0), default=16, help="loading processes of the benchmark")
    parser.add_argument("--archives", type=writable_folder, help="folder for the archives; default: that of --out")
    parser.add_argument("--wheels", type=writable_folder, help="only fetch what such a machine lacks, into this folder")
    parser.add_argument(
        "--table-options",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="of experiments.table1, for the pairs: everything from here on, such as --root path/of/sets --seeds 3",
    )
    parser.add_argument(
        "--minutes",
        type=whole_number(1),
        default=8,
        help="longest time for one command; 2 for tests before other parts",
    )
    parser.add_argument("--total-minutes", type=whole_number(1), default=12, help="longest time for all together")
    parser.add_argument("--tiny", action="store_true", help="on a CPU with tiny settings, to try the command")
    return parser.run(arguments, __name__)


def run(options: argparse.Namespace) -> int:
    """Run the parts, one after the other; returns the exit status: 0 if every part ended well.

    What stops the command stops its part, too, and is followed by a last summary and the last archives.

    Raises:
        ValueError: If there is no GPU, or the folder holds results already.
        OSError: If something cannot be written.
    """
    if options.wheels is not None:
        return fetch_wheels(options.wheels)

    import torch  # noqa: PLC0415  # slow

    from experiments.records.environment import current_commit, describe_device, installed_versions  # noqa: PLC0415

    if not options.tiny and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no GPU here; --tiny tries the same parts on a CPU")
    if (options.out / "summary.json").exists():
        raise ValueError(f"{options.out} holds the results of an earlier command: give another --out")
    for end in (signal.SIGTERM, signal.SIGHUP):  # what runs in its own session is ended, too
        if signal.getsignal(end) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(end, lambda received, _: sys.exit(128 + received))
    done: list[dict[str, Any]] = []
    until = time.monotonic() + 60 * options.total_minutes
    summary = {
        "device": describe_device(),
        "tiny": options.tiny,
        "commit": current_commit(),
        "versions": installed_versions(),
        "parts": done,
    }
    pack = partial(write_archives, options.out, options.archives or options.out)
    for part in options.parts:
        last = part == options.parts[-1]
        minutes = options.minutes if last else min(options.minutes, _MOST_MINUTES.get(part, options.minutes))
        for number in range(len(commands(options, 0)[part])):
            began, log = time.monotonic(), options.out / f"{len(done)}_{part}.log"
            limit = min(60.0 * minutes, until - began)
            command = commands(options, limit)[part][number]
            one: dict[str, Any] = {"part": part, "command": shlex.join(["python", "-m", *command]), "status": None}
            one |= {"log": log.name} if limit > 0 else {}
            done.append(one)
            try:
                status = one["status"] = run_command(command, log, limit, pack)
            finally:
                one["seconds"] = round(time.monotonic() - began, 1)
                (options.out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
                left_out = pack()
            state = {0: "ended well", None: "was stopped for its time"}.get(status, "FAILED")
            said = (
                f"{state} after {one['seconds']:.0f} s, see {log}" if limit > 0 else "was not started, the time is up"
            )
            print(f"{part}: {said}", flush=True)
            if status in {0, None} or any(Path(command[-1]).glob("*.json")):
                break  # what follows is for the case that nothing came of this, not for one training that failed
    print(f"Results: {options.archives or options.out}/results_*.tar.gz; too large: {', '.join(left_out) or 'nothing'}")
    return 0 if {one["part"] for one in done if one["status"] == 0} == set(options.parts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
