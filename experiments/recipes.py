"""What makes κ trustworthy, and what does not: recipes of VI-SimSiam, each with its accuracy and the tests of its κ.

Every recipe changes one thing of VI-SimSiam: how κ is made positive, the unit of the loss, the weights of the terms,
the learning rate of κ's own row, the defects among the views. Each is trained with several seeds as a row of table 1
is, and judged twice: by linear evaluation, and by the tests U1 to U8 of `experiments.uncertainty` on the frozen
encoder. Nothing is tuned: --rates are those that `experiments.table1` chose. The folder --out holds every run: a
stopped command goes on when it is given again, and rows and seeds can be added. Runs of `experiments.table1` with the
same settings in that folder are reused. `--scale tiny` shows in a minute that all works.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.command_line.parser import positive_number, whole_number
from experiments.studies.options import StudyParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 if every training ended well."""
    parser = StudyParser("recipes", __doc__, "small")
    add = parser.add_argument
    add("--data", nargs=1, metavar="SET", help="a name or a folder; default: the first of the scale's")
    add(
        "--rates",
        nargs=2,
        type=positive_number,
        metavar=("SIMSIAM", "VI_SIMSIAM"),
        help="learning rate of each method; default: what table 1 chose at this scale",
    )
    add("--images", type=whole_number(2), default=1000, help="images of each set for U1 to U8, at most")
    add("--foreign", nargs="+", default=[], metavar="SET", help="other sets, for U5")
    return parser.run(arguments, "experiments.studies.recipe_tables")


if __name__ == "__main__":
    raise SystemExit(main())
