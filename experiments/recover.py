"""Recover SimSiam, BYOL or VI-SimSiam from its model/guide pair: the training as published, number for number.

The pair under the KL objective, and the method in plain PyTorch, start from the same weights and see the same views of
the same digits, in float64. Losses, gradients, weights and buffers are compared after each step. What is not recovered
is checked by `python -m experiments.verify --only C11 C26 C28`: another family of constant κ, the two ends of BYOL's
moving average, no stop-gradient and no predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, add_seed, whole_number, writable_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if everything agrees, 1 if not."""
    parser = CommandLineParser(prog="python -m experiments.recover", description=__doc__)
    parser.add_argument("method", choices=["simsiam", "byol", "vi_simsiam"])
    parser.add_argument("--backbone", choices=["small", "resnet18"], default="small", help="resnet18 takes minutes")
    parser.add_argument("--steps", type=whole_number(1), default=100, help="steps of momentum SGD")
    add_seed(parser, "seed of weights and views")
    parser.add_argument("--out", type=writable_folder, default="runs/recover", help="folder for what is saved")
    return parser.run(arguments, "experiments.special_cases.report")


if __name__ == "__main__":
    raise SystemExit(main())
