"""The same training in two processes: DDP through Lightning, with the objective as it is."""

from __future__ import annotations

import atexit
import warnings
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from inference.fitting.kl_objective import KLObjective
from inference.fitting.schedule import CosineSchedule
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from models.byol import BYOL
from models.networks import small_convolutional_backbone
from models.vi_simsiam import VISimSiam

IMAGES, BATCH = 32, 8


def _fit(method: str, folder: Path) -> None:
    """Train for one epoch and let every process write its weights and the number of steps it took."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = small_convolutional_backbone(1, 4)
    pair = VISimSiam(backbone, 16, dim=8) if method == "VI-SimSiam" else BYOL(backbone, 16, dim=8, hidden=16)
    target: TargetRule = StopGradientCopy() if method == "VI-SimSiam" else ExponentialMovingAverage(0.9)
    learner = StepwiseLearner(pair, KLObjective(), target, schedule=CosineSchedule(0.05, IMAGES // BATCH // 2))
    images = torch.rand(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_WriteWeights(folder)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and process starts
        trainer.fit(learner, DataLoader(TensorDataset(images, images), batch_size=BATCH, drop_last=True))


class _WriteWeights(lightning.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002
        # Before the learner's own handler, and so called after it.
        atexit.register(self._note_the_end, trainer.global_rank)

    def _note_the_end(self, rank: int) -> None:
        (self.folder / f"{rank}.end").write_text("in the group" if torch.distributed.is_initialized() else "left")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        parameters: dict[str, Tensor] = {name: value.detach() for name, value in pl_module.named_parameters()}
        torch.save({"steps": pl_module.step, **parameters}, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["VI-SimSiam", "BYOL"])
def test_two_processes_share_the_images_and_end_with_the_same_weights(method: str, tmp_path: Path) -> None:
    _fit(method, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["steps"] == second["steps"] == IMAGES // BATCH // 2
    assert first.keys() == second.keys()
    for name in first.keys() - {"steps"}:
        assert torch.equal(first[name], second[name]), name
    # A process that ends within the group aborts now and then.
    assert [(tmp_path / f"{rank}.end").read_text() for rank in (0, 1)] == ["left", "left"]
