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
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow  # noqa: ICN001  # the usual short name is given below
import pyarrow.parquet as pq
from numpy.typing import NDArray

pa: Any = pyarrow  # its names come from a compiled module, which type checkers cannot see
Matrix = NDArray[np.float32]

_ROWS_OF_A_GROUP = 1024  # about 10 MB at 512 features and 2,048 dimensions


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
    writer: pq.ParquetWriter | None = None
    try:
        waiting: list[Any] = []
        for part in rows:
            waiting.append(_table(part, about))
            if writer is None:
                # Dictionaries and compression help text; they would only cost time on floating-point numbers.
                writer = pq.ParquetWriter(path, waiting[0].schema, use_dictionary=False, compression={"file": "zstd"})
            if sum(map(len, waiting)) >= _ROWS_OF_A_GROUP:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting = []
        if writer is not None and waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
    finally:
        if writer is not None:
            writer.close()


def _table(part: Rows, about: str) -> Any:
    columns = {
        "file": pa.array(list(part.file), pa.string()),
        "features": _fixed_size_lists(part.features),
        "mean_direction": _fixed_size_lists(part.mean_direction),
        "concentration": pa.array(part.concentration, pa.float32()),
    }
    return pa.table(columns).replace_schema_metadata({"about": about})


def _fixed_size_lists(matrix: Matrix) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1), pa.float32()), matrix.shape[1])


def _write_npz(path: Path, rows: Iterable[Rows], names: Sequence[str], about: str) -> None:
    folder = path.with_name(f"{path.name}.arrays")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir()
    try:
        text = f"<U{max(map(len, names), default=1)}"
        open_files: dict[str, IO[bytes]] = {}
        try:
            for part in rows:
                arrays = {
                    "file": np.array(part.file, dtype=text),
                    "features": part.features,
                    "mean_direction": part.mean_direction,
                    "concentration": part.concentration,
                }
                for name, array in arrays.items():
                    if name not in open_files:
                        open_files[name] = (folder / f"{name}.npy").open("wb")
                        header = {"descr": array.dtype.str, "fortran_order": False}
                        shape = (len(names), *array.shape[1:])
                        np.lib.format.write_array_header_1_0(open_files[name], {**header, "shape": shape})
                    open_files[name].write(np.ascontiguousarray(array).tobytes())
        finally:
            for file in open_files.values():
                file.close()
        np.save(folder / "about.npy", np.array(about))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in [*open_files, "about"]:
                archive.write(folder / f"{name}.npy", f"{name}.npy")
    finally:
        shutil.rmtree(folder)


FORMATS: dict[str, Callable[[Path, Iterable[Rows], Sequence[str], str], None]] = {
    "parquet": _write_parquet,
    "npz": _write_npz,
}
"""Endings of the files that can be written."""
