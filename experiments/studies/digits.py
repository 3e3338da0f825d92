"""The study that the quickstart and the sweep run: two methods and two baselines on digits, trained and measured."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import lightning
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from experiments.command_line.progress import EpochBar
from experiments.images.degradations import add_noise, occlude
from experiments.images.digits import DigitViews, LabelledImages
from inference.fitting.kl_objective import KLObjective
from inference.fitting.monitoring import History, OnlineEvaluation
from inference.fitting.pyro_settings import settings_for_training
from inference.fitting.targets import StopGradientCopy
from inference.fitting.training import SelfSupervisedLearner, Unit
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy, linear_accuracy, nearest_neighbour_is_right
from inference.judging.representation import Representation, represent
from inference.judging.uncertainty import correctness_auroc, degradation_spearman
from models.networks import small_convolutional_backbone
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam
from ssl_as_inference.graphical_model import MultiViewPair

DEGRADATION_LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Standard deviations of the noise, and covered fractions of the occlusion, at which κ is compared."""


@dataclass(frozen=True)
class Recipe:
    """How one method is trained on digits; `python -m experiments.digits_sweep --tune` compares learning rates."""

    pair: Callable[..., MultiViewPair]
    learning_rate: float
    nats_per: Unit
    gradient_clip: float | None
    weight_decay: float = 5e-4
    batch_size: int = 64
    dim: int = 128
    width: int = 32

    def build(self) -> MultiViewPair:
        """A fresh pair, initialised from torch's global random numbers."""
        features = 4 * self.width
        return self.pair(small_convolutional_backbone(1, self.width), features, dim=self.dim)


RECIPES = {
    "SimSiam": Recipe(SimSiam, learning_rate=0.1, nats_per="image", gradient_clip=None),
    "VI-SimSiam": Recipe(VISimSiam, learning_rate=0.1, nats_per="dimension", gradient_clip=1.0),
}


@dataclass(frozen=True)
class Measures:
    """One row of the table; NaN where a measure does not apply.

    Attributes:
        knn: Accuracy of the vote of the nearest training images on held-out images.
        linear: Accuracy of a linear classifier on frozen features.
        standard_deviation: Of the normalised outputs, times √d: 1 for the uniform law, 0 at collapse.
        effective_rank: Of the normalised outputs.
        correctness_auroc: How well κ ranks the nearest neighbour being right.
        spearman_noise: Rank correlation of −κ with growing noise.
        spearman_occlusion: Rank correlation of −κ with growing occlusion.
    """

    knn: float
    linear: float
    standard_deviation: float
    effective_rank: float
    correctness_auroc: float = math.nan
    spearman_noise: float = math.nan
    spearman_occlusion: float = math.nan


HEADINGS = (
    "kNN",
    "linear",
    "std of outputs",
    "effective rank",
    "κ: AUROC of correctness",
    "κ: Spearman, noise",
    "κ: Spearman, occlusion",
)


