"""What the theory says of a method's limits, and whether a training shows it."""

from __future__ import annotations

from dataclasses import dataclass

from tqdm import tqdm

from experiments.special_cases.methods import SIZES
from experiments.special_cases.negative_results import (
    MAX_COLLAPSED_STD,
    MIN_STD,
    VARIANTS,
    collapse,
    compared,
    constant_power_spherical,
    moving_average_that_never_moves,
    moving_average_without_memory,
)
from experiments.special_cases.recovery import largest_differences

MIN_DISTANCE_OF_WEIGHTS = 1e-2
END_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Finding:
    """A negative result or a limit: what was expected, what was measured, and whether they agree."""

    statement: str
    measured: str
    holds: bool


def power_spherical_is_not_simsiam(seed: int, *, steps: int = 100) -> list[Finding]:
    """C11: the weights of the two trainings part."""
    size = SIZES["small"]
    compared_steps = compared(constant_power_spherical(size, seed), size, steps, seed, "Power Spherical")
    first, last = compared_steps[0].weights, compared_steps[-1].weights
    return [
        Finding(
            "Power Spherical experts of constant κ are not SimSiam: the weights part (C11)",
            f"largest difference of a weight: {first:.1e} after step 1, {last:.1e} after step {steps}",
            last > MIN_DISTANCE_OF_WEIGHTS,
        )
    ]


def what_collapses(*, seeds: int = 5, steps: int = 200) -> list[Finding]:
    """C28: the standard deviation of the outputs with both parts, and without either."""
    found = []
    with tqdm(total=seeds * len(VARIANTS), desc="collapse", unit="training", leave=False) as bar:
        for variant in VARIANTS:
            spread = []
            for seed in range(seeds):
                spread.append(collapse(variant, seed, steps=steps).standard_deviation)
                bar.update()
            whole = variant == "both"
            found.append(
                Finding(
                    "with stop-gradient and predictor the outputs stay apart (C28)"
                    if whole
                    else f"with {variant} they collapse (C28)",
                    f"standard deviation of the normalised outputs × √d, {seeds} seeds: "
                    + ", ".join(f"{value:.3f}" for value in spread),
                    min(spread) > MIN_STD if whole else max(spread) < MAX_COLLAPSED_STD,
                )
            )
    return found


def ends_of_the_moving_average(seed: int, *, steps: int = 100) -> list[Finding]:
    """C26, with the small network whatever the backbone."""
    size = SIZES["small"]
    found = []
    for statement, trainings in (
        ("momentum 0 is SimSiam over the same networks (C26)", moving_average_without_memory),
        ("momentum 1 is regression on a target that never moves (C26)", moving_average_that_never_moves),
    ):
        worst = largest_differences(compared(trainings(size, seed), size, steps, seed, statement[:10]))
        measured = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
        holds = all(value <= END_TOLERANCE for value in worst.values())
        found.append(Finding(statement, f"largest differences over {steps} steps: {measured}", holds))
    return found
