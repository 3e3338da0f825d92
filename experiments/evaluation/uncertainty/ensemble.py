"""The κ of several trainings taken together, as one more rival of the κ of each.

Trainings of the same configuration but the seed agree where the data speak, and disagree elsewhere. Their κ have no
common scale, so that log κ is standardised first: with m and s the mean and the standard deviation over the images as
they are, of one member,

    log κ of the ensemble = mean over the members of (log κ − m) / s,

up to a scale and a shift that no rank depends on. m and s of a member are the same for degraded, foreign and superposed
images, so that these stay comparable with the images as they are. The number ranks; it is the concentration of no law,
and there is nothing to calibrate (U6 and U7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    """Whether these are trainings of one configuration, two or more, each with a seed of its own."""
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
    scales = [_log_scale(seen.clean[KAPPA]) for seen in observations]

    def join(parts: Sequence[Uncertainties]) -> list[Uncertainties]:
        return _joined(parts, scales)

    def join_each(parts: Sequence[dict[str, Uncertainties]]) -> list[dict[str, Uncertainties]]:
        columns = {name: join([part[name] for part in parts]) for name in parts[0]}
        return [{name: joined[member] for name, joined in columns.items()} for member in range(len(parts))]

    clean, cropped, ambiguous, control = (
        join([getattr(seen, field) for seen in observations]) for field in ("clean", "cropped", "ambiguous", "control")
    )
    degraded, foreign = (
        join_each([getattr(seen, field) for seen in observations]) for field in ("degraded", "foreign")
    )
    return [
        replace(
            seen,
            clean=clean[member],
            degraded=degraded[member],
            cropped=cropped[member],
            foreign=foreign[member],
            ambiguous=ambiguous[member],
            control=control[member],
        )
        for member, seen in enumerate(observations)
    ]


def _joined(parts: Sequence[Uncertainties], scales: Sequence[tuple[Tensor, Tensor]]) -> list[Uncertainties]:
    if not all(parts):  # nothing was superposed, as without labels
        return list(parts)
    shapes = {tuple(part[KAPPA].shape) for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"observations must be of the same images, got κ of shapes {sorted(shapes)}")
    standardised = [(_log(part[KAPPA]) - mean) / std for part, (mean, std) in zip(parts, scales, strict=True)]
    u = -torch.stack(standardised).mean(0)
    return [{KAPPA: part[KAPPA], ensemble_name(len(parts)): u} | part for part in parts]


def _log_scale(u: Tensor) -> tuple[Tensor, Tensor]:
    log = _log(u)
    return log.mean(), log.std(correction=0)


def _log(u: Tensor) -> Tensor:
    """Log κ of an uncertainty −κ."""
    return (-u).clamp_min(_SMALLEST).log()
