"""A training counted in steps, each a function of its number, so that it can be resumed exactly."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer

from inference.fitting.cuda_graphs import GraphedStep, learning_rate_on_device
from inference.fitting.finiteness import StepRecord, StepValues, read_records
from inference.fitting.kl_objective import KLObjective, ObjectiveTerms, full_precision
from inference.fitting.pyro_settings import settings_for_training
from inference.fitting.row_rate import LastRowRate
from inference.fitting.targets import ExponentialMovingAverage, TargetRule
from inference.fitting.term_weights import unit_pull
from ssl_as_inference.graphical_model import MultiViewPair

Unit = Literal["image", "dimension"]
OverViews = Literal["sum", "mean"]


class StepwiseLearner(lightning.LightningModule):
    r"""Fit a pair with Lightning by momentum SGD: counts its steps, keeps their numbers, and can start at any of them.

    What is minimised is the objective's mean over images. A batch is the sequence of its views. The learning rate is a
    function of the step, so there is no scheduler with a state. Loss and norm of the gradient stay on the device until
    `read_steps` reads them, so no step waits for the device. On a GPU the optimiser is torch's fused SGD.

    With `record` a GPU replays the steps, after the first few, as one CUDA graph: forward, objective, backward,
    clipping, optimiser, target rule. Around it nothing changes. The learning rate is a tensor that each step is given
    anew; the views are drawn outside and copied to where the recorded ones lay; of each step's numbers, which the next
    replay overwrites, a copy is kept until they are read. Weights, the optimiser's memory and the target's weights are
    changed in place, so that evaluations and checkpoints between the steps see them as ever. A recording is no part of
    a checkpoint: every fit begins with steps that are not recorded, and makes its own. On a CPU every step is an
    ordinary one. The steps of one training must then have the same number of images and views, as those of
    `experiments.images` have, which drop a last incomplete batch.

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
        nats_per: Unit of the loss, nats for an `"image"` or for a `"dimension"` of the sphere (d − 1 of them). A
            concentration that fits the data grows with d, and the gradient with it (C23); the loss per dimension
            makes one learning rate serve every d. `"image"` leaves the objective as it is. The weights `unit_pull` need
            it, because their loss is not in nats and does not grow with d.
        over_views: The `"sum"` over the views' experts, as in Algorithm 1, or their `"mean"`: with SimSiam at κ = 1 and
            two views, SimSiam's published loss up to a constant.
        row_rate: Rows of the pair's parameters that learn at a rate of their own; `None` for one rate. The norm of the
            gradient, and its clipping, do not see the factor, as they would not see a rate.
        predictor_rate: Learning rate of the predictor's parameters, the same in every step; `None` for the schedule's.
            SimSiam's published recipe has the schedule's first one (Section 4.2 of arXiv:2011.10566, "fix lr").
        record: Whether a GPU records the step.

    Attributes:
        step: Number of steps taken: also the number, counted from 0, of the next one.

    Raises:
        ValueError: If a setting is out of its range, `nats_per` does not suit the objective's weights, or `target` does
            not suit `pair`. With `record`, if the target's momentum rises; when the fit starts, if there are several
            processes, whose gradients a recorded step does not average; in the fit, if views are not like those of the
            first step.
        RecordingError: In the fit, if a network does what cannot be recorded.
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
        record: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # Lightning's own order of a step cannot be recorded as one
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be finite and >= 0, got {weight_decay}")
        if gradient_clip is not None and not 0 < gradient_clip < float("inf"):
            raise ValueError(f"gradient_clip must be positive and finite or None, got {gradient_clip}")
        if predictor_rate is not None and not 0 < predictor_rate < float("inf"):
            raise ValueError(f"predictor_rate must be positive and finite or None, got {predictor_rate}")
        if nats_per not in get_args(Unit):
            raise ValueError(f'nats_per must be "image" or "dimension", got {nats_per!r}')
        if nats_per == "dimension" and objective.weight is unit_pull:
            raise ValueError(
                'nats_per must be "image" with the weights unit_pull, whose loss is not in nats, got "dimension"'
            )
        if over_views not in get_args(OverViews):
            raise ValueError(f'over_views must be "sum" or "mean", got {over_views!r}')
        if record and isinstance(target, ExponentialMovingAverage) and target.steps is not None:
            raise ValueError(
                "target must have a constant momentum in a recorded step, got one that rises with the steps"
            )
        self.pair = pair
        self.target = target
        self.schedule = schedule
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.predictor_rate = predictor_rate
        self.gradient_clip = gradient_clip
        self.unit = pair.dim - 1 if nats_per == "dimension" else 1
        self.over_views = over_views
        self.row_rate = row_rate
        self.record = record
        self._objective = objective
        self.elbo = objective(pair.model, target.guide(pair))
        self.step = 0
        self._records: list[StepRecord] = []
        self._optimizer_state: dict[int, dict[str, Any]] | None = None
        self._made_optimizer: Optimizer | None = None
        self._backward: Callable[[Tensor], object] = Tensor.backward
        self._replayed: GraphedStep | None = None
        self._set_learning_rate: Callable[[float], None] | None = None
        self._example: StepRecord | None = None

    def setup(self, stage: str) -> None:  # noqa: ARG002  # the same for every stage
        """Let each of several processes leave their group before it ends.

        Gloo's threads may else let go of a tensor after Python has ended, and the process aborts (explained in pull
        request 179291 of PyTorch). Lightning does this itself for NCCL, and for no other group.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            atexit.register(_leave_group)

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

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """The loss of a batch: mean over images, in nats per `nats_per`."""
        return self.loss_and_terms(views)[0]

    def loss_and_terms(self, views: Sequence[Tensor]) -> tuple[Tensor, ObjectiveTerms]:
        """The loss of a batch, and what it is made of."""
        with settings_for_training():
            terms = self._objective.evaluate(self.elbo.model, self.elbo.guide, views)
        with full_precision(views[0]):
            nats = terms.loss() / len(views[0])
        return nats / (self.unit * (len(views) if self.over_views == "mean" else 1)), terms

    def on_train_start(self) -> None:
        """Begin, with several processes such that their gradients are averaged.

        Raises:
            ValueError: If the trainer is to count steps, which it cannot here, or several processes are to record.
        """
        if self.trainer.max_steps != -1:
            raise ValueError(
                f"a trainer must be given max_epochs and no max_steps, got max_steps {self.trainer.max_steps}"
            )
        if self.trainer.world_size > 1:
            if self.record:
                raise ValueError(
                    f"a training by CUDA graphs must be of one process, got {self.trainer.world_size}: a recorded step "
                    "does not average gradients"
                )
            self._backward = self.manual_backward
        self.start()

    def start(self) -> None:
        """Begin a fit with the optimiser that was made last; Lightning calls this, a loop of one's own has to.

        What another fit has recorded is forgotten.
        """
        if self.record:
            self._set_learning_rate = learning_rate_on_device(self._optimizer())
            self._replayed = GraphedStep(self._packed_step)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Give the optimiser the step's learning rate."""
        rate = self.schedule(self.step)
        if self._set_learning_rate is None:
            self._optimizer().param_groups[0]["lr"] = rate
        else:
            self._set_learning_rate(rate)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Take the step, keep a record of it, and count."""
        if self._replayed is None:
            record = self._take_step(*batch)
        else:
            packed = self._replayed(*batch)
            assert self._example is not None  # noqa: S101  # the first call is no replay
            record = self._example.like(self.step, packed)
        self._records.append(record)
        self.step += 1
        return record.loss

    def _take_step(self, *views: Tensor) -> StepRecord:
        """The step as a function of the views and of what lies on the device, the learning rate among it."""
        optimizer = self._optimizer()
        optimizer.zero_grad(set_to_none=True)  # not to zero: a gradient of a recording lies in the graph's own memory
        loss, terms = self.loss_and_terms(views)
        record = StepRecord.of(self.step, loss, terms)
        with full_precision(loss):  # half precision is for the forward alone
            self._backward(loss)
            record.gradient_norm = self._clip(optimizer)
            optimizer.step()
            self.target.update(self.pair, self.step)
        return record

    def _packed_step(self, *views: Tensor) -> Tensor:
        self._example = self._take_step(*views)
        return self._example.packed()

    def _clip(self, optimizer: Optimizer) -> Tensor:
        """The norm of the whole gradient, which is scaled where it is too long; then rates of single rows."""
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(held, self.gradient_clip, norm)
        if self.row_rate is not None:
            self.row_rate.apply(self.weight_decay)
        return norm.detach()

    def configure_optimizers(self) -> Optimizer:
        """Momentum SGD over the trainable parameters; a predictor with a rate of its own is the second group."""
        trainable = [parameter for parameter in self.pair.parameters() if parameter.requires_grad]
        if not trainable:
            raise ValueError("pair must have parameters that are trained, got none that requires a gradient")
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
        """What the optimiser remembers of each parameter, by number: copies on the CPU and plain values."""
        remembered: dict[int, dict[str, Any]] = self._optimizer().state_dict()["state"]
        return {
            number: {
                name: value.to("cpu", copy=True) if isinstance(value, Tensor) else value
                for name, value in entry.items()
            }
            for number, entry in remembered.items()
        }

    def _optimizer(self) -> Optimizer:
        assert self._made_optimizer is not None  # noqa: S101  # the training has started
        return self._made_optimizer


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
