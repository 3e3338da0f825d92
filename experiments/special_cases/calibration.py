r"""Whether a predicted κ is calibrated: synthetic data whose concentration is known (C30).

A latent unit vector z is uniform. An observation is μ ~ PS(z, κ*), where κ* differs from observation to observation
and is known only through three covariates from which it has to be learned. Power Spherical densities are symmetric in z
and μ and the prior is uniform, so that the posterior of z is exactly PS(μ, κ*), and the mean of μᵀz over observations
of equal κ* is ρ(κ*) = κ*/(κ*+d−1).

A pair is fitted whose expert is PS(μ, κ(covariates)); only κ is learned. Its guide is the Dirac measure at z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.special_cases.recovery import Network, pair_loss
from inference.fitting.cuda_graphs import TrainingStep
from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import ExponentialMovingAverage
from inference.judging.calibration import CalibrationBins, calibration_bins
from models.networks import PowerSphericalHead
from models.vi_simsiam import relative_concentration
from ssl_as_inference.distributions import PowerSpherical, SphericalUniform
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

DIM, COVARIATES = 8, 3
LEARNING_RATE, BATCH_SIZE = 2e-2, 1024
LOWEST, HIGHEST = 0.1, 0.9


@dataclass(frozen=True)
class Observations:
    """Latents, what was seen of them, covariates, and the resultant length that the covariates stand for."""

    latent: Tensor
    observed: Tensor
    covariates: Tensor
    resultant: Tensor

    def views(self) -> Tensor:
        """One row an observation: direction, covariates, and the latent, which only the guide may read."""
        return torch.cat([self.observed, self.covariates, self.latent], dim=-1)


def observe(count: int, dim: int, seed: int) -> Observations:
    """Draw observations whose ρ(κ*) is spread evenly between `LOWEST` and `HIGHEST`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        latent = SphericalUniform(dim, dtype=torch.float64).sample((count,))
        covariates = 2 * torch.rand(count, COVARIATES, dtype=torch.float64) - 1
        # A function of two covariates that is no linear one; the third is a distraction.
        score = torch.sin(2 * covariates[:, 0]) + covariates[:, 0] * covariates[:, 1]
        share = score.argsort().argsort().double() / (count - 1)
        resultant = LOWEST + (HIGHEST - LOWEST) * share
        concentration = (dim - 1) * resultant / (1 - resultant)
        observed = PowerSpherical(latent, concentration).sample()
    return Observations(latent, observed, covariates, resultant)


class _DirectionAndConcentration(nn.Module):
    """Keep the observed direction, predict the raw concentration from the covariates."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.columns = [dim, COVARIATES, dim]
        self.concentration = nn.Sequential(
            nn.Linear(COVARIATES, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)
        )

    def forward(self, view: Tensor) -> Tensor:
        direction, covariates, _ = view.split(self.columns, dim=-1)
        return torch.cat([direction, self.concentration(covariates)], dim=-1)


def pair_of(dim: int) -> MultiViewPair:
    """The pair: its model sees direction and covariates, its guide the latent."""
    head = PowerSphericalHead(_DirectionAndConcentration(dim), relative_concentration)
    guide = MultiViewGuide(Network(lambda view: view[:, -dim:]))
    return MultiViewPair(dim, MultiViewModel(nn.Identity(), head), guide).double()


@dataclass(frozen=True)
class Calibration:
    """What the predicted κ says beside what is seen.

    Attributes:
        by_prediction: Binned by the predicted κ: is an observation as certain as the head says?
        by_truth: Binned by κ*: without it a head that always answers with the average would pass.
    """

    by_prediction: CalibrationBins
    by_truth: CalibrationBins

    @property
    def gap(self) -> float:
        """The larger gap of the two."""
        return max(self.by_prediction.largest_gap, self.by_truth.largest_gap)


def calibrate(
    *, count: int = 50_000, steps: int = 1500, bins: int = 10, seed: int = 0
) -> tuple[Calibration, Calibration]:
    """Fit the head, and judge it on as many held-out observations: the untrained head first, then the trained one."""
    data, test = (observe(count, DIM, 2 * seed + held_out) for held_out in (0, 1))
    torch.manual_seed(seed)
    pair = pair_of(DIM)
    before = judge(pair, test, bins)
    loss = pair_loss(pair, ExponentialMovingAverage(1.0), KLObjective("all"))  # the target does not move
    optimizer = torch.optim.Adam(pair.model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    views = data.views()
    step = TrainingStep(loss, optimizer, then=schedule.step)
    for _ in tqdm(range(steps), desc="calibration", unit="step", leave=False):
        step(views[torch.randint(len(views), (BATCH_SIZE,))])
    return before, judge(pair, test, bins)


@torch.no_grad()
def judge(pair: MultiViewPair, test: Observations, bins: int) -> Calibration:
    """Compare ρ(κ) with the empirical resultant, a bin at a time."""
    rho = pair.model.expert(test.views()).mean_resultant_length
    cosine = (test.observed * test.latent).sum(-1)
    binned = partial(calibration_bins, rho, cosine, bins=bins)
    return Calibration(binned(), binned(by=test.resultant))
