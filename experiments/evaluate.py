"""Judge a pretrained network on a labelled set of images: linear evaluation as in the paper, and nearest neighbours.

CHECKPOINT is the folder of a run, an exported encoder (.safetensors) or a checkpoint (.ckpt). The backbone stays as it
is. The classifiers are trained on features of the training images and judged once on the held-out images, which choose
neither learning rate nor epoch. The command also says whether the outputs have collapsed and how κ is distributed. It
prints tables and writes the numbers, with how they were made, to a JSON file.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, add_seed, fraction, positive_number, whole_number
from experiments.evaluation.options import CHECKPOINT, add_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.evaluate", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=CHECKPOINT)
    add_options(parser)
    parser.add_argument(
        "--hold-out",
        type=fraction,
        metavar="FRACTION",
        help="held-out fraction of each class, for a set without a validation part (default: refuse such a set)",
    )
    parser.add_argument(
        "--views",
        choices=("centre", "augmented"),
        default="centre",
        help="what the linear classifier is trained on: the middle of each image, encoded once; or, as in SimSiam, "
        "random crops and flips, encoded anew in every epoch",
    )
    parser.add_argument("--epochs", type=whole_number(1), default=90, help="epochs of the linear classifier")
    parser.add_argument("--batch-size", type=whole_number(1), default=512, help="batch size of the linear classifier")
    parser.add_argument(
        "--learning-rates",
        type=positive_number,
        nargs="+",
        metavar="RATE",
        help="learning rates of LARS; a fifth of the training images chooses (default: ten from 0.4 to 204.8)",
    )
    parser.add_argument("--k", type=whole_number(1), default=20, help="neighbours that vote")
    add_seed(parser, "of all that is random here")
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file (default: evaluation_SET.json in the run's folder, "
        "NAME_evaluation_SET.json beside another file)",
    )

    def module(options: Namespace) -> str:
        if options.learning_rates and len(set(options.learning_rates)) < len(options.learning_rates):
            parser.error(f"argument --learning-rates: expected different rates, got {options.learning_rates}")
        return "experiments.evaluation.evaluating"

    return parser.run(arguments, module)


if __name__ == "__main__":
    raise SystemExit(main())
