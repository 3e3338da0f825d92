"""From the first run to the last: what is finished is read, the rest is timed, done side by side, and counted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from experiments.studies.planning import Plan, Run
from experiments.studies.report import Outcomes, top1
from experiments.studies.running import Result, calibrate, carry_out, finished, prepare, steps
from experiments.studies.timing import Expected, words
from experiments.studies.workers import Workers


@dataclass(frozen=True)
class Work:
    """What is done with a run: by default what table 1 needs.

    Attributes:
        carry_out: Train and judge; the outcome is kept in the run's folder. Has `measures` and `seconds`.
        finished: The kept outcome; `None` if there is none.
        calibrate: Time `step` and `judging`, in seconds.
    """

    carry_out: Callable[[Run], Result] = carry_out
    finished: Callable[[Run], Result | None] = finished
    calibrate: Callable[[Run], Result] = calibrate


class Conductor:
    """All runs of a plan.

    Args:
        plan: The runs.
        work: What is done with each.

    Attributes:
        outcomes: What has been measured so far.
    """

    def __init__(self, plan: Plan, work: Work = Work()) -> None:
        self._plan = plan
        self._work = work
        self._tuning: dict[tuple[str, str, float], Result] = {}
        self._runs: dict[tuple[str, str, float], Result] = {}
        self._failures: dict[tuple[str, str, float], str] = {}
        self.outcomes = Outcomes(self._tuning, self._runs, self._failures)
        self._workers: Workers | None = None
        self._total = self._done = 0
        for run in plan.tuning():
            self._read(run, self._tuning)
        for run in plan.runs(self._rates()):
            self._read(run, self._runs)

    def left(self) -> list[Run]:
        """Runs that are not finished; those whose rate is not chosen yet have some rate of the grid."""
        tuning = [run for run in self._plan.tuning() if run.key not in self._tuning]
        return tuning + [run for run in self._plan.runs(self._rates(any_rate=True)) if run.key not in self._runs]

    @contextmanager
    def working(self, jobs: int, *, threads: int, gpus: int) -> Iterator[Expected | None]:
        """Check the images, start the processes, and say what is to be expected; `None` if nothing is left.

        Args:
            jobs: Runs at once.
            threads: Of each.
            gpus: That they share.
        """
        left = self.left()
        if not left:
            yield None
            return
        images = self._prepare(left)
        self._workers = Workers(min(jobs, len(left)), threads=threads, gpus=gpus if self._on_gpu else 0)
        try:
            yield self._expected(left, images)
        finally:
            self._workers.close()
            self._workers = None

    def work(self) -> None:
        """Do everything that is left: first what chooses the rates, then the table."""
        if self._workers is None:
            return
        self._total, self._done = len(self.left()), 0
        with tqdm(total=self._total, desc="runs", unit="run", disable=None) as bar:
            self._do([run for run in self._plan.tuning() if run.key not in self._tuning], self._tuning, bar)
            rates = self._rates()
            self._do([run for run in self._plan.runs(rates) if run.key not in self._runs], self._runs, bar)

    def _do(self, runs: list[Run], results: dict[tuple[str, str, float], Result], bar: Any) -> None:
        assert self._workers is not None  # noqa: S101  # the caller's invariant
        began = time.monotonic()
        for done, outcome in enumerate(self._workers.do(self._work.carry_out, runs), start=1):
            run = outcome.run
            if outcome.result is None:
                self._failures[run.key] = outcome.failure
                said = f"FAILED: {outcome.failure}"
            else:
                results[run.key] = outcome.result
                measures = outcome.result["measures"]
                accuracy, neighbours = top1(outcome.result), measures["knn"]["accuracy"]
                said = f"top-1 {accuracy:.1%}, kNN {neighbours:.1%}, {words(sum(outcome.result['seconds'].values()))}"
            bar.update()
            self._done += 1
            left = (time.monotonic() - began) / done * (self._total - self._done)
            tqdm.write(f"[{self._done}/{self._total}, about {words(left)} left] {run.title}: {said}")
            sys.stdout.flush()

    @property
    def _on_gpu(self) -> bool:
        return bool(self._plan.machine["engine.accelerator"] == "gpu")

    def _rates(self, *, any_rate: bool = False) -> dict[Any, float]:
        complete = all(run.key in {**self._tuning, **self._failures} for run in self._plan.tuning())
        if complete:
            return dict(self.outcomes.rates(self._plan))
        if not any_rate:
            return {}
        return {(name, row.rate): self._plan.scale.rates[0] for name in self._plan.sets for row in self._plan.rows}

    def _read(self, run: Run, results: dict[tuple[str, str, float], Result]) -> None:
        found = self._work.finished(run)
        if found is not None:
            results[run.key] = found

    def _prepare(self, left: list[Run]) -> dict[Any, int]:
        """Number of training images of each configuration of the data; they are decoded once, before the runs."""
        counts: dict[Any, int] = {}
        for run in left:
            key = (run.config.data, run.config.views.size)
            if key not in counts:
                counts[key], judged = prepare(run)
                print(f"{run.config.data.name}: {counts[key]:,} images to train on, {judged:,} to judge by", flush=True)
        return counts

    def _expected(self, left: list[Run], images: dict[Any, int]) -> Expected:
        assert self._workers is not None  # noqa: S101  # the caller's invariant
        # A run may have been trained, and be judged further: then only that is left of it.
        counted = [0 if finished(run) else steps(run, images[run.config.data, run.config.views.size]) for run in left]
        known = [result["seconds"] for result in (*self._tuning.values(), *self._runs.values())]
        trained = [seconds for seconds in known if seconds["training"] > 1]
        if trained:
            training = sum(seconds["training"] for seconds in trained) / len(trained)
            judging = sum(sum(seconds.values()) for seconds in trained) / len(trained) - training
            seconds = sum(training * bool(count) + judging for count in counted)
            return Expected(len(left), seconds, "the finished ones")
        slowest = max(
            left, key=lambda run: (run.kind == "trained", run.config.views.count, run.config.data.held_out == 0)
        )
        here = [
            replace(slowest, config=replace(slowest.config, out=str(self._plan.out / f"calibration_{number}")))
            for number in range(self._workers.count)
        ]
        timed = []
        for outcome in list(self._workers.do(self._work.calibrate, here)):
            if outcome.result is None:
                return Expected(len(left), None, f"a first try of {slowest.title} failed: {outcome.failure}")
            timed.append(outcome.result)
        step, judging = (sum(each[name] for each in timed) / len(timed) for name in ("step", "judging"))
        seconds = sum(count * step + judging for count in counted)
        return Expected(len(left), seconds, f"a few steps of {step:.3f} s and an evaluation of {judging:.0f} s")
