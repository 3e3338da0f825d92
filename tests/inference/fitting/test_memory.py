"""Freed memory stays with the process, in every thread, and no step depends on it."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from inference.fitting.memory import keep_freed_memory

_PAGE_FAULTS = """
import resource, sys, threading, torch
from inference.fitting.memory import keep_freed_memory

def faults_of_large_blocks():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12 * 2**20)  # 48 MiB, above the size that glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def compare():
    usual, kept = faults_of_large_blocks(), keep_freed_memory()
    in_a_thread(faults_of_large_blocks) if sys.argv[1] == "thread" else faults_of_large_blocks()  # takes the memory
    in_a_thread(lambda: print(kept, usual, faults_of_large_blocks()))

def in_a_thread(call):
    if sys.argv[1] == "main":
        return call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

compare()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_memory_that_is_kept_costs_no_page_faults_when_it_is_taken_again(where: str) -> None:
    # In a process of its own: what other tests freed would be taken here.
    command = [sys.executable, "-c", _PAGE_FAULTS, where]
    root = Path(__file__).parents[3]
    shares = []
    for _ in range(5):  # where a block lies is chance: four of five may still be taken anew, without the setting all
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603  # the text above
        kept, usual, fewer = done.stdout.split()
        assert kept == "True"
        assert int(usual) >= 5 * 24  # of 2 MiB at most each
        shares.append(int(fewer) / int(usual))
        if shares[-1] < 0.9:
            break
    assert min(shares) < 0.9


@pytest.mark.parametrize("error", [OSError("no such library"), AttributeError("mallopt")])
def test_nothing_happens_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(_: str) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not keep_freed_memory()
