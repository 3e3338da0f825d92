"""Files of embeddings: both formats hold what was given, in little memory, and refuse rows that are not the images'."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.evaluation.embedding_files import new_array, write_embeddings

FORMS = pytest.mark.parametrize("form", ["parquet", "npz"])
arrow: Any = pa  # its names come from a compiled module


def rows(names: list[str], batch: int, features: int = 5, dim: int = 3) -> Iterator[dict[str, Any]]:
    for start in range(0, len(names), batch):
        part = names[start : start + batch]
        random = np.random.default_rng(start)
        direction = random.normal(size=(len(part), dim)).astype(np.float32)
        yield {
            "features": random.normal(size=(len(part), features)).astype(np.float32),
            "mean_direction": direction / np.linalg.norm(direction, axis=1, keepdims=True),
            "concentration": random.exponential(size=len(part)).astype(np.float32),
        }


def read(path: Path, form: str) -> dict[str, Any]:
    """By the ways that the module's documentation gives."""
    if form == "npz":
        with np.load(path) as archive:
            found = dict(archive)
        return {**found, "about": json.loads(str(found["about"]))}
    table = pq.read_table(path)
    matrices = {
        name: table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        for name in ("features", "mean_direction")
    }
    return {
        "file": np.array(table["file"].to_pylist()),
        **matrices,
        "concentration": table["concentration"].to_numpy(),
        "about": json.loads(table.schema.metadata[b"about"]),
    }


@FORMS
@pytest.mark.parametrize("count", [1, 7, 1024, 2500])
def test_what_is_read_is_what_was_written(form: str, count: int, tmp_path: Path) -> None:
    names = [f"folder/Ünïcode 图 {number}.jpg" for number in range(count)]
    path = tmp_path / f"out.{form}"
    write_embeddings(path, form, rows(names, 300), names, {"checkpoint": "somewhere", "κ": 1})
    found = read(path, form)
    expected = list(rows(names, 300))
    assert found["file"].tolist() == names
    for name in ("features", "mean_direction", "concentration"):
        array = np.concatenate([part[name] for part in expected])
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)
    assert found["about"] == {"checkpoint": "somewhere", "κ": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_has_lists_of_fixed_size_in_row_groups_that_are_written_as_they_come(tmp_path: Path) -> None:
    names = [str(number) for number in range(3000)]
    write_embeddings(tmp_path / "out", "parquet", rows(names, 256), names, {})
    file = pq.ParquetFile(tmp_path / "out")
    assert str(file.schema_arrow.field("features").type) == "fixed_size_list<element: float>[5]"
    assert str(file.schema_arrow.field("mean_direction").type) == "fixed_size_list<element: float>[3]"
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [256] * 11 + [184]


@FORMS
def test_memory_does_not_grow_with_the_number_of_images(form: str, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        names = [f"{number:06d}" for number in range(count)]
        outside = 0

        def watched() -> Iterator[dict[str, Any]]:
            nonlocal outside
            for part in rows(names, 256, features=512, dim=128):
                outside = max(outside, arrow.total_allocated_bytes())
                yield part

        tracemalloc.start()
        write_embeddings(tmp_path / str(count), form, watched(), names, {})
        inside = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tmp_path / str(count)).stat().st_size > count * 4 * (512 + 128)
        return inside + outside

    small, large = peak(1500), peak(15000)
    assert large < 1.3 * small + 2**20  # the names are there once, and the data would be 38 MB


@FORMS
@pytest.mark.parametrize("fault", ["missing", "too_many", "none"])
def test_more_or_fewer_rows_than_images_are_refused_and_no_folder_is_left(
    form: str, fault: str, tmp_path: Path
) -> None:
    names = ["a", "b", "c", "d"]
    given = {"missing": names[:3], "too_many": [*names, "e"], "none": []}[fault]
    with pytest.raises(ValueError, match="parts must"):
        write_embeddings(tmp_path / "out", form, rows(given, 2), [] if fault == "none" else names, {})
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot take the room in advance")
def test_a_file_has_all_of_its_room_before_it_is_filled(tmp_path: Path) -> None:
    array = new_array(tmp_path / "features.npy", np.dtype(np.float32), (1000, 250))
    assert (tmp_path / "features.npy").stat().st_blocks * 512 >= array.nbytes
    assert not array.any()


def test_a_disk_without_room_is_named_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    with pytest.raises(OSError, match=r"2,000\.0 MB are needed: No space left on device: '.*features\.npy'") as caught:
        new_array(tmp_path / "features.npy", np.dtype(np.float32), (500_000, 1000))
    assert caught.value.errno == errno.ENOSPC
    assert [*tmp_path.iterdir()] == []
