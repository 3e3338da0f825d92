"""What depends on the seed of the training: intervals over seeds, beside those over images."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from statistics import fmean, stdev

from scipy import stats

from experiments.records.record import Cell, Table

LEVEL = 0.95


def over_seeds(values: Sequence[float], *, level: float = LEVEL) -> Cell:
    """The mean of several seeds, with the interval of Student's t.

    mean ± t · s/√N, with s the standard deviation over the N seeds and t the quantile (1 + level)/2 of Student's law
    of N − 1 degrees of freedom: it covers the mean over all seeds with the probability `level`, were measures normally
    distributed over seeds.

    Args:
        values: One a seed, two or more; a NaN leaves the cell empty.
        level: Probability between the ends.

    Raises:
        ValueError: If there are fewer than two.

    Example:
        >>> over_seeds([0.5, 0.6, 0.7]).show(3)
        '0.600 (0.352 to 0.848)'
    """
    if len(values) < 2:
        raise ValueError(f"values must be of two seeds or more, got {len(values)}")
    if any(math.isnan(value) for value in values):
        return Cell(None, each=tuple(values))
    mean = fmean(values)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Cell(mean, mean - half, mean + half, tuple(values))


def seeds_table(table: Table, *, without: Collection[str] = ()) -> Table:
    """The same measures with intervals over seeds instead of over images.

    Args:
        table: Whose cells have the value of each seed.
        without: Columns that have none, or for which seeds mean nothing.
    """
    columns = tuple(column for column in table.columns if column not in without)
    rows = {
        name: {
            column: over_seeds([math.nan if value is None else value for value in cells[column].each])
            for column in columns
            if column in cells and len(cells[column].each) > 1
        }
        for name, cells in table.rows.items()
    }
    count = max(len(cell.each) for cells in rows.values() for cell in cells.values())
    note = (
        f"Cells: mean over the {count} seeds; in brackets its {LEVEL:.0%} interval by Student's t, with {count - 1} "
        f"degree{'s' if count > 2 else ''} of freedom and not cut at the ends of a measure's range. It is about the "
        "mean over all seeds on these images; the brackets of the table above are about these networks on other "
        "images. What looks at pixels alone depends on the seed only through the errors that it is to foretell. An "
        "ensemble is made of all the seeds, and is left out."
    )
    return Table(f"{table.title}, over seeds", columns, rows, note, table.corner, table.digits)
