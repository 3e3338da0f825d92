"""Fitting a model/guide pair with Lightning: the step, the optimiser, what is logged."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from inference.fitting.kl_objective import KLObjective, ObjectiveTerms, full_precision
from inference.fitting.pyro_settings import settings_for_training
from inference.fitting.targets import TargetRule
from inference.fitting.term_weights import unit_pull
from ssl_as_inference.graphical_model import MultiViewPair

Unit = Literal["image", "dimension"]
OverViews = Literal["sum", "mean"]
Augment = Callable[[Tensor], Tensor]


class SelfSupervisedLearner(lightning.LightningModule):
    r"""Fit a pair by minimising the objective's mean over images with momentum SGD and a cosine schedule.

    The recipe of Section 6.2 of arXiv:2203.11437v1 with its numbers as arguments. A batch is a tensor of images or
    `(images, labels)`; labels are ignored. Each image is augmented `views` times, on the device. Without `augment` a
    batch is the sequence of its views.

    Args:
        pair: Model and guide.
        objective: What is minimised.
        target: The rule that provides the guide and updates its network.
        augment: Images to one random view of each; `None` for batches that are views already.
        views: Number M of views to make.
        learning_rate: At the start of the cosine schedule, which ends at zero with the last epoch.
        momentum: Of SGD.
        weight_decay: Of SGD.
        nats_per: Unit of the loss, nats for an `"image"` or for a `"dimension"` of the sphere (d − 1 of them). A
            concentration that fits the data grows with d, and the gradient with it (C23); the loss per dimension
            makes one learning rate serve every d. `"image"` leaves the objective as it is. The weights `unit_pull` need
            it, because their loss is not in nats and does not grow with d.
        over_views: The `"sum"` over the views' experts, as in Algorithm 1, or their `"mean"`: with SimSiam at κ = 1 and
            two views, SimSiam's published loss up to a constant.

    Raises:
        ValueError: If a setting is out of its range, `nats_per` does not suit the objective's weights, or `target` does
            not suit `pair`.
    """

    def __init__(
        self,
        pair: MultiViewPair,
        objective: KLObjective,
        target: TargetRule,
        augment: Augment | None = None,
        *,
        views: int = 2,
        learning_rate: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        nats_per: Unit = "image",
        over_views: OverViews = "sum",
    ) -> None:
        super().__init__()
        if views < 1:
            raise ValueError(f"views must be at least 1, got {views}")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be finite and >= 0, got {weight_decay}")
        if nats_per not in get_args(Unit):
            raise ValueError(f'nats_per must be "image" or "dimension", got {nats_per!r}')
        if nats_per == "dimension" and objective.weight is unit_pull:
            raise ValueError(
                'nats_per must be "image" with the weights unit_pull, whose loss is not in nats, got "dimension"'
            )
        if over_views not in get_args(OverViews):
            raise ValueError(f'over_views must be "sum" or "mean", got {over_views!r}')
        self.pair = pair
        self.target = target
        self.augment = augment
        self._objective = objective
        self.elbo = objective(pair.model, target.guide(pair))
        self.views = views
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.unit = pair.dim - 1 if nats_per == "dimension" else 1
        self.over_views = over_views

    def setup(self, stage: str) -> None:  # noqa: ARG002  # the same for every stage
        """Let each of several processes leave their group before it ends.

        Gloo's threads may else let go of a tensor after Python has ended, and the process aborts (explained in pull
        request 179291 of PyTorch). Lightning does this itself for NCCL, and for no other group.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            atexit.register(_leave_group)

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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Augment, evaluate the objective, log."""
        views = self.views_of(batch)
        loss: Tensor = self(views)
        self.log("loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=len(views[0]))
        return loss

    def views_of(self, batch: Any) -> Sequence[Tensor]:
        """The views of a batch's images."""
        if self.augment is None:
            return batch  # type: ignore[no-any-return]
        images = batch[0] if isinstance(batch, (list, tuple)) else batch
        with torch.no_grad():
            return [self.augment(images) for _ in range(self.views)]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the target rule follow."""
        super().optimizer_step(*args, **kwargs)
        self.target.update(self.pair, self._number())

    def _number(self) -> int:
        """Of the step that is being taken, counted from 0."""
        return self.trainer.global_step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Momentum SGD and a cosine schedule over all steps, as in Section 6.2."""
        trainable = [parameter for parameter in self.pair.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(
            trainable, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the cosine schedule needs a last step: set max_epochs or max_steps of the Trainer")
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
