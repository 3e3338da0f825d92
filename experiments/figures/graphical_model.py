"""Fig. 2 of arXiv:2203.11437v1: the graphical model, as Pyro draws it from the running program."""

from __future__ import annotations

from pathlib import Path

import pyro
import torch

from inference.fitting.checkpointing import replace_file
from models.networks import small_convolutional_backbone
from models.vi_simsiam import VISimSiam


def graphical_model(path: Path) -> Path:
    """Let Pyro draw VI-SimSiam's model, with its distributions, into a PNG file.

    Raises:
        graphviz.ExecutableNotFound: If Graphviz is not installed.
    """
    model = VISimSiam(small_convolutional_backbone(), features=128, dim=32).eval().model
    views = [torch.rand(2, 1, 16, 16) for _ in range(2)]
    graph = pyro.render_model(model, model_args=(views,), render_distributions=True)
    graph.graph_attr.update(dpi="150", rankdir="TB")
    drawn: bytes = graph.pipe(format="png")

    def write(temporary: Path) -> None:
        temporary.write_bytes(drawn)

    replace_file(path, write)
    return path
