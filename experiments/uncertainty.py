"""Is κ an uncertainty? Measure a pretrained encoder's κ and its rivals on images that are new to it.

U1 severity of degradations, U2 crops, U3 errors of nearest neighbours (R-AUROC, of all images and within classes), U4
abstention of a linear probe, U5 foreign images, U6 calibration, U7 likelihood, U8 known ambiguity; with bootstrap
intervals, and beside κ: edge energy, JPEG size, pixel entropy, norm of the features, distance to the nearest training
image and to all of them (Mahalanobis), cosine of two views, and the probe's maximum softmax. Give the checkpoints of
several seeds of one configuration for intervals over seeds, and for their ensemble as one more rival.

With --heads a result of experiments.add_uncertainty is judged instead, over the features that lie beside it: heads of
several seeds, and on the same features heads of MCInfoNCE, of von Mises-Fisher experts, and one that predicts the loss
of a probe. Each foreign set is then judged as well, as one of classes that no head has seen. All images are looked at
once, and what was seen is kept on disk: a stopped run goes on.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from experiments.command_line.parser import CommandLineParser, add_seed, record_name, whole_number, writable_folder
from experiments.evaluation.options import CHECKPOINT, STUDIES, add_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.uncertainty", description=__doc__)
    add = parser.add_argument
    add("checkpoints", nargs="+", type=Path, help=f"{CHECKPOINT}; one for each seed")
    add_options(parser)
    add("--foreign", nargs="+", default=[], metavar="SET", help="other sets, below the same root, for U5")
    add("--compare", type=Path, metavar="CHECKPOINT", help="another encoder, whose cosine of two views is a rival of κ")
    add("--images", type=whole_number(2), default=2000, help="largest number of images of each set")
    add(
        "--heads",
        type=whole_number(1),
        metavar="N",
        help="of a result of experiments.add_uncertainty, on a folder with train and val: judge N heads, refitted with "
        "the seeds 0 … N − 1",
    )
    add("--degraded", type=whole_number(2), help="of these, how many are degraded (default: all)")
    add("--study", nargs="*", choices=STUDIES, metavar="PART", help=f"what decides it: {', '.join(STUDIES)}; or all")
    add("--jobs", type=whole_number(1), default=1, help="heads that are fitted at a time")
    add("--resamples", type=whole_number(1), default=1000, help="resamples of the bootstrap")
    add_seed(parser, "of images, degradations and resamples")
    add(
        "--name",
        type=record_name,
        default="uncertainty",
        help="name of record and figures; none of other encoders is replaced",
    )
    add(
        "--out",
        type=writable_folder,
        default="runs/uncertainty",
        help="folder for record and figures; experiments/results publishes them",
    )

    def module(options: Namespace) -> str:
        if options.heads is None and (options.study is not None or options.degraded):
            parser.error("--study and --degraded belong to --heads")
        if options.heads is None and options.jobs > 1:
            parser.error("--jobs belongs to --heads: checkpoints are looked at one after the other")
        if options.heads is not None and options.compare is not None:
            parser.error("--compare belongs to checkpoints without --heads")
        if options.heads is not None and len(options.checkpoints) > 1:
            parser.error("--heads belongs to one result of experiments.add_uncertainty, got more checkpoints")
        return f"experiments.evaluation.uncertainty.asking{'' if options.heads is None else '_heads'}"

    return parser.run(arguments, module)


if __name__ == "__main__":
    raise SystemExit(main())
