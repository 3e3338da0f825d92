"""NaN and infinity in a training: found without waiting for the device in each step, and traced to their term."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.fitting.kl_objective import ObjectiveTerms


@dataclass
class StepRecord:
    """What a step keeps on the device until it is read: references only, without copies or computation.

    Attributes:
        step: Its number, counted from 0.
        loss: Scalar.
        log_densities: For each view, `(images,)`, see `ObjectiveTerms`.
        concentrations: κ of each view's experts, `(images,)` or `()`.
        log_normalizer: log Z where the objective is normalised.
        gradient_norm: Norm of the whole gradient before clipping; scalar.
    """

    step: int
    loss: Tensor
    log_densities: tuple[Tensor, ...]
    concentrations: tuple[Tensor, ...]
    log_normalizer: Tensor | None
    gradient_norm: Tensor | None = None

    @classmethod
    def of(cls, step: int, loss: Tensor, terms: ObjectiveTerms) -> StepRecord:
        """Keep what a failure would be traced with."""
        return cls(
            step,
            loss.detach(),
            tuple(term.detach() for term in terms.log_densities),
            tuple(expert.concentration.detach() for expert in terms.experts),
            None if terms.log_normalizer is None else terms.log_normalizer.detach(),
        )

    def packed(self) -> Tensor:
        """All its numbers in one tensor, which a recorded step can hand out."""
        return torch.cat([one.reshape(-1).to(self.loss.dtype) for one in self._tensors()])

    def like(self, step: int, packed: Tensor) -> StepRecord:
        """The record of another step, from what `packed` gave for it."""
        shapes = [one.shape for one in self._tensors()]
        parts = packed.split([shape.numel() for shape in shapes])
        rest = iter([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])
        return StepRecord(
            step,
            next(rest),
            tuple(next(rest) for _ in self.log_densities),
            tuple(next(rest) for _ in self.concentrations),
            None if self.log_normalizer is None else next(rest),
            None if self.gradient_norm is None else next(rest),
        )

    def _tensors(self) -> list[Tensor]:
        last = [one for one in (self.log_normalizer, self.gradient_norm) if one is not None]
        return [self.loss, *self.log_densities, *self.concentrations, *last]


@dataclass(frozen=True)
class StepValues:
    """Loss and norm of the gradient of a step, as numbers."""

    step: int
    loss: float
    gradient_norm: float


class NotFiniteError(RuntimeError):
    """A training met NaN or infinity; the message names the step and the term.

    Attributes:
        step: The step, counted from 0.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(f"step {step}: {reason}")
        self.step = step


def read_records(records: Sequence[StepRecord]) -> list[StepValues]:
    """Wait for the device once and return the numbers of all steps.

    Raises:
        NotFiniteError: For the first step whose loss or gradient is NaN or infinite, with what made it so.
    """
    if not records:
        return []
    nothing = torch.zeros_like(records[0].loss)
    columns = [
        torch.stack([record.loss for record in records]),
        torch.stack([nothing if record.gradient_norm is None else record.gradient_norm for record in records]),
    ]
    losses, norms = torch.stack([column.double() for column in columns]).tolist()
    for record, loss, norm in zip(records, losses, norms, strict=True):
        if not math.isfinite(loss):
            raise NotFiniteError(record.step, f"the loss is {loss}: {_offending_term(record)}")
        if not math.isfinite(norm):
            raise NotFiniteError(record.step, f"the loss is {loss:.4g}, but the norm of its gradient is {norm}")
    return [StepValues(record.step, *values) for record, *values in zip(records, losses, norms, strict=True)]


def _offending_term(record: StepRecord) -> str:
    pairs = zip(record.log_densities, record.concentrations, strict=True)
    for view, (log_density, concentration) in enumerate(pairs, start=1):
        bad = ~log_density.isfinite()
        if not bad.any():
            continue
        where = f"in {int(bad.sum())} of {len(bad)} images"
        if not concentration.isfinite().all():
            broken = int((~concentration.isfinite()).sum())
            value = concentration[~concentration.isfinite()].flatten()[0].item()
            return f"the expert of view {view} has a concentration κ of {value} in {broken} of {len(bad)} images"
        if bool((log_density == -math.inf).any()):
            return f"the expert of view {view} has density 0 at the guide's z (a cosine of −1, with a finite κ) {where}"
        return (
            f"the cosine between the mean direction of view {view}'s expert and the guide's z is not a number "
            f"(κ is finite) {where}"
        )
    if record.log_normalizer is not None and not record.log_normalizer.isfinite().all():
        return "the normaliser of the product of experts is not finite"
    return "every term is finite, their sum is not"
