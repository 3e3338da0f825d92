"""Draw the figures that explain the method: data flow (Fig. 1), graphical model (Fig. 2), loss surface (Fig. 3).

The loss surface is drawn for Power Spherical and for von Mises–Fisher experts. `normalizer_errors.png` shows how exact
the von Mises–Fisher normaliser is. The folder `glossary` gets the pictures of the glossary. Pyro draws the graphical
model from the running program. That needs Graphviz, whose program `dot` comes with the operating system (`apt install
graphviz`, `brew install graphviz`); without it the other figures are still drawn.

With `--interactive` the command writes figures with sliders instead, one web page each. They need no network.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.draw", description=__doc__)
    parser.add_argument(
        "--dim", type=whole_number(2, at_most=10**6), default=2048, help="dimension of the loss surface's sphere"
    )
    parser.add_argument("--out", type=writable_folder, default="runs/figures", help="folder for the figures")
    parser.add_argument(
        "--interactive", action="store_true", help="draw figures to turn with the mouse instead, a web page each"
    )

    def module(options: Namespace) -> str:
        if options.interactive and options.dim != parser.get_default("dim"):
            parser.error("--dim says nothing beside --interactive, whose figures have all dimensions")
        return __name__

    return parser.run(arguments, module)


def run(options: Namespace) -> int:
    """Draw all figures of a kind; returns the exit status.

    Raises:
        OSError: If a figure cannot be written.
    """
    from graphviz import ExecutableNotFound  # noqa: PLC0415

    from experiments.figures import data_flow_figure, loss_surface_figure, save_figure  # noqa: PLC0415  # slow
    from experiments.figures.glossary import GLOSSARY  # noqa: PLC0415
    from experiments.figures.graphical_model import graphical_model  # noqa: PLC0415
    from experiments.figures.interactive import FIGURES, write  # noqa: PLC0415
    from experiments.figures.loss_surface import POWER_SPHERICAL, VON_MISES_FISHER  # noqa: PLC0415
    from experiments.figures.normalizer_errors import normalizer_errors_figure  # noqa: PLC0415

    if options.interactive:
        for name, draw in FIGURES.items():
            print(write(draw(), options.out / f"{name}.html"))
        return 0
    print(save_figure(data_flow_figure(), options.out / "data_flow.png"))
    surfaces = loss_surface_figure(options.dim, (POWER_SPHERICAL, VON_MISES_FISHER))
    print(save_figure(surfaces, options.out / "loss_surface.png"))
    print(save_figure(normalizer_errors_figure(), options.out / "normalizer_errors.png"))
    for name, picture in GLOSSARY.items():
        print(save_figure(picture(), options.out / "glossary" / f"{name}.png"))
    try:
        print(graphical_model(options.out / "graphical_model.png"))
    except ExecutableNotFound:
        print("the graphical model is not drawn: Graphviz' program `dot` is not installed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
