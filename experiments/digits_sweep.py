"""Repeat the quickstart's trainings over seeds, learning rates and ablations, and say how much the numbers vary.

Without options: five seeds of each method at its recipe. --tune compares learning rates on images held out from the
training set, never on the test images. --ablate trains VI-SimSiam without the pieces of its recipe, one at a time.
Every training has its folder in --out; finished ones are not run again.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import whole_number
from experiments.studies.options import StudyParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    parser = StudyParser("digits_sweep", __doc__, seeds=5)
    parser.add_argument("--epochs", type=whole_number(1), default=60, help="passes over the training images")
    parser.add_argument("--tune", action="store_true", help="compare learning rates on a part of the training images")
    parser.add_argument("--ablate", action="store_true", help="leave out pieces of VI-SimSiam's recipe, one by one")
    options = parser.parse_args(arguments)
    if options.tune and options.ablate:
        parser.error("--tune and --ablate are two different sweeps: give one of them")

    def work() -> dict[str, str]:
        from experiments.studies import digits  # noqa: PLC0415  # slow
        from experiments.studies.conducting import carry_through  # noqa: PLC0415

        study = digits.sweep(options.seeds, options.epochs, options.out, tune=options.tune, ablate=options.ablate)
        carry_through(study, options, lambda _: None)
        done = [(run.label, study.results[run.name]) for run in study.everything if run.name in study.results]
        rows = ((label, digits.Measures(**result["measures"])) for label, result in done)
        print(f"\n{digits.format_table(rows)}\n")
        print(f"Mean (smallest to largest) of {options.seeds} seed(s), {options.epochs} epochs")
        return study.failures

    return parser.conduct(options, work)


if __name__ == "__main__":
    raise SystemExit(main())
