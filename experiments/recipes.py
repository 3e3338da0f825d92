"""What makes κ trustworthy, and what does not: recipes of VI-SimSiam, each with its accuracy and the tests of its κ.

Every recipe changes one thing of VI-SimSiam: how κ is made positive, the unit of the loss, the weights of the terms,
the learning rate of κ's own row, the defects among the views. Each is trained with several seeds as a row of table 1
is, and judged twice: by linear evaluation, and by the tests U1 to U8 of `experiments.uncertainty` on the frozen
encoder. Nothing is tuned: --rates are those that `experiments.table1` chose. The folder --out holds every run: a
stopped command goes on when it is given again, and rows and seeds can be added. Runs of `experiments.table1` with the
same settings in that folder are reused.

  first, in seconds:      python -m experiments.recipes --scale tiny --rows simsiam vi_simsiam defects --out runs/tiny
  the whole study:        python -m experiments.recipes --foreign data/imagenette2-160 data/imagewoof2-160 --publish
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from experiments.command_line.parser import positive_number, whole_number
from experiments.studies.options import StudyParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = StudyParser("recipes", __doc__, seeds=3)
    parser.formatter_class = _Help
    parser.add_training_options("small")
    add = parser.add_argument
    add("--data", nargs=1, metavar="SET", help="a name or a folder; default: the first of the scale's")
    add(
        "--rates",
        nargs=2,
        type=positive_number,
        metavar=("SIMSIAM", "VI_SIMSIAM"),
        help="learning rate of each method; default: what table 1 chose at the small scale",
    )
    add("--images", type=whole_number(2), default=1000, help="images of each set for U1 to U8, at most")
    add("--foreign", nargs="+", default=[], metavar="SET", help="other sets, for U5")
    options = parser.parse_args(given)

    def work() -> dict[str, str]:
        from experiments.records.environment import typed_command  # noqa: PLC0415  # slow, as are the others
        from experiments.studies import looking  # noqa: PLC0415
        from experiments.studies.conducting import carry_through, planned, save  # noqa: PLC0415
        from experiments.studies.recipe_tables import recipes_record  # noqa: PLC0415
        from experiments.studies.tables import Outcome  # noqa: PLC0415
        from experiments.studies.training import trainings  # noqa: PLC0415

        questions = looking.Questions(options.images, tuple(options.foreign))
        plan, workers = planned(options, "recipes", tuned=False)
        carry_out = partial(looking.carry_out, questions=questions)
        study = trainings(plan, carry_out, partial(looking.finished, questions=questions))
        carry_through(study, options, partial(looking.prepare, questions=questions), **workers)
        looking.add_ensembles(plan, study.results)
        seen = next(found for run in plan.everything() if (found := looking.seen_of(run)) is not None)
        outcome, command = Outcome(plan, study, plan.sets[0]), typed_command("experiments.recipes", given)
        save(*recipes_record(options.record, outcome, seen, command, options.note), options, (2, 0))
        return study.failures

    return parser.conduct(options, work)


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of the description, examples among them."""


if __name__ == "__main__":
    raise SystemExit(main())
