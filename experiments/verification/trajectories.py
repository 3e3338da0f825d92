r"""The claims about trainings: C10, C11, C15, C26, C27, C28 and C30.

A negative claim, such as "the weights part", has as its error by how much the measured effect falls short of the one
that is claimed: zero if it is at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from experiments.special_cases.calibration import calibrate
from experiments.special_cases.methods import SIZES, Size, simsiam
from experiments.special_cases.negative_results import (
    MAX_COLLAPSED_STD,
    MIN_STD,
    VARIANTS,
    collapse,
    compared,
    constant_power_spherical,
    moving_average_that_never_moves,
    moving_average_without_memory,
    with_pairs,
)
from experiments.special_cases.recovery import Step, largest_differences
from experiments.special_cases.stop_gradient import losses_of_gradient_descent, rises, target_path_error
from experiments.verification.claim import Claim, Outcome, Settings

STEPS, SEEDS = 100, 5
CONCENTRATIONS = (1.0, 8.0)
PARTED = 1e-2
ENOUGH_RISES = 10


def _shortfall(measured: float, claimed: float) -> float:
    """How much is missing to the claimed effect; NaN if the measurement is."""
    return math.nan if math.isnan(measured) else max(0.0, claimed - measured)


def _listed(differences: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1e}" for name, value in differences.items())


def _listed_values(values: Sequence[float], digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def constant_von_mises_fisher_is_simsiam(
    settings: Settings, *, size: Size = SIZES["small"], steps: int = STEPS
) -> Outcome:
    """C10: the same weights as SimSiam in plain PyTorch, at every step."""
    errors, details = [], []
    for concentration in CONCENTRATIONS:
        trainings = simsiam(size, settings.seed, concentration=concentration)
        worst = largest_differences(compared(trainings, size, steps, settings.seed, f"κ = {concentration:g}"))
        errors += [worst["weights"], worst["buffers"]]
        details.append(f"κ = {concentration:g}: {_listed(worst)}")
    return Outcome(max(errors), f"largest differences over {steps} steps, " + "; ".join(details))


def constant_power_spherical_is_not_simsiam(
    settings: Settings, *, size: Size = SIZES["small"], steps: int = STEPS
) -> Outcome:
    """C11: weights part from the same start, though the gradients nearly agree there."""
    trainings = constant_power_spherical(size, settings.seed)
    first, *_, last = compared(trainings, size, steps, settings.seed, "Power Spherical")
    detail = f"largest difference of a weight: {first.weights:.1e} after step 1, {last.weights:.1e} after step {steps}"
    return Outcome(_shortfall(last.weights, PARTED), detail)


def the_diagonal_pulls_the_predictor_to_the_identity(
    settings: Settings, *, seeds: int = SEEDS, steps: int = 300
) -> Outcome:
    """C15: mean of 1 − μᵀf of the same view, with the i = j terms against without."""
    cross, both = (
        [with_pairs(pairs, settings.seed + seed, steps=steps) for seed in range(seeds)] for pairs in ("cross", "all")
    )
    larger = sum(not b.predictor_distance < c.predictor_distance for b, c in zip(both, cross, strict=True))
    ranks = [[outputs.effective_rank for outputs in group] for group in (both, cross)]
    detail = (
        "1 − μᵀf with i = j: "
        + _listed_values([outputs.predictor_distance for outputs in both])
        + "; without: "
        + _listed_values([outputs.predictor_distance for outputs in cross])
        + f"; effective rank with {_listed_values(ranks[0], 1)} (mean {mean(ranks[0]):.1f}), without "
        + f"{_listed_values(ranks[1], 1)} (mean {mean(ranks[1]):.1f})"
    )
    return Outcome(float(larger), detail)


def the_moving_average_has_two_ends(settings: Settings, *, size: Size = SIZES["small"], steps: int = STEPS) -> Outcome:
    """C26: momentum 0 and momentum 1."""
    worst = []
    for name, trainings in (("0", moving_average_without_memory), ("1", moving_average_that_never_moves)):
        trained: list[Step] = compared(trainings(size, settings.seed), size, steps, settings.seed, f"momentum {name}")
        worst.append(largest_differences(trained))
    detail = f"largest differences over {steps} steps: momentum 0: {_listed(worst[0])}; momentum 1: {_listed(worst[1])}"
    return Outcome(max(value for differences in worst for value in differences.values()), detail)


def the_target_path_is_what_the_stop_gradient_leaves_out(settings: Settings) -> Outcome:
    """C27, first half: the gradients."""
    error = target_path_error(settings.seed)
    return Outcome(error, "largest derivative of (full − stop-gradient − path through z by hand)")


def the_loss_need_not_fall(settings: Settings) -> Outcome:  # noqa: ARG001  # nothing is drawn
    """C27, second half: gradient descent on fixed views, with a step that is small enough for the full gradient."""
    stopped, full = (losses_of_gradient_descent(stopped=choice) for choice in (True, False))
    detail = (
        f"of {len(stopped) - 1} steps the loss rose in {rises(stopped)} with the stop-gradient "
        f"(from {stopped[0]:.3f} up to {max(stopped):.3f}) and in {rises(full)} with the full gradient"
    )
    return Outcome(_shortfall(rises(stopped), ENOUGH_RISES) + rises(full), detail)


def collapse_needs_only_one_part_missing(settings: Settings, *, seeds: int = SEEDS, steps: int = 200) -> Outcome:
    """C28: how many of the trainings end on the wrong side."""
    wrong, details = 0, []
    for variant in VARIANTS:
        spread = [collapse(variant, settings.seed + seed, steps=steps).standard_deviation for seed in range(seeds)]
        wrong += sum(not (value > MIN_STD if variant == "both" else value < MAX_COLLAPSED_STD) for value in spread)
        details.append(f"{variant}: {_listed_values(spread)}")
    return Outcome(float(wrong), "standard deviation × √d, d = 8; " + "; ".join(details))


def a_learned_concentration_is_calibrated(settings: Settings) -> Outcome:
    """C30: the gap on held-out data, bin by bin."""
    untrained, trained = calibrate(seed=settings.seed)
    bins = trained.by_prediction
    detail = (
        f"ρ(κ) of ten bins of κ: {_listed_values(bins.predicted.tolist())}; empirical resultant: "
        f"{_listed_values(bins.empirical.tolist())}; largest gap over these {bins.gap:.3f}, over bins of the known "
        f"concentration {trained.by_truth.gap:.3f} (untrained {untrained.by_truth.gap:.3f})"
    )
    return Outcome(trained.gap, detail)


CLAIMS: list[Claim] = [
    Claim(
        "C10",
        "Eq. (9)",
        r"Training with von Mises–Fisher experts of constant $\kappa$ gives SimSiam's weights and batch-normalisation "
        r"buffers step for step, with the learning rate divided and the weight decay multiplied by $\kappa$.",
        "trajectory",
        1e-8,
        constant_von_mises_fisher_is_simsiam,
        long=True,
    ),
    Claim(
        "C11",
        "Eq. (12)",
        r"Training with Power Spherical experts of constant $\kappa$ does not give SimSiam's weights: the slope is "
        rf"$\kappa/(1+c)$. After {STEPS} steps some weight differs by more than {PARTED}.",
        "trajectory",
        0.0,
        constant_power_spherical_is_not_simsiam,
        long=True,
    ),
    Claim(
        "C15",
        "Eqs. (9), (12)",
        r"The terms $i = j$, which Algorithm 1 drops, are not neutral: they draw the predictor to the identity "
        r"(smaller mean $1 - \mu_i^\top f_i$, 5 of 5 seeds).",
        "trajectory",
        0.0,
        the_diagonal_pulls_the_predictor_to_the_identity,
        long=True,
    ),
    Claim(
        "C26",
        "Eq. (8)",
        r"BYOL's moving average with momentum 0 is SimSiam over the same networks; with momentum 1 it is regression on "
        r"a fixed target.",
        "trajectory",
        1e-10,
        the_moving_average_has_two_ends,
        long=True,
    ),
    Claim(
        "C27",
        "Eq. (8)",
        r"The full gradient minus that with the stop-gradient is the gradient through the target, "
        r"$\partial L/\partial f \cdot \partial f/\partial\phi$.",
        "numeric",
        1e-10,
        the_target_path_is_what_the_stop_gradient_leaves_out,
    ),
    Claim(
        "C27",
        "Eq. (8)",
        r"With the stop-gradient the loss need not fall: gradient descent from a predictor that turns raises it, with "
        r"a step at which the full gradient lowers it every time.",
        "trajectory",
        0.0,
        the_loss_need_not_fall,
    ),
    Claim(
        "C28",
        "Eq. (5)",
        r"Without the stop-gradient, or without the predictor, the outputs collapse (standard deviation $< 0.05$); "
        r"with both they do not ($> 0.5$). Batch normalisation at the output is off; 5 of 5 seeds.",
        "trajectory",
        0.0,
        collapse_needs_only_one_part_missing,
        long=True,
    ),
    Claim(
        "C30",
        "Eq. (11)",
        r"A concentration learned on synthetic data of known concentration is calibrated: $\rho(\kappa)$ agrees with "
        r"the empirical resultant length in ten bins of held-out data each, of predicted and of known concentration.",
        "trajectory",
        0.03,
        a_learned_concentration_is_calibrated,
        long=True,
        correction="Bins of the predicted concentration alone would pass a constant one; bins of the known one do not.",
    ),
]
