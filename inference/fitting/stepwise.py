"""A training counted in steps, each a function of its number, so that it can be resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from inference.fitting.finiteness import StepRecord, StepValues, read_records
from inference.fitting.kl_objective import KLObjective
from inference.fitting.row_rate import LastRowRate
from inference.fitting.targets import TargetRule
from inference.fitting.training import OverViews, SelfSupervisedLearner, Unit
from ssl_as_inference.graphical_model import MultiViewPair


class StepwiseLearner(SelfSupervisedLearner):
    r"""A `SelfSupervisedLearner` that counts its steps, records each of them, and can start at any step.

    A batch is the sequence of its views. The learning rate is a function of the step, so there is no scheduler with a
    state. Loss and norm of the gradient stay on the device until `read_steps` reads them, so no step waits for the
    device. On a GPU the optimiser is torch's fused SGD.

    Data parallel training averages the processes' gradients, each of a mean over its own images. With as many images
    in each process this is the gradient of the mean over the global batch: the learning rate belongs to the global
    batch and does not change with the number of processes.

    Args:
        pair: Model and guide.
        objective: What is minimised.
        target: The rule that provides the guide and updates its network.
        schedule: Step, counted from 0, to learning rate.
        momentum: Of SGD.
        weight_decay: Of SGD.
        gradient_clip: Largest norm of the gradient, which is scaled down to it; `None` for no clipping.
        nats_per: As for `SelfSupervisedLearner`.
        over_views: As for `SelfSupervisedLearner`.
        row_rate: Rows of the pair's parameters that learn at a rate of their own; `None` for one rate. The norm of the
            gradient, and its clipping, do not see the factor, as they would not see a rate.
        predictor_rate: Learning rate of the predictor's parameters, the same in every step; `None` for the schedule's.
            SimSiam's published recipe has the schedule's first one (Section 4.2 of arXiv:2011.10566, "fix lr").

    Attributes:
        step: Number of steps taken: also the number, counted from 0, of the next one.

    Raises:
        ValueError: If a setting is out of its range, or `target` does not suit `pair`.
    """

    def __init__(
        self,
        pair: MultiViewPair,
        objective: KLObjective,
        target: TargetRule,
        *,
        schedule: Callable[[int], float],
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        gradient_clip: float | None = None,
        nats_per: Unit = "image",
        over_views: OverViews = "sum",
        row_rate: LastRowRate | None = None,
        predictor_rate: float | None = None,
    ) -> None:
        super().__init__(
            pair,
            objective,
            target,
            learning_rate=schedule(0),
            momentum=momentum,
            weight_decay=weight_decay,
            nats_per=nats_per,
            over_views=over_views,
        )
        if gradient_clip is not None and not 0 < gradient_clip < float("inf"):
            raise ValueError(f"gradient_clip must be positive and finite or None, got {gradient_clip}")
        if predictor_rate is not None and not 0 < predictor_rate < float("inf"):
            raise ValueError(f"predictor_rate must be positive and finite or None, got {predictor_rate}")
        self.schedule = schedule
        self.predictor_rate = predictor_rate
        self.gradient_clip = gradient_clip
        self.row_rate = row_rate
        self.step = 0
        self._records: list[StepRecord] = []
        self._optimizer_state: dict[int, dict[str, Any]] | None = None
        self._made_optimizer: Optimizer | None = None

    def resume(self, step: int, optimizer_state: dict[int, dict[str, Any]]) -> None:
        """Go on after `step` steps with the state that the optimiser had then; call it before the fit.

        The weights are not restored here: load them into the pair.
        """
        self.step = step
        self._records = []
        self._optimizer_state = optimizer_state

    def read_steps(self) -> list[StepValues]:
        """The numbers of the steps since the last call; waits for the device.

        Raises:
            NotFiniteError: For the first step whose loss or gradient is not finite.
        """
        records, self._records = self._records, []
        return read_records(records)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Evaluate the objective and keep a record."""
        loss, terms = self.loss_and_terms(self.views_of(batch))
        self._records.append(StepRecord.of(self.step, loss, terms))
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Give the optimiser the step's learning rate."""
        self._optimizer().param_groups[0]["lr"] = self.schedule(self.step)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,  # noqa: ARG002  # the Trainer's, which is not set
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Keep the norm of the whole gradient, scale the gradient where it is too long; then rates of single rows."""
        self._records[-1].gradient_norm = self._clip(optimizer)

    def _clip(self, optimizer: Optimizer) -> Tensor:
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(held, self.gradient_clip, norm)
        if self.row_rate is not None:
            self.row_rate.apply(self.weight_decay)
        return norm.detach()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, let the target rule follow, and count."""
        super().optimizer_step(*args, **kwargs)
        self.step += 1

    def _number(self) -> int:
        return self.step

    def configure_optimizers(self) -> Optimizer:  # type: ignore[override]
        """Momentum SGD over the trainable parameters; a predictor with a rate of its own is the second group."""
        trainable = [parameter for parameter in self.pair.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trainable}]
        if self.predictor_rate is not None:
            own = list(self.pair.model.predictor.parameters())
            rest = [parameter for parameter in trainable if all(parameter is not one for one in own)]
            groups = [{"params": rest}, {"params": own, "lr": self.predictor_rate}]
        optimizer = torch.optim.SGD(
            groups,
            lr=self.schedule(self.step),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=trainable[0].device.type == "cuda" or None,
        )
        if self._optimizer_state is not None:
            # The settings are this run's own: a machine may be another kind (fused), and the rate follows the step.
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self._optimizer_state, "param_groups": groups})
            self._optimizer_state = None
        self._made_optimizer = optimizer
        return optimizer

    def optimizer_state(self) -> dict[int, dict[str, Any]]:
        """What the optimiser remembers of each parameter, by number: tensors on the CPU and plain values."""
        remembered: dict[int, dict[str, Any]] = self._optimizer().state_dict()["state"]
        return {
            number: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in entry.items()}
            for number, entry in remembered.items()
        }

    def _optimizer(self) -> Optimizer:
        assert self._made_optimizer is not None  # noqa: S101  # the training has started
        return self._made_optimizer
