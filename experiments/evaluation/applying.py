"""What `python -m experiments.embed RESULT --features FILE` does: κ, and the cosine that it promises, of features."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: ICN001  # the usual short name is given below
import pyarrow.parquet as pq
import torch

from experiments.evaluation.encoders import load_added
from experiments.evaluation.view_features import read_columns
from inference.fitting.checkpointing import replace_file

pa: Any = pyarrow  # its names come from a compiled module, which type checkers cannot see


def run(options: Namespace) -> int:
    """Read features, apply the head, write item, view, κ and ρ(κ) of each row; returns the exit status.

    Raises:
        ValueError: If the result or the features cannot be used.
        OSError: If the file cannot be written.
    """
    pair, _ = load_added(options.checkpoint)
    item, view, vector = read_columns(options.features)
    expert = pair.expert(torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32)))
    table = {
        "item": item,
        "view": view,
        "concentration": expert.concentration.numpy(),
        "mean_resultant_length": expert.mean_resultant_length.numpy(),
    }

    def write(path: Path) -> None:
        if options.out.suffix == ".parquet":
            pq.write_table(pa.table(table), path)
        else:
            with path.open("wb") as stream:
                np.savez(stream, **table)

    replace_file(options.out, write)
    print(f"Saved {options.out}: κ and ρ of {len(item):,} rows")
    return 0
