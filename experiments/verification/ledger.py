"""All claims in one place, and how one of them is run."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import pyro
import torch

from experiments.verification.claim import Claim, Outcome
from experiments.verification.errata import ERRATA
from experiments.verification.lab import Lab

_MODULES = (
    "claims_simsiam claims_inference claims_product_of_experts claims_distributions claims_vi_simsiam "
    "claims_contrastive claims_trained_encoder trajectories"
)


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


def claims_of(module: ModuleType) -> list[Claim]:
    """The claims of a module, in the order in which they are written."""
    return [value for value in vars(module).values() if isinstance(value, Claim)]


def claims() -> tuple[Claim, ...]:
    """Every claim, by number; those of one number in the order in which they are written."""
    modules = [importlib.import_module(f"experiments.verification.{name}") for name in _MODULES.split()]
    found = [claim for module in modules for claim in claims_of(module)]
    return tuple(sorted((*found, *(erratum.as_claim() for erratum in ERRATA)), key=number))


def selected(every: Sequence[Claim], *, only: Sequence[str] | None, long: bool) -> list[Claim]:
    """The claims to run: those of `only`, such as "C12", "c12" or "12", or all, the long ones where asked for.

    Raises:
        ValueError: If a claim of `only` does not exist.
    """
    known, wanted = dict.fromkeys(claim.id for claim in every), {f"C{name.lstrip('cC')}": name for name in only or ()}
    unknown = [name for claim_id, name in wanted.items() if claim_id not in known]
    if unknown:
        raise ValueError(f"--only must name claims of the ledger ({', '.join(known)}), got {', '.join(unknown)}")
    return [claim for claim in every if (claim.id in wanted if wanted else long or not claim.long)]


def run(claim: Claim, lab: Lab) -> Result:
    """Run one check from its seed, leaving the state of the random number generators as it was.

    A check that raises an exception has failed; the ledger goes on.
    """
    begin = time.perf_counter()
    devices = [lab.device] if lab.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), pyro.get_param_store().scope():
        torch.manual_seed(lab.seed)
        try:
            outcome = claim.check(Lab(lab.device, lab.seed))  # its generator starts anew
        except Exception as error:  # noqa: BLE001  # whatever it is, the claim is not verified
            outcome = Outcome(math.inf, f"{type(error).__name__}: {error}")
    return Result(claim, outcome, time.perf_counter() - begin)
