"""SimSiam as variational inference against SimSiam as published: the same training, number for number.

Von Mises–Fisher experts of constant κ = 1 under the KL objective, and SimSiam (arXiv:2011.10566) in plain PyTorch,
start from the same weights and see the same views of the same digits. Afterwards three things that are not SimSiam or
break it are measured: another family of constant κ, no stop-gradient, no predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from experiments.special_cases.methods import SIZES, simsiam
from experiments.special_cases.negative_results import (
    MAX_COLLAPSED_STD,
    MIN_STD,
    VARIANTS,
    collapse,
    compared,
    constant_power_spherical,
)
from experiments.special_cases.report import Finding, Options, parse, run

COLLAPSE_STEPS, COLLAPSE_SEEDS = 200, 5
MIN_DISTANCE_OF_WEIGHTS = 1e-2


def findings(options: Options) -> list[Finding]:
    """C11 and C28, with the small network whatever the backbone."""
    return [constant_power_spherical_finding(options.seed), *collapse_findings()]


def constant_power_spherical_finding(seed: int, *, steps: int = 100) -> Finding:
    """C11: the weights of the two trainings part."""
    size = SIZES["small"]
    compared_steps = compared(constant_power_spherical(size, seed), size, steps, seed, "Power Spherical")
    first, last = compared_steps[0].weights, compared_steps[-1].weights
    return Finding(
        "Power Spherical experts of constant κ are not SimSiam: the weights part (C11)",
        f"largest difference of a weight: {first:.1e} after step 1, {last:.1e} after step {steps}",
        last > MIN_DISTANCE_OF_WEIGHTS,
    )


def collapse_findings(*, seeds: int = COLLAPSE_SEEDS, steps: int = COLLAPSE_STEPS) -> list[Finding]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse("recover_simsiam", __doc__, arguments)
    return run(
        "recover_simsiam", "SimSiam", "SimSiam's loss = objective / 2 + log C(1), an image", simsiam, options, findings
    )


if __name__ == "__main__":
    raise SystemExit(main())
