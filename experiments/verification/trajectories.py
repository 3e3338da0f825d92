r"""The claims about trainings: C10, C11, C15, C26, C27, C28 and C30.

A negative claim, such as "the weights part", has as its error by how much the measured effect falls short of the one
that is claimed: zero if it is at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import mean

from sympy import Derivative, Function, Symbol

from experiments.special_cases import calibration, methods, recovery, stop_gradient
from experiments.special_cases import negative_results as variants
from experiments.verification.claim import Outcome, claim, largest
from experiments.verification.claims_distributions import POWER_SPHERICAL_LENGTH
from experiments.verification.lab import Lab
from ssl_as_inference.derivations.notation import Inner, f, i, mu
from ssl_as_inference.derivations.simsiam import POWER_SPHERICAL_SLOPE

STEPS, SEEDS = 100, 5
PARTED = 1e-2
ENOUGH_RISES = 10
SMALL = methods.SIZES["small"]


def _shortfall(measured: float, claimed: float) -> float:
    """How much is missing to the claimed effect; NaN if the measurement is."""
    return math.nan if math.isnan(measured) else max(0.0, claimed - measured)


def _differences(
    trainings: tuple[recovery.Training, recovery.Training], size: methods.Size, steps: int, lab: Lab, label: str
) -> tuple[dict[str, float], str]:
    """The largest differences of two trainings, by name and as text."""
    worst = recovery.largest_differences(variants.compared(trainings, size, steps, lab.seed, label))
    listed = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return worst, f"{label}: largest differences over {steps} steps: {listed}"


def _values(values: Iterable[float], digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


@claim("C10", "Eq. (9)", 1e-8, kind="trajectory", long=True, concentration=(1.0, 8.0))
def constant_von_mises_fisher_is_simsiam(
    lab: Lab, concentration: float, size: methods.Size = SMALL, steps: int = STEPS
) -> Outcome:
    """Training with von Mises–Fisher experts of constant κ gives SimSiam's weights step for step.

    So it does batch normalisation's buffers, with the learning rate divided and the weight decay multiplied by κ.
    """
    trainings = methods.simsiam(size, lab.seed, concentration=concentration)
    worst, detail = _differences(trainings, size, steps, lab, f"κ = {concentration:g}")
    return Outcome(largest((worst["weights"], worst["buffers"])), detail)


@claim("C11", "Eq. (12)", 0.0, kind="trajectory", long=True, shows=(POWER_SPHERICAL_SLOPE.result,))
def constant_power_spherical_is_not_simsiam(lab: Lab, size: methods.Size = SMALL, steps: int = STEPS) -> Outcome:
    """Training with Power Spherical experts of constant κ does not give SimSiam's weights.

    The slope of its loss in the cosine is {0}. After 100 steps some weight differs by more than 0.01.
    """
    trainings = variants.constant_power_spherical(size, lab.seed)
    first, *_, last = variants.compared(trainings, size, steps, lab.seed, "Power Spherical")
    detail = f"largest difference of a weight: {first.weights:.1e} after step 1, {last.weights:.1e} after step {steps}"
    return Outcome(_shortfall(last.weights, PARTED), detail)


@claim("C15", "Eqs. (9), (12)", 0.0, kind="trajectory", long=True, shows=(1 - Inner(mu[i], f[i]),))
def the_diagonal_pulls_the_predictor_to_the_identity(lab: Lab, seeds: int = SEEDS, steps: int = 300) -> Outcome:
    """The terms i = j, which Algorithm 1 drops, are not neutral: they draw the predictor to the identity.

    The mean of {0} is smaller with them in 5 of 5 seeds.
    """
    both, cross = (
        [variants.with_pairs(pairs, lab.seed + seed, steps=steps) for seed in range(seeds)]
        for pairs in ("all", "cross")
    )
    larger = sum(not b.predictor_distance < c.predictor_distance for b, c in zip(both, cross, strict=True))
    told = []
    for name, group in (("with i = j", both), ("without", cross)):
        distances, ranks = zip(*((o.predictor_distance, o.effective_rank) for o in group), strict=True)
        told.append(
            f"{name}: 1 − μᵀf {_values(distances)}; effective rank {_values(ranks, 1)} (mean {mean(ranks):.1f})"
        )
    return Outcome(float(larger), "; ".join(told))


@claim("C26", "Eq. (8)", 1e-10, kind="trajectory", long=True, momentum=(0, 1))
def the_moving_average_has_two_ends(lab: Lab, momentum: int, size: methods.Size = SMALL, steps: int = STEPS) -> Outcome:
    """BYOL's moving average with momentum 0 is SimSiam over the same networks.

    With momentum 1 it is regression on a fixed target.
    """
    ends = variants.moving_average_without_memory, variants.moving_average_that_never_moves
    worst, detail = _differences(ends[momentum](size, lab.seed), size, steps, lab, f"momentum {momentum}")
    return Outcome(largest(worst.values()), detail)


_ATOM, _WEIGHTS = Symbol("f"), Symbol("phi")
_PATH = Derivative(Function("L")(_ATOM), _ATOM) * Derivative(Function("f")(_WEIGHTS), _WEIGHTS)


@claim("C27", "Eq. (8)", 1e-10, shows=(_PATH,))
def the_target_path_is_what_the_stop_gradient_leaves_out(lab: Lab) -> float:
    """The full gradient minus that with the stop-gradient is the gradient through the target, {0}.

    Error: largest derivative of (full − stop-gradient − path through z by hand).
    """
    return stop_gradient.target_path_error(lab.seed, lab.device)


@claim("C27", "Eq. (8)", 0.0, kind="trajectory")
def the_loss_need_not_fall() -> Outcome:
    """With the stop-gradient the loss need not fall.

    Gradient descent from a predictor that turns raises it, with a step at which the full gradient lowers it every time.
    """
    stopped, full = (stop_gradient.losses_of_gradient_descent(stopped=choice) for choice in (True, False))
    detail = (
        f"of {len(stopped) - 1} steps the loss rose in {stop_gradient.rises(stopped)} with the stop-gradient "
        f"(from {stopped[0]:.3f} up to {max(stopped):.3f}) and in {stop_gradient.rises(full)} with the full gradient"
    )
    return Outcome(_shortfall(stop_gradient.rises(stopped), ENOUGH_RISES) + stop_gradient.rises(full), detail)


@claim("C28", "Eq. (5)", 0.0, kind="trajectory", long=True, variant=variants.VARIANTS)
def collapse_needs_only_one_part_missing(
    lab: Lab, variant: variants.Variant, seeds: int = SEEDS, steps: int = 200
) -> Outcome:
    """Without the stop-gradient, or without the predictor, the outputs collapse (standard deviation < 0.05).

    With both they do not (> 0.5). Batch normalisation at the output is off; 5 of 5 seeds.
    """
    trained = [variants.collapse(variant, lab.seed + seed, steps=steps) for seed in range(seeds)]
    spread = [outputs.standard_deviation for outputs in trained]
    low, high = (variants.MIN_STD, math.inf) if variant == "both" else (-math.inf, variants.MAX_COLLAPSED_STD)
    wrong = sum(not low < value < high for value in spread)
    return Outcome(float(wrong), f"standard deviation × √d, d = 8, {variant}: {_values(spread)}")


@claim("C30", "Eq. (11)", 0.03, kind="trajectory", long=True, shows=(POWER_SPHERICAL_LENGTH,))
def a_learned_concentration_is_calibrated(lab: Lab) -> Outcome:
    """A concentration learned on synthetic data of known concentration is calibrated.

    The mean resultant length {0} agrees with the empirical one in ten bins of held-out data each, of predicted and of
    known concentration.

    Correction: Bins of the predicted concentration alone would pass a constant one; bins of the known one do not.
    """
    untrained, trained = calibration.calibrate(seed=lab.seed)
    bins = trained.by_prediction
    detail = (
        f"ρ(κ) of ten bins of κ: {_values(bins.predicted.tolist())}; empirical resultant: "
        f"{_values(bins.observed.tolist())}; largest gap over these {bins.largest_gap:.3f}, over bins of the known "
        f"concentration {trained.by_truth.largest_gap:.3f} (untrained {untrained.by_truth.largest_gap:.3f})"
    )
    return Outcome(trained.gap, detail)
