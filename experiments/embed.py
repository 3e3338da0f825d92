"""Embed every image of a folder with a pretrained network: features, mean direction μ and concentration κ in one file.

CHECKPOINT is the folder of a run, an exported encoder (.safetensors) or a checkpoint (.ckpt). FOLDER may hold images in
any folders. The ending of --out chooses the format, .parquet or .npz; its columns are the file's name relative to
FOLDER, the features (output of the backbone, for use downstream), the mean direction (a unit vector) and κ, which is
low where the network is uncertain. Images are read and written one batch at a time, so memory does not grow with their
number. The file gets its name only when it is complete. Beside it the command writes a picture of the images of lowest
and of highest κ, cropped to their middle as the network sees them.

With --features FILE (npz or Parquet: item, view, vector; a row a view) a result of experiments.add_uncertainty is
applied to features that are there already; the columns are then item, view, κ and ρ, the cosine that κ promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, whole_number
from experiments.evaluation.options import CHECKPOINT, add_options, file_ending


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.embed", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=CHECKPOINT)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="folder of images")
    what.add_argument("--features", type=Path, metavar="FILE", help="apply to features that are computed already")
    endings = file_ending(".parquet", ".npz")
    parser.add_argument("--out", type=endings, required=True, help="file to write: ….parquet or ….npz")
    parser.add_argument("--shown", type=whole_number(1), default=24, help="images of each end on the contact sheet")
    add_options(parser, named_sets=False)
    return parser.run(arguments, "experiments.evaluation.embedding")


if __name__ == "__main__":
    raise SystemExit(main())
