"""Runs in this process, where what is tested is not the engine: processes take seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.studies import engine
from experiments.studies.engine import Study, Workers


def work_here(study: Study, _: Workers) -> None:
    """In place of `Study.work`."""
    for stage in study.stages:
        for run in stage(study.results):
            if study.finished(run) is None:
                result, failure = engine._carry_out(study.carry_out, run, Path.cwd())
                if result is None:
                    study.failures[run.name] = failure
                else:
                    study.results[run.name] = result


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "work", work_here)
        yield
