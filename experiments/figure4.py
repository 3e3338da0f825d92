"""Draw Fig. 4 for a pretrained encoder: the histogram of κ, and the images of lowest and of highest κ.

Below each image are its κ and how well its random views predict one another, as a mean cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.evaluation.options import CHECKPOINT, add_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.figure4", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help=CHECKPOINT)
    add_options(parser)
    parser.add_argument("--split", choices=("train", "val", "all"), default="val", help="part of the set")
    parser.add_argument("--rows", type=whole_number(1), default=2, help="rows of images at each end of κ")
    parser.add_argument("--columns", type=whole_number(1), default=6, help="images in a row")
    parser.add_argument("--out", type=writable_folder, default="runs/figures", help="folder for figure4.png")
    return parser.run(arguments, "experiments.evaluation.extremes")


if __name__ == "__main__":
    raise SystemExit(main())
