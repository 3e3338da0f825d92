"""Compare this project with other implementations of the same methods: time and accuracy, in one process.

Each sub-command compares one part of the project and has its own --help. It prints Markdown tables and saves them with
everything needed to judge them: device, versions, seed, settings and every single measurement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from experiments.command_line.parser import CommandLineParser, existing_folder, whole_number, writable_folder


def distributions(options: argparse.Namespace, device: Any) -> Any:
    """Compare the spherical distributions with their peers: time of log_prob and sampling, accuracy of the normalisers.

    Everything is measured in one process and in turns, in float32, on the same inputs. The table of log_prob compares
    forward and backward with those of the bare dot product of the same vectors; the table of sampling says beside each
    time whether the mean of the draws is right; the table of accuracy compares with 60 digits. Peers that are not
    installed are named and left out: pip install -e '.[peers]' installs them.
    """
    from experiments.benchmarks.distributions import compare  # noqa: PLC0415  # slow

    return compare(options, device)


def pretrain(options: argparse.Namespace, device: Any) -> Any:
    """Compare pretraining with its peers: the step with plain PyTorch, the whole job with lightly.

    Two parts. "step": one training step through the Pyro pair and the KL objective beside the same step in plain
    PyTorch, with ResNet-18 and without a backbone, times and peak memory. "jobs": images a second with data included,
    by both data paths and by lightly's SimSiam with its own transform, loss and loader, where it is installed (pip
    install -e '.[peers]'), and the share of the speed of forward, backward and SGD alone. All measurements are taken in
    turns in one process.
    """
    from experiments.benchmarks.pretrain import compare  # noqa: PLC0415  # slow

    return compare(options, device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = CommandLineParser(prog="python -m experiments.benchmark", description=__doc__)
    parts = parser.add_subparsers(title="what to compare", dest="part", metavar="PART", required=True)
    for compare, repeats in ((distributions, 20), (pretrain, None)):
        purpose = str(compare.__doc__)
        part = parts.add_parser(compare.__name__, description=purpose, help=purpose.split("\n", maxsplit=1)[0])
        part.set_defaults(compare=compare)
        part.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
        part.add_argument(
            "--threads",
            type=whole_number(1),
            help="threads of every library, by default as many as PyTorch takes; 1 gives the steadiest times on a CPU",
        )
        part.add_argument(
            "--repeats", type=whole_number(1), default=repeats, help="rounds; by default each part has its own number"
        )
        part.add_argument(
            "--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="seed of all that is random"
        )
        part.add_argument("--out", type=writable_folder, default="runs/benchmark", help="folder for the results")
        part.add_argument(
            "--quick", action="store_true", help="tiny sizes, to test the command; the times mean nothing"
        )
    things = ("step", "jobs", "embed")
    part.add_argument("--parts", choices=things, nargs="+", default=[*things], help="what to measure")
    part.add_argument(
        "--images",
        type=existing_folder,
        help="folder of images in folders of classes for the jobs; by default some are written",
    )
    part.add_argument("--pixels", type=whole_number(1), help="height and width of the views of the jobs")
    part.add_argument("--workers", type=whole_number(0), default=0, help="loading processes of each job; 0 for none")
    part.add_argument(
        "--bfloat16", action="store_true", help="networks of the jobs compute in bfloat16, as they always do on a GPU"
    )
    options = parser.parse_args(given)

    import torch  # noqa: PLC0415  # slow

    from experiments.benchmarks.timing import computing_on  # noqa: PLC0415
    from experiments.records.environment import typed_command  # noqa: PLC0415

    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: PyTorch sees no GPU here, use --device cpu")
    options.command = typed_command("experiments.benchmark", given)
    try:
        with computing_on(options.threads, options.seed):
            record = options.compare(options, torch.device(options.device))
    except (OSError, ValueError) as error:
        return parser.fail(error)
    print(record.page())
    print("Saved:", *record.save_page(options.out), sep="\n  ")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
