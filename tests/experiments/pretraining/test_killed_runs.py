"""A run that is killed at any moment and resumed ends as if nothing had happened, to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import FORMAT
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.training import pretrain
from inference.fitting.checkpointing import load_checkpoint

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start a pretraining in a process of its own, forked from one that has imported everything."""
    folder = tmp_path_factory.mktemp("preload")
    # tqdm's own lock is a semaphore of the system, which a killed process leaves behind, or leaves locked.
    (folder / "preload_pretraining.py").write_text(
        "import threading, tqdm, experiments.pretraining.training\ntqdm.tqdm.set_lock(threading.RLock())\n", "utf-8"
    )
    # The server looks where PYTHONPATH says: not every Python hands it sys.path. What it does not find it leaves out.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT), *([before] if before else [])])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preload_pretraining"])
    started = []

    def start(*arguments: Any) -> Any:
        process = context.Process(target=pretrain, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    for process in started:
        if process.is_alive():
            process.kill()
            process.join()


def ended(out: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The last checkpoint without what is the folder's own, and the table without what depends on the clock."""
    content = load_checkpoint(RunFolder(out).last, FORMAT)
    del content["config"]
    rows = read_rows(RunFolder(out).metrics)
    for row in rows:
        del row["images_per_second"]
    return content, rows


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, (tuple, list)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    else:
        assert first == second


def run_to_the_end(start: Callable[..., Any], config: PretrainConfig, *resume: str) -> None:
    process = start(config, *resume)
    process.join()
    assert process.exitcode == 0


def resume(log: RunFolder) -> list[str]:
    return ["last"] if log.config.exists() else []


def kill_some_time_after(process: Any, log: RunFolder, saves: int, fraction: float, pace: list[float]) -> bool:
    """Kill a life after it has saved so often and a fraction of the time between two saves; whether it was still alive.

    `pace` holds the latest times until the first save and between two, whatever the machine is busy with.
    """
    seen, since = -1, time.monotonic()
    before = log.last.stat().st_ino if log.last.exists() else None
    while process.exitcode is None:
        if seen < saves - 1 and log.last.exists() and log.last.stat().st_ino != before:
            before, seen = log.last.stat().st_ino, seen + 1
            pace[min(seen, 1)], since = time.monotonic() - since, time.monotonic()
        if seen == saves - 1 and time.monotonic() - since >= fraction * pace[min(saves, 1)]:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            break  # the signal may still have come too late
        time.sleep(0.001)
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kills"), [("vi_simsiam", 20), ("byol", 5)])
def test_a_run_killed_at_random_moments_and_resumed_ends_with_the_same_bits(
    method: str,
    kills: int,
    configuration: Callable[..., PretrainConfig],
    tmp_path: Path,
    start: Callable[..., Any],
) -> None:
    run_to_the_end(start, configuration(tmp_path / "whole", method))
    draw = random.Random(1)  # noqa: S311
    config = configuration(tmp_path / "killed", method)
    log, pace = RunFolder(config.out), [0.5, 0.05]
    killed_after: list[int] = []
    while len(killed_after) < kills:
        process = start(config, *resume(log))
        if kill_some_time_after(process, log, draw.randrange(4), draw.uniform(0, 1.2), pace):
            killed_after.append(load_checkpoint(log.last, FORMAT)["step"] if log.last.exists() else 0)
        else:  # the run came to its end first: what is there must be right, and the killing starts anew
            assert process.exitcode == 0
            assert_same(ended(tmp_path / "whole"), ended(tmp_path / "killed"))
            shutil.rmtree(config.out)
    run_to_the_end(start, config, *resume(log))
    assert_same(ended(tmp_path / "whole"), ended(tmp_path / "killed"))
    assert len(set(killed_after)) > kills // 3, killed_after  # in the middle of a run, not only before its first step
