"""Streaming takes the same memory, however large the set: what grows with it is its list of paths and its order."""

from __future__ import annotations

import multiprocessing
import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.batches import StreamedBatches
from experiments.images.image_sets import FileSource, ImageSet
from experiments.images.order import EpochOrder

MEBIBYTE = 2**20
SMAPS = Path("/proc/self/smaps_rollup")


class ImaginedFiles(FileSource):
    """Files that are not there: the path is looked up, as it is for a real file, and the image is white."""

    def read(self, index: int) -> Image.Image:
        assert self.path(index).name == f"{index:08d}.JPEG"
        return Image.new("RGB", (6, 6), "white")


def imagine(images: int) -> ImageSet:
    paths = [f"train/class-{index % 10}/{index:08d}.JPEG" for index in range(images)]
    return ImageSet("imagined", ImaginedFiles("root", paths), torch.zeros(images, dtype=torch.int64), ("a",))


def own_memory(process: int) -> int:
    """Bytes of memory that a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Dirty", "Private_Clean")))


def memory_of_a_worker(images: int) -> int:
    """A worker's own memory after 40 to 60 steps, in which it reads up to 3,840 images from all over the set."""
    plain = ViewRecipe(size=2, jitter_probability=0, grey_probability=0, blur_probability=0)
    batches = StreamedBatches(
        imagine(images), EpochOrder(images, 64, seed=0), ((plain, 1),), start=0, stop=60, workers=1
    )
    measured = []
    for step, _ in enumerate(batches):
        if step >= 40:
            measured += [own_memory(child.pid or 0) for child in multiprocessing.active_children()]
    return min(measured)  # what it holds for a moment comes and goes


@pytest.mark.skipif(not SMAPS.exists(), reason="measured by Linux's account of a process's memory")
def test_a_workers_memory_stays_flat_as_the_set_grows_tenfold() -> None:
    small, large = memory_of_a_worker(20_000), memory_of_a_worker(200_000)
    # Paths kept as Python strings made the difference 7 MiB and growing: looking one up writes to its page.
    assert abs(large - small) < 3 * MEBIBYTE


def test_the_list_of_a_set_takes_its_bytes_and_little_else() -> None:
    images = 50_000
    tracemalloc.start()
    try:
        listed = imagine(images)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(listed.source, FileSource)
    path = len(os.fsencode(listed.source.relative_path(0)))
    assert kept < images * (path + 8) + MEBIBYTE  # the path and where it ends; torch's labels are not traced
    as_strings = images * (49 + path + 8)  # an object and a pointer each
    assert kept < as_strings / 2
