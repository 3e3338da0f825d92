"""Train SimSiam and VI-SimSiam by variational inference on real digits, in about three minutes on two cores.

SimSiam has von Mises–Fisher experts of constant concentration. VI-SimSiam has Power Spherical experts and predicts
their concentration κ, which is small for an uncertain image. Both are fitted through their Pyro model/guide pair with
the KL objective. The command prints one table and saves the figures, the numbers and the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import CommandLineParser, add_seed, whole_number, writable_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.quickstart", description=__doc__)
    add_seed(parser, "seed of weights, order and augmentations")
    parser.add_argument("--epochs", type=whole_number(1), default=60, help="passes over the 1,347 training images")
    parser.add_argument("--out", type=writable_folder, default="runs/quickstart", help="folder for what is saved")
    parser.when_stopped = "stopped; the same command goes on where it was"
    return parser.run(arguments, "experiments.studies.quickstart")


if __name__ == "__main__":
    raise SystemExit(main())
