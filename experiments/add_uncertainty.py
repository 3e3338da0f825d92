"""Add an uncertainty to an encoder that you have: the encoder stays as it is, a head learns κ without labels.

ENCODER is an encoder of experiments.pretrain (folder of a run, .safetensors or .ckpt), or timm:NAME or torchvision:NAME
with --weights FILE, its state dict; nothing is downloaded. FOLDER holds images. The features of several random views of
each image are computed once and kept on disk, so a stopped run can go on. Then a head is fitted to them, in seconds,
and judged on held-out images: the gain of κ over one κ for all images, whether κ has the right value, and how it falls
under degradations. With --features FILE (npz or Parquet: item, view, vector; one row for each view) neither ENCODER nor
FOLDER is needed, so the items can be texts or sounds. The output works with embed, evaluate, uncertainty and figure4.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, add_seed, fraction, positive_number, whole_number
from experiments.evaluation.options import add_options, file_ending


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.add_uncertainty", description=__doc__)
    parser.when_stopped = "stopped; the same command goes on with the features that it kept"
    add = parser.add_argument
    add("encoder", metavar="ENCODER", nargs="?", help="a run, a file, timm:NAME or torchvision:NAME")
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="folder of images")
    of.add_argument("--features", type=Path, metavar="FILE", help="file of features that are computed already")
    endings = file_ending(".safetensors")
    add("--out", type=endings, required=True, help="file to write: ….safetensors; the report is written beside it")
    add("--weights", type=Path, metavar="FILE", help="weights of the encoder, tensors only")
    add("--views", type=whole_number(2), default=4, help="random views of each image")
    add("--images", type=whole_number(2), help="images to fit to, and to judge on, at most (default: all)")
    add("--size", type=whole_number(1), help="pixels of a view (default: the encoder's own, or 128)")
    add("--dim", type=whole_number(2), default=32, help="dimension of the sphere")
    add("--hidden", type=whole_number(1), default=512, help="width of the head's hidden layer")
    add("--family", choices=("power_spherical", "von_mises_fisher"), default="power_spherical", help="kind of expert")
    add("--epochs", type=whole_number(1), help="epochs of the head (default: 10, more for few items)")
    add("--learning-rate", type=positive_number, default=1e-3, help="learning rate of AdamW")
    add("--hold-out", type=fraction, default=0.2, help="held-out fraction, if FOLDER has no validation images")
    add("--judged", type=whole_number(2), default=500, help="images in the figure and degradations, at most")
    add_seed(parser, "of views, head and held-out items")
    add_options(parser, named_sets=False)

    def module(options: Namespace) -> str:
        names = {"encoder": "ENCODER", **{name: f"--{name}" for name in ("weights", "images", "size", "views")}}
        unused = [shown for name, shown in names.items() if getattr(options, name) != parser.get_default(name)]
        if options.features is not None and unused:
            parser.error(f"{unused[0]} says nothing beside --features, which holds all views of all items")
        return "experiments.evaluation.adding"

    return parser.run(arguments, module)


if __name__ == "__main__":
    raise SystemExit(main())
