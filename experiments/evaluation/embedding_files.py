"""Embeddings of any number of images in one file, written as they come: Parquet or NumPy's npz.

Both hold, for each image in the order of its name: `file` (path relative to the folder), `features` (float32, output of
the backbone), `mean_direction` (float32, μ of the expert, a unit vector) and `concentration` (float32, κ).

Parquet is read without loading it whole, by pyarrow, pandas, Polars or DuckDB; its lists have a fixed size, so that a
column becomes a matrix without a copy:

    table = pyarrow.parquet.read_table("embeddings.parquet", columns=["features"])
    features = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)

An npz file needs NumPy alone: `numpy.load("embeddings.npz")["features"]` reads that array.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: ICN001  # the usual short name is given below
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

pa: Any = pyarrow  # its names come from a compiled module, which type checkers cannot see
Matrix = NDArray[np.float32]

COLUMNS = ("features", "mean_direction", "concentration")
"""Of numbers, beside the names."""


Columns = Mapping[str, Matrix]


def write_columns(path: Path, form: str, table: Mapping[str, Any]) -> None:
    """Write a few columns, which are in memory, as Parquet or npz."""
    if form == "parquet":
        pq.write_table(pa.table(dict(table)), path)
    else:
        with path.open("wb") as stream:
            # Text as such, not as objects, which NumPy would pickle and refuse to read.
            np.savez(stream, **{name: of.astype(str) if of.dtype == object else of for name, of in table.items()})


def write_embeddings(
    path: Path, form: str, parts: Iterable[Columns], names: Sequence[str], about: dict[str, Any]
) -> None:
    """Write embeddings into a file as they come.

    Memory does not grow with the number of images. An npz file consists of one array after the other, so that each
    array is first written to a file of its own, in a temporary folder beside `path`: it takes twice its size on the
    disk while it is written.

    Args:
        path: The file; not to be read before this returns.
        form: `parquet` or `npz`.
        parts: Columns of some images at a time, of all but their names.
        names: The names of all images, at least one, in the order of the parts.
        about: Where the numbers come from, written along: the metadata entry, or the npz array, `about`, as JSON.

    Raises:
        ValueError: If the parts are of more or fewer images than there are names.
    """
    write = _write_parquet if form == "parquet" else _write_npz
    write(path, _named(parts, names), names, json.dumps(about))


def _named(parts: Iterable[Columns], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    done = 0
    for part in parts:
        start, done = done, done + len(part["concentration"])
        if done > len(names):
            break
        yield {"file": names[start:done], **part}
    if done != len(names) or not names:
        raise ValueError(f"parts must be of all {len(names)} images, at least one, got {done}")


def _write_parquet(path: Path, parts: Iterable[dict[str, Any]], names: Sequence[str], about: str) -> None:  # noqa: ARG001
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for part in parts:
            columns = {name: _column(part[name]) for name in ("file", *COLUMNS)}
            table = pa.table(columns).replace_schema_metadata({"about": about})
            # Dictionaries and compression help text; they would only cost time on floating-point numbers.
            writer = writer or stack.enter_context(
                pq.ParquetWriter(path, table.schema, use_dictionary=False, compression={"file": "zstd"})
            )
            writer.write_table(table)


def _column(values: Sequence[str] | Matrix) -> Any:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float32()), values.shape[1])
    return pa.array(values, pa.float32() if isinstance(values, np.ndarray) else pa.string())


def new_array(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """An array of zeros in a file, to be written a part at a time; all of its room on the disk is taken now.

    Without that the file would be sparse, and a disk that fills up later would end the process by a signal.

    Raises:
        OSError: If the disk has too little room; the file is removed again.
    """
    array: np.memmap[Any, Any] = open_memmap(file, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        try:
            with file.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
        except OSError as error:
            file.unlink()
            raise OSError(
                error.errno, f"{array.nbytes / 1e6:,.1f} MB are needed: {error.strerror}", str(file)
            ) from error
    return array


def _write_npz(path: Path, parts: Iterable[dict[str, Any]], names: Sequence[str], about: str) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        arrays: dict[str, Path] = {name: Path(folder) / f"{name}.npy" for name in ("file", *COLUMNS)}
        done, text = 0, np.dtype(f"<U{max(map(len, names), default=0)}")
        for part in parts:
            for name, file in arrays.items():
                values = np.asarray(part[name])
                dtype = values.dtype if name != "file" else text
                shape = (len(names), *values.shape[1:])
                # Opened for each batch alone, so that what was written does not stay in memory.
                array = open_memmap(file, "r+") if done else new_array(file, dtype, shape)
                array[done : done + len(values)] = values
                del array
            done += len(part["file"])
        np.save(Path(folder) / "about.npy", np.array(about))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in ("file", *COLUMNS, "about"):
                archive.write(Path(folder) / f"{name}.npy", f"{name}.npy")
