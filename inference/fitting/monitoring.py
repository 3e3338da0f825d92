"""What is watched while a pair is trained: neighbours, collapse, concentrations."""

from __future__ import annotations

from collections import defaultdict

import lightning
import torch
from torch import Tensor

from inference.fitting.training import SelfSupervisedLearner
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy
from inference.judging.representation import represent

History = dict[str, list[tuple[int, float]]]
"""Series name to its (epoch, value) pairs, in order."""


class OnlineEvaluation(lightning.Callback):
    """Represent the held-out images every few epochs and log what reveals a collapse or a useless κ.

    The labels are used only for the neighbours' accuracy, which is logged and influences nothing.

    Args:
        train_images: Images whose neighbours are sought.
        train_labels: Their labels.
        test_images: Held-out images.
        test_labels: Their labels.
        every_epochs: Interval; the last epoch is always evaluated.

    Attributes:
        history: Everything logged so far, including the training loss.
    """

    def __init__(
        self,
        train_images: Tensor,
        train_labels: Tensor,
        test_images: Tensor,
        test_labels: Tensor,
        *,
        every_epochs: int = 1,
    ) -> None:
        super().__init__()
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}")
        self.train_images = train_images
        self.train_labels = train_labels
        self.test_images = test_images
        self.test_labels = test_labels
        self.every_epochs = every_epochs
        self.history: History = defaultdict(list)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Evaluate, log, remember."""
        if not isinstance(pl_module, SelfSupervisedLearner):
            raise TypeError(f"OnlineEvaluation watches a SelfSupervisedLearner, got {type(pl_module).__name__}")
        epoch = trainer.current_epoch + 1
        self.history["loss"].append((epoch, float(trainer.callback_metrics["loss"])))
        if epoch % self.every_epochs and epoch != trainer.max_epochs:
            return
        train = represent(pl_module.pair, self.train_images)
        test = represent(pl_module.pair, self.test_images)
        values = {
            "kNN": knn_accuracy(train.features, self.train_labels, test.features, self.test_labels),
            "standard deviation": standard_deviation(test.outputs),
            "effective rank": effective_rank(test.outputs),
        }
        for percent in (10, 50, 90):
            values[f"κ/q{percent}"] = float(torch.quantile(test.concentration, percent / 100))
        for name, value in values.items():
            self.history[name].append((epoch, float(value)))
            pl_module.log(name, float(value), prog_bar=name == "kNN")
