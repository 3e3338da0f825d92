"""Trainings × seeds: what is finished is read, and Dask's workers do the rest.

A run that fails, or whose process dies, does not stop the others. What stops the command stops the trainings after
their step, with their state saved, and the same command goes on with them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from experiments.pretraining.interruption import interrupt_all
from inference.fitting.checkpointing import CheckpointError, replace_text

if TYPE_CHECKING:
    from distributed import Client

Result = dict[str, Any]
"""What a run leaves behind: `measures`, and `seconds` by part."""

_RESULT = "result.json"
_SECONDS_TO_SAVE = 60.0


@dataclass(frozen=True)
class Run:
    """One training that is judged.

    Attributes:
        name: Its folder below the study's.
        title: For people.
        epochs: How long it is.
    """

    name: str
    title: str
    epochs: int


@dataclass(frozen=True)
class Workers:
    """Where the runs are done.

    Attributes:
        jobs: Runs at once; all, for a cluster to divide among its workers, when not given.
        scheduler: Address of a cluster; without, processes are started here.
        threads: Of each process that is started here, for computations on the CPU.
        gpus: That those processes share, in turn.
    """

    jobs: int | None
    scheduler: str | None
    threads: int = 1
    gpus: int = 0


@dataclass
class Study:
    """All runs of a command.

    Attributes:
        everything: The runs, for counting; what is still to be chosen, such as a learning rate, may be provisional.
        stages: The same runs, stage by stage; each is called with the results of those before.
        carry_out: What a worker does with a run: a function that can be pickled. It keeps the result, see `keep`.
        finished: The kept result; `None` if there is none.
        say: A result in a few words.
        results: What has been measured so far, by the name of the run.
        failures: Why the others failed.
    """

    everything: Sequence[Any]
    stages: Sequence[Callable[[Mapping[str, Result]], Iterable[Any]]]
    carry_out: Callable[[Any], Result]
    finished: Callable[[Any], Result | None]
    say: Callable[[Result], str]
    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[Any]:
        """Read what is finished; returns the runs that are not."""
        for stage in self.stages:
            found = {run.name: self.finished(run) for run in stage(self.results)}
            self.results.update({name: result for name, result in found.items() if result is not None})
        return [run for run in self.everything if run.name not in self.results]

    def work(self, workers: Workers) -> None:
        """Do all that is left."""
        from experiments.studies.worker import Process  # noqa: PLC0415  # who does without Dask need not have it

        left = [run for run in self.everything if run.name not in self.results]
        jobs = min(workers.jobs or len(left), len(left))
        print(f"{len(left)} runs to do, {jobs} at once", flush=True)
        epochs = sum(run.epochs for run in left)
        with _cluster(workers, jobs) as client, tqdm(total=epochs, unit="epoch", smoothing=0) as bar:
            client.register_plugin(Process(workers.gpus, _SECONDS_TO_SAVE))
            for stage in self.stages:
                # Asked anew: what the stage before has changed, such as a rate, may not be what a finished run had.
                self._do(client, [run for run in stage(self.results) if self.finished(run) is None], jobs, bar)

    def _do(self, client: Client, runs: Iterable[Run], jobs: int, bar: tqdm) -> None:
        from distributed import KilledWorker, as_completed  # noqa: PLC0415
        from distributed.client import FutureCancelledError  # noqa: PLC0415

        waiting, running = iter(runs), {}

        def begin(count: int) -> Iterator[Any]:
            # No more than can run: a worker that dies takes with it all that was given to it.
            for run in islice(waiting, count):
                future = client.submit(_carry_out, self.carry_out, run, Path.cwd(), pure=False)
                running[future] = run
                yield future

        try:
            done = as_completed(begin(jobs))
            for future in done:
                run = running.pop(future)
                try:
                    result, failure = future.result()
                except (KilledWorker, FutureCancelledError):
                    result, failure = None, "its worker died"
                if result is None:
                    self.failures[run.name], said = failure, f"FAILED: {failure}"
                else:
                    self.results[run.name] = result
                    said = f"{self.say(result)}, {tqdm.format_interval(sum(result['seconds'].values()))}"
                ended = f"{len(self.results) + len(self.failures)}/{len(self.everything)}"
                bar.clear()
                print(f"[{ended}] {run.title}: {said}", flush=True)
                bar.update(run.epochs)
                done.update(begin(1))
        except BaseException:
            # Ctrl-C above all: trainings end after their step, with their state saved.
            client.cancel(list(running))
            client.run(interrupt_all, _SECONDS_TO_SAVE, on_error="ignore")
            raise


def keep(folder: Path, result: Result) -> Result:
    """Write the result of a run, in one piece."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / _RESULT, json.dumps(result, indent=1, ensure_ascii=False, default=str) + "\n")
    return result


def kept(folder: Path, different: Callable[[Result], list[str]]) -> Result | None:
    """What an earlier start of the command has measured; `None` if it has not come so far.

    Args:
        folder: Of the run.
        different: Which settings of the kept run differ from those of now.

    Raises:
        CheckpointError: If some do, or the file is damaged.
    """
    path = folder / _RESULT
    try:
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        lines = different(result)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it, or give another --out") from error
    if lines:
        raise CheckpointError(f"{path} is of other settings: {'; '.join(lines)}. Give the same ones, or another --out")
    return result


def _carry_out(carry_out: Callable[[Any], Result], run: Any, folder: Path) -> tuple[Result | None, str]:
    os.chdir(folder)  # a worker on another machine starts elsewhere
    return attempt(carry_out, run)


def attempt(carry_out: Callable[[Any], Result], run: Any) -> tuple[Result | None, str]:
    """The result of a run; or `None`, and why it failed."""
    try:
        return carry_out(run), ""
    except Exception as error:  # noqa: BLE001  # whatever it is, the other runs go on
        kind = "" if isinstance(error, (ValueError, OSError, RuntimeError)) else f"{type(error).__name__}: "
        return None, kind + " ".join(str(error).split())


@contextmanager
def _cluster(workers: Workers, jobs: int) -> Iterator[Client]:
    import dask  # noqa: PLC0415
    from distributed import Client, LocalCluster  # noqa: PLC0415

    if workers.scheduler is not None:
        with Client(workers.scheduler) as client:
            many = max(client.nthreads().values(), default=1)
            if many > 1:
                raise ValueError(f"--scheduler {workers.scheduler}: each worker must have 1 thread, got {many}")
            print(f"Dask's dashboard: {client.dashboard_link}", flush=True)
            yield client
        return
    # OpenMP reads its number of threads when torch is imported, which spawning does.
    variables = {"OMP_NUM_THREADS": str(workers.threads), "MKL_NUM_THREADS": str(workers.threads)}
    os.environ.update(variables)  # Dask does the same, but with what stands there before its own configuration
    settings = {
        "distributed.nanny.pre-spawn-environ": variables,
        "distributed.worker.multiprocessing-method": "spawn",  # so that a GPU can be used in each
        "distributed.worker.daemon": False,  # a daemon may not start loading processes
        "distributed.worker.profile.enabled": False,
        "distributed.scheduler.allowed-failures": 0,  # what killed a worker is not tried on the next
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        shown = cluster.dashboard_link if find_spec("bokeh") else "pip install bokeh to have one"
        print(f"Dask's dashboard: {shown}", flush=True)
        yield client
