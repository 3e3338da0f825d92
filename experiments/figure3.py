"""Draw Fig. 3: one term of the loss over cosine and κ, for Power Spherical and von Mises–Fisher experts."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.figure3", description=__doc__)
    parser.add_argument("--dim", type=whole_number(2), default=2048, help="dimension d of the embeddings")
    parser.add_argument("--out", type=writable_folder, default="runs/figures", help="folder for figure3.png")
    options = parser.parse_args(arguments)
    from experiments.figures import loss_surfaces_figure, save_figure  # noqa: PLC0415  # slow

    print(save_figure(loss_surfaces_figure(options.dim), options.out / "figure3.png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