def format_table(rows: dict[str, Measures]) -> str:
    """The rows as a Markdown table."""
    cells = [["", *HEADINGS]]
    for name, measures in rows.items():
        values = [getattr(measures, field.name) for field in fields(measures)]
        cells.append([name, *("–" if math.isnan(value) else f"{value:.3f}" for value in values)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


@dataclass(frozen=True)
class Trained:
    """A trained pair, what was watched meanwhile, and its measures."""

    pair: MultiViewPair
    history: History
    measures: Measures
    test: Representation


def raw_pixels(train: LabelledImages, test: LabelledImages) -> Measures:
    """The baseline without any network: pixels as features."""
    return _judge(train.images.flatten(1), train, test.images.flatten(1), test, outputs=test.images.flatten(1))


def untrained_encoder(recipe: Recipe, train: LabelledImages, test: LabelledImages, *, seed: int) -> Measures:
    """The baseline of random weights, with batch statistics taken from the training images."""
    lightning.seed_everything(seed, verbose=False)
    pair = recipe.build()
    update_bn([train.images], pair.model.encoder)
    return _judge_pair(pair, train, test)[0]


def train_and_measure(
    name: str,
    train: LabelledImages,
    test: LabelledImages,
    *,
    epochs: int,
    seed: int,
    recipe: Recipe | None = None,
    defects: float = 0.25,
    online_every: int = 4,
    progress: bool = True,
) -> Trained:
    """Train one method on the images of `train`, without their labels, and judge it on `test`.

    Args:
        name: A key of `RECIPES`.
        train: Images to train on; their labels serve the evaluation alone.
        test: Held-out images.
        epochs: Passes over the training images.
        seed: Of weights, order and views.
        recipe: Instead of the method's own.
        defects: Probability of each of the two defects in a view, see `DigitViews`.
        online_every: Epochs between the evaluations that make the curves.
        progress: Whether to show a bar.
    """
    recipe = recipe or RECIPES[name]
    lightning.seed_everything(seed, verbose=False)
    trainer_device = "cuda" if torch.cuda.is_available() else "cpu"
    views = DigitViews(torch.Generator(trainer_device).manual_seed(seed), defects=defects)
    learner = SelfSupervisedLearner(
        recipe.build(),
        KLObjective(),
        StopGradientCopy(),
        views,
        learning_rate=recipe.learning_rate,
        nats_per=recipe.nats_per,
        weight_decay=recipe.weight_decay,
    )
    watch = OnlineEvaluation(train.images, train.labels, test.images, test.labels, every_epochs=online_every)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator=trainer_device,
        devices=1,
        gradient_clip_val=recipe.gradient_clip,
        callbacks=[watch, *([EpochBar(name)] if progress else [])],
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # The images are in memory already: worker processes would only copy them about.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        with settings_for_training():
            trainer.fit(learner, _batches(train, recipe.batch_size))
    pair = copy.deepcopy(learner.pair).cpu()
    measures, representation = _judge_pair(pair, train, test)
    if isinstance(pair, VISimSiam):
        measures = replace(
            measures,
            spearman_noise=_degradation(pair, test, add_noise),
            spearman_occlusion=_degradation(pair, test, occlude),
        )
    return Trained(pair, watch.history, measures, representation)


def _batches(train: LabelledImages, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
    if len(train) < batch_size:
        raise ValueError(f"batch_size must be at most the number of training images, {len(train)}, got {batch_size}")
    dataset = TensorDataset(train.images)
    sampler = BatchSampler(RandomSampler(dataset), batch_size, drop_last=True)
    # A batch is indexed at once instead of an image at a time.
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def _judge(
    train_features: Tensor, train: LabelledImages, test_features: Tensor, test: LabelledImages, *, outputs: Tensor
) -> Measures:
    labelled = (train_features, train.labels, test_features, test.labels)
    return Measures(
        knn_accuracy(*labelled), linear_accuracy(*labelled), standard_deviation(outputs), effective_rank(outputs)
    )


def _judge_pair(pair: MultiViewPair, train: LabelledImages, test: LabelledImages) -> tuple[Measures, Representation]:
    seen, new = represent(pair, train.images), represent(pair, test.images)
    measures = _judge(seen.features, train, new.features, test, outputs=new.outputs)
    if new.concentration.min() < new.concentration.max():
        right = nearest_neighbour_is_right(seen.features, train.labels, new.features, test.labels)
        measures = replace(measures, correctness_auroc=correctness_auroc(new.concentration, right))
    return measures, new


def _degradation(
    pair: MultiViewPair, test: LabelledImages, degrade: Callable[[Tensor, float, torch.Generator], Tensor]
) -> float:
    """Spearman correlation of −κ with the severity; every level draws the same noise or position (same seed)."""
    concentrations = [
        represent(pair, degrade(test.images, level, torch.Generator().manual_seed(0))).concentration
        for level in DEGRADATION_LEVELS
    ]
    return degradation_spearman(torch.stack(concentrations))
