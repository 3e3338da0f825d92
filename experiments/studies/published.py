"""What others have published, to stand beside what was measured here and never among it."""

from __future__ import annotations

from experiments.records.record import Cell, Table

_PAPER = {
    "SimSiam": (88.223, 98.236, 72.410, 97.480),
    "VI-SimSiam": (90.650, 99.389, 78.468, 98.066),
}
_PAPERS_COLUMNS = ("ImageNette top-1", "ImageNette top-5", "ImageWoof top-1", "ImageWoof top-5")


def papers_table() -> Table:
    """Table 1 of the paper."""
    rows = {
        name: {column: Cell(value) for column, value in zip(_PAPERS_COLUMNS, values, strict=True)}
        for name, values in _PAPER.items()
    }
    return Table(
        "Published in the paper (its Table 1)",
        _PAPERS_COLUMNS,
        rows,
        note="Linear evaluation, percent, from arXiv:2203.11437v1; ResNet-18, 200 epochs, one number without a spread. "
        "Not run here.",
    )


def lightlys_table() -> Table:
    """What lightly's documentation gives for SimSiam on ImageNette."""
    column = "ImageNette kNN"
    return Table(
        "Published by lightly",
        (column,),
        {"SimSiam, 200 epochs": {column: Cell(75.2)}, "SimSiam, 800 epochs": {column: Cell(87.2)}},
        note="Percent, from the benchmarks of lightly's documentation; ResNet-18, 128 pixels. Not run here.",
        digits=1,
    )
