"""BYOL as variational inference against BYOL as published: the same training, number for number.

SimSiam's experts at κ = 1, a guide whose network is a moving average, and BYOL (arXiv:2006.07733) in plain PyTorch
start from the same weights and see the same views of the same digits. Afterwards the two ends of the moving average
are measured: momentum 0 is SimSiam, momentum 1 is regression on fixed targets.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.special_cases.methods import SIZES, byol
from experiments.special_cases.negative_results import (
    compared,
    moving_average_that_never_moves,
    moving_average_without_memory,
)
from experiments.special_cases.recovery import largest_differences
from experiments.special_cases.report import Finding, Options, parse, run

END_TOLERANCE, END_STEPS = 1e-10, 100


def findings(options: Options) -> list[Finding]:
    """C26, with the small network whatever the backbone."""
    size = SIZES["small"]
    cases = (
        ("momentum 0 is SimSiam over the same networks (C26)", moving_average_without_memory),
        ("momentum 1 is regression on a target that never moves (C26)", moving_average_that_never_moves),
    )
    found = []
    for statement, trainings in cases:
        worst = largest_differences(
            compared(trainings(size, options.seed), size, END_STEPS, options.seed, statement[:10])
        )
        found.append(
            Finding(
                statement,
                f"largest differences over {END_STEPS} steps: "
                + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()),
                all(value <= END_TOLERANCE for value in worst.values()),
            )
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse("recover_byol", __doc__, arguments)
    affine_map = "BYOL's loss = 2 × objective + 4 log C(1) + 4, an image"
    return run("recover_byol", "BYOL", affine_map, byol, options, findings)


if __name__ == "__main__":
    raise SystemExit(main())
