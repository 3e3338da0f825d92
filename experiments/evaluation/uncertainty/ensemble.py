"""The κ of several trainings taken together, as one more rival of the κ of each.

Trainings of the same configuration but the seed agree where the data speak, and disagree elsewhere. Their κ have no
common scale, so that log κ is standardised first: with m and s the mean and the standard deviation over the images as
they are, of one member,

    log κ of the ensemble = mean over the members of (log κ − m) / s,

up to a scale and a shift that no rank depends on. m and s of a member are the same for degraded, foreign and superposed
images, so that these stay comparable with the images as they are. The number ranks; it is not the concentration of a
distribution, and there is nothing to calibrate (U6 and U7).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import Observations
from experiments.evaluation.uncertainty.rivals import KAPPA, Uncertainties
from experiments.pretraining.configuration import PretrainConfig

_SMALLEST = torch.finfo(torch.float32).tiny  # κ is computed in float32, where it may be rounded to 0


def ensemble_name(members: int) -> str:
    """What the rival is called."""
    return f"{KAPPA}, ensemble of {members}"


def differ_in_seed_alone(configs: Sequence[PretrainConfig]) -> bool:
    """Whether these are trainings of one configuration on one set, two or more, each with a seed of its own."""
    if len({(config.data.name, config.init_from) for config in configs}) > 1:  # no part of the differences
        return False
    others = [line for config in configs for line in configs[0].differences(config) if not line.startswith("seed ")]
    return len(configs) > 1 and not others and len({config.seed for config in configs}) == len(configs)


def with_ensemble(observations: Sequence[Observations]) -> list[Observations]:
    """Add the ensemble to the uncertainties of each member, behind its κ; the same values to all.

    Errors of nearest neighbours and of the probe stay those of each member.

    Args:
        observations: Of two or more members, on the same images.

    Raises:
        ValueError: If there is one member alone, κ is constant in one, or they saw other numbers of images.
    """
    if len(observations) < 2:
        raise ValueError(f"observations must be of two members or more, got {len(observations)}")
    if not all(KAPPA in seen.names for seen in observations):
        raise ValueError("observations must be of members whose κ differs between images, got a constant one")
    clean = [_log(seen.clean) for seen in observations]
    scales = [(log.mean(), log.std(correction=0)) for log in clean]

    def joined(own: Uncertainties, members: list[Uncertainties]) -> Uncertainties:
        if KAPPA not in own:  # nothing was seen
            return own
        shapes = {tuple(member[KAPPA].shape) for member in members}
        if len(shapes) > 1:
            raise ValueError(f"observations must be of the same images, got κ of shapes {sorted(shapes)}")
        parts = [(_log(member) - mean) / deviation for member, (mean, deviation) in zip(members, scales, strict=True)]
        return {KAPPA: own[KAPPA], ensemble_name(len(parts)): -torch.stack(parts).mean(0)} | own

    return [seen.changed(joined, observations) for seen in observations]


def _log(uncertainties: dict[str, Tensor]) -> Tensor:
    """Log κ of an uncertainty −κ."""
    return (-uncertainties[KAPPA]).clamp_min(_SMALLEST).log()
