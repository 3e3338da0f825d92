"""Draw the figures that explain the method: data flow (Fig. 1), graphical model (Fig. 2), loss surface (Fig. 3).

The graphical model is drawn by Pyro from the running program. That needs Graphviz, whose program `dot` comes with the
operating system (`apt install graphviz`, `brew install graphviz`); without it the other figures are still drawn.
With `--interactive` it writes figures with sliders, one web page each that needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import graphviz
import pyro
import torch

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.figures import data_flow_figure, interactive, loss_surface_figure, save_figure
from models.networks import small_convolutional_backbone
from models.vi_simsiam import VISimSiam


def graphical_model(path: Path, views: int = 2) -> Path:
    """Let Pyro draw VI-SimSiam's model, with its distributions, into a PNG file.

    Raises:
        graphviz.ExecutableNotFound: If Graphviz is not installed.
    """
    model = VISimSiam(small_convolutional_backbone(), features=128, dim=32).eval().model
    images = [torch.rand(2, 1, 16, 16) for _ in range(views)]
    graph = pyro.render_model(model, model_args=(images,), render_distributions=True)
    graph.graph_attr.update(dpi="150", rankdir="TB")
    return Path(graph.render(outfile=path, cleanup=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.draw", description=__doc__)
    parser.add_argument("--dim", type=whole_number(2), default=2048, help="dimension of the loss surface's sphere")
    parser.add_argument("--out", type=writable_folder, default="runs/figures", help="folder for the figures")
    parser.add_argument(
        "--interactive", action="store_true", help="draw the figures that one can turn instead, a web page each"
    )
    options = parser.parse_args(arguments)
    if options.interactive:
        figures = (
            interactive.density_on_the_sphere,
            interactive.loss_over_cosine,
            interactive.product_of_experts,
            interactive.narrowing_guide,
        )
        for draw in figures:
            print(interactive.write(draw(), options.out / f"{draw.__name__}.html"))
        return 0
    saved = [
        save_figure(data_flow_figure(), options.out / "data_flow.png"),
        save_figure(loss_surface_figure(options.dim), options.out / "loss_surface.png"),
    ]
    status = 0
    try:
        saved.append(graphical_model(options.out / "graphical_model.png"))
    except graphviz.ExecutableNotFound:
        print("the graphical model is not drawn: Graphviz' program `dot` is not installed", file=sys.stderr)
        status = 1
    for path in saved:
        print(path)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
