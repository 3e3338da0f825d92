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
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: ICN001  # the usual short name is given below
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

pa: Any = pyarrow  # its names come from a compiled module, which type checkers cannot see
Matrix = NDArray[np.float32]

_COLUMNS = ("file", "features", "mean_direction", "concentration")


@dataclass(frozen=True)
class Rows:
    """The embeddings of a few images, one row an image."""

    file: Sequence[str]
    features: Matrix
    mean_direction: Matrix
    concentration: Matrix

    def __len__(self) -> int:
        return len(self.file)


def write_embeddings(path: Path, form: str, rows: Iterable[Rows], names: Sequence[str], about: dict[str, Any]) -> None:
    """Write rows into a file as they come.

    Memory does not grow with the number of images. An npz file consists of one array after the other, so that each
    array is first written to a file of its own, in a temporary folder beside `path`: it takes twice its size on the
    disk while it is written.

    Args:
        path: The file; not to be read before this returns.
        form: One of `FORMATS`.
        rows: Embeddings, at least one image.
        names: The names of all images, which the rows have to follow.
        about: Where the numbers come from, written along: the metadata entry, or the npz array, `about`, as JSON.

    Raises:
        ValueError: If `form` is unknown, there are no rows, or they are not those of `names`.
    """
    if form not in FORMATS:
        raise ValueError(f"form must be one of {', '.join(FORMATS)}, got {form!r}")
    FORMATS[form](path, _checked(rows, names), names, json.dumps(about))


def _checked(rows: Iterable[Rows], names: Sequence[str]) -> Iterable[Rows]:
    written = 0
    for part in rows:
        if list(part.file) != list(names[written : written + len(part)]):
            raise ValueError(f"rows must have the names of the images in order, got {part.file[0]!r} as row {written}")
        written += len(part)
        yield part
    if written != len(names) or not names:
        raise ValueError(f"rows must be those of all {len(names)} images, at least one, got {written}")


def _write_parquet(path: Path, rows: Iterable[Rows], names: Sequence[str], about: str) -> None:  # noqa: ARG001
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for part in rows:
            columns = {name: _column(getattr(part, name)) for name in _COLUMNS}
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


def _write_npz(path: Path, rows: Iterable[Rows], names: Sequence[str], about: str) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        arrays: dict[str, Path] = {name: Path(folder) / f"{name}.npy" for name in _COLUMNS}
        done = 0
        for part in rows:
            for name, file in arrays.items():
                values = np.asarray(getattr(part, name))
                dtype = values.dtype if name != "file" else np.dtype(f"<U{max(map(len, names))}")
                shape = (len(names), *values.shape[1:])
                # Opened for each batch alone, so that what was written does not stay in memory.
                array = open_memmap(file, "r+" if done else "w+", *(() if done else (dtype, shape)))
                array[done : done + len(part)] = values
                del array
            done += len(part)
        np.save(Path(folder) / "about.npy", np.array(about))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in (*_COLUMNS, "about"):
                archive.write(Path(folder) / f"{name}.npy", f"{name}.npy")


FORMATS: dict[str, Callable[[Path, Iterable[Rows], Sequence[str], str], None]] = {
    "parquet": _write_parquet,
    "npz": _write_npz,
}
"""Endings of the files that can be written."""
