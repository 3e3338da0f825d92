"""The claims about trainings, in short versions; `python -m experiments.verify --all` runs them in full."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments.special_cases import calibration
from experiments.special_cases.methods import SIZES
from experiments.special_cases.negative_results import collapse
from experiments.special_cases.recovery import pair_loss
from experiments.special_cases.stop_gradient import gradient, losses_of_gradient_descent, rises, turning_pair
from experiments.verification import trajectories
from experiments.verification.claim import Claim, Outcome
from experiments.verification.lab import Lab
from experiments.verification.ledger import claims_of
from experiments.verification.trajectories import (
    collapse_needs_only_one_part_missing,
    constant_power_spherical_is_not_simsiam,
    constant_von_mises_fisher_is_simsiam,
    the_diagonal_pulls_the_predictor_to_the_identity,
    the_moving_average_has_two_ends,
)
from inference.fitting.targets import NoStopGradient, StopGradientCopy
from ssl_as_inference.distributions import PowerSpherical

LAB = Lab()
CLAIMS = claims_of(trajectories)
SMALL = replace(SIZES["small"], batch_size=16)


def passed(number: str, outcome: Outcome) -> bool:
    claims = [claim for claim in CLAIMS if claim.id == number]
    assert claims
    return all(claim.passed(outcome) for claim in claims)


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if not claim.long], ids=lambda claim: claim.statement[:40])
def test_short_claims_hold_as_they_stand(claim: Claim) -> None:
    outcome = claim.check(LAB)
    assert claim.passed(outcome), outcome


def test_c10_constant_von_mises_fisher_gives_simsiams_weights() -> None:
    outcome = constant_von_mises_fisher_is_simsiam.check(LAB, size=SMALL, steps=10)
    assert passed("C10", outcome), outcome
    assert outcome.error > 0  # two implementations, not one and the same


def test_c11_constant_power_spherical_does_not() -> None:
    outcome = constant_power_spherical_is_not_simsiam.check(LAB, size=SMALL, steps=12)
    assert passed("C11", outcome), outcome


def test_c11_falls_short_when_the_weights_have_not_parted() -> None:
    outcome = constant_power_spherical_is_not_simsiam.check(LAB, size=SMALL, steps=2)
    assert outcome.error > 0


def test_c15_the_diagonal_draws_the_predictor_to_the_identity() -> None:
    outcome = the_diagonal_pulls_the_predictor_to_the_identity.check(LAB, seeds=1, steps=150)
    assert passed("C15", outcome), outcome


def test_c26_the_ends_of_the_moving_average() -> None:
    outcome = the_moving_average_has_two_ends.check(LAB, size=SMALL, steps=10)
    assert passed("C26", outcome), outcome


def test_c27_the_loss_falls_at_first_order_with_the_full_gradient_and_rises_without_the_targets_path() -> None:
    pair, views = turning_pair()
    parameters = list(pair.model.parameters())
    full = gradient(pair_loss(pair, NoStopGradient())(views), parameters)
    stopped = gradient(pair_loss(pair, StopGradientCopy())(views), parameters)
    assert full @ stopped < 0
    assert rises(losses_of_gradient_descent(stopped=True, steps=5)) == 4
    assert rises(losses_of_gradient_descent(stopped=False, steps=5)) == 0


def test_c28_the_outputs_collapse_without_stop_gradient_and_without_predictor() -> None:
    outcome = collapse_needs_only_one_part_missing.check(LAB, seeds=1, steps=100)
    assert passed("C28", outcome), outcome


def test_c28_an_untrained_network_has_not_collapsed() -> None:
    assert collapse("no predictor", 0, steps=1).standard_deviation > 0.3


def test_c30_a_learned_concentration_is_calibrated_and_an_untrained_one_is_not() -> None:
    untrained, trained = calibration.calibrate(count=20_000, steps=400, bins=5)
    assert untrained.gap > 0.2
    # A head that answers much the same for every observation can be right on average: this is why κ* is binned as well.
    assert untrained.by_prediction.largest_gap < untrained.by_truth.largest_gap / 3
    assert trained.gap <= 0.04


def test_c30_observations_have_the_resultant_that_they_are_said_to_have() -> None:
    data = calibration.observe(40_000, 8, seed=1)
    cosine = (data.observed * data.latent).sum(-1)
    order = data.resultant.argsort()
    for part in order.chunk(8):
        assert abs(float(cosine[part].mean() - data.resultant[part].mean())) < 4 * 0.4 / len(part) ** 0.5
    # The posterior of the latent given an observation is the distribution it was drawn from, seen from the other side.
    concentration = 7 * data.resultant / (1 - data.resultant)
    torch.testing.assert_close(
        PowerSpherical(data.latent, concentration).log_prob(data.observed),
        PowerSpherical(data.observed, concentration).log_prob(data.latent),
    )


def test_c30_the_model_does_not_read_the_latent() -> None:
    data = calibration.observe(16, 8, seed=0)
    pair = calibration.pair_of(8)
    view = data.views()
    other = torch.cat([data.observed, data.covariates, -data.latent], dim=-1)
    assert torch.equal(pair.model.expert(view).concentration, pair.model.expert(other).concentration)
    torch.testing.assert_close(pair.guide.locations([view]).squeeze(-2), data.latent)
