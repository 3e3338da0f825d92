"""All claims in one place, and how one of them is run."""

from __future__ import annotations

import importlib.util
import math
import re
import time
from dataclasses import dataclass

import pyro
import torch

from experiments.verification import (
    claims_distributions,
    claims_guide,
    claims_multimodal_vi,
    claims_product_of_experts,
    claims_simsiam,
    claims_ssl_loss,
    claims_vi_simsiam,
    errata,
)
from experiments.verification.claim import Claim, Outcome, Settings

_TRAJECTORIES = "experiments.verification.trajectories"


@dataclass(frozen=True)
class Result:
    """A claim and what its check found.

    Attributes:
        claim: The claim.
        outcome: What was measured; an infinite error if the check raised an exception.
        seconds: How long it took.
    """

    claim: Claim
    outcome: Outcome
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the claim holds."""
        return self.claim.passed(self.outcome)


def number(claim: Claim) -> int:
    """12 of "C12"."""
    return int(claim.id.removeprefix("C"))


def equation_number(claim: Claim) -> int:
    """The first equation that a claim belongs to, 0 if it is on Algorithm 1 or a section."""
    match = re.search(r"\((\d+)\)", claim.equation)
    return int(match.group(1)) if match else 0


def _trajectories() -> tuple[Claim, ...]:
    if importlib.util.find_spec(_TRAJECTORIES) is None:
        return ()
    found: tuple[Claim, ...] = tuple(importlib.import_module(_TRAJECTORIES).CLAIMS)
    return found


def claims() -> tuple[Claim, ...]:
    """Every claim, by number; those of one number in the order in which they are written."""
    modules = (
        claims_ssl_loss,
        claims_multimodal_vi,
        claims_product_of_experts,
        claims_distributions,
        claims_guide,
        claims_simsiam,
        claims_vi_simsiam,
        errata,
    )
    found = [claim for module in modules for claim in module.CLAIMS]
    return tuple(sorted((*found, *_trajectories()), key=number))


def run(claim: Claim, settings: Settings) -> Result:
    """Run one check from its seed, leaving the state of the random number generators as it was.

    A check that raises an exception has failed; the ledger goes on.
    """
    begin = time.perf_counter()
    devices = [settings.device] if settings.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), pyro.get_param_store().scope():
        torch.manual_seed(settings.seed)
        try:
            outcome = claim.check(settings)
        except Exception as error:  # noqa: BLE001  # whatever it is, the claim is not verified
            outcome = Outcome(math.inf, f"{type(error).__name__}: {error}")
    return Result(claim, outcome, time.perf_counter() - begin)


def label(claim: Claim) -> str:
    """A short name of a claim, for test reports."""
    words = re.sub(r"[^\w ]", "", re.sub(r"\$[^$]*\$", "", claim.statement)).split()
    return "-".join([claim.id, claim.kind.replace(" ", "_"), *words[:4], *words[4:][-3:]])
