"""Table 1 of the paper with the controls that separate causes: SimSiam and VI-SimSiam under linear evaluation.

Each method takes the learning rate that does best on held-out training images; every row is trained with several seeds
and judged once, after its last epoch, on the validation images. The folder --out holds every run: a stopped command
goes on when it is given again, and rows, sets and seeds can be added. --scale full is the size of the paper and needs a
GPU; --scale two_cores trains a ResNet-18 on photographs of 64 pixels, two hours of one core for a training; --scale
small gives a small table in an hour. --scale one_gpu with --minutes is for a GPU that is lent for minutes.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from experiments.command_line.parser import positive_number
from experiments.studies.options import ROWS, StudyParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    parser = StudyParser("table1", __doc__, "full")
    parser.add_argument("--data", nargs="+", metavar="SET", help="names or folders of sets; default: the scale's")
    parser.add_argument("--rates", nargs="+", type=positive_number, help="learning rates to choose among")
    parser.add_argument("--tune-on", metavar="SET", help="choose the rates on this set for all; default: on each")
    parser.add_argument(
        "--minutes",
        type=positive_number,
        help="choose no rates, which --rates gives, one a method; train in this process, all side by side on one GPU, "
        "as many epochs as take so long; judge after",
    )
    parser.add_argument("--eager", action="store_true", help="with --minutes: record no steps on the GPU")

    def module(options: Namespace) -> str:
        if options.eager and options.minutes is None:
            parser.error("--eager belongs to --minutes")
        if options.minutes is not None:
            parser.when_stopped = "stopped; the trainings stay in --out, and another --out begins anew"
            for name in ("table_only", "jobs", "scheduler", "tune_on"):
                if getattr(options, name):
                    parser.error(f"--{name.replace('_', '-')} does not go with --minutes")
            if len(options.data or ()) > 1:
                parser.error(f"--minutes trains on one set, got {' '.join(options.data)} as --data")
            if options.rows and all("kind" in ROWS["table1"][row] for row in options.rows):
                parser.error(f"--minutes needs a row that is trained, got {' '.join(options.rows)} as --rows")
        return "experiments.studies.tables"

    return parser.run(arguments, module)


if __name__ == "__main__":
    raise SystemExit(main())
