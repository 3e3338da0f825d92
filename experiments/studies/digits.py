"""The trainings of the quickstart and of the sweep: two methods and two baselines on digits, trained and measured."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import lightning
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim.swa_utils import update_bn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from experiments.command_line.progress import EpochBar, quiet_lightning
from experiments.images.degradations import add_noise, occlude
from experiments.images.digits import DigitViews, LabelledImages, hold_out, load
from experiments.pretraining.building import plain_softplus
from experiments.records.record import Cell, Table, markdown_table
from experiments.studies.engine import Result, Run, Study, keep, kept
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
from ssl_as_inference.special import von_mises_fisher_log_normalizer

DEGRADATION_LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Standard deviations of the noise, and covered fractions of the occlusion, at which κ is compared."""

LEARNING_RATES = (0.05, 0.1, 0.2)
"""Those that the sweep compares."""


@dataclass(frozen=True)
class Recipe:
    """How one method is trained on digits; `python -m experiments.digits_sweep --tune` compares learning rates.

    Attributes:
        defects: Probability of each of the two defects in a view, see `DigitViews`.
    """

    pair: Callable[..., MultiViewPair]
    nats_per: Unit
    gradient_clip: float | None
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 64
    dim: int = 128
    width: int = 32
    defects: float = 0.25

    def build(self) -> MultiViewPair:
        """A fresh pair, initialised from torch's global random numbers."""
        features = 4 * self.width
        return self.pair(small_convolutional_backbone(1, self.width), features, dim=self.dim)


RECIPES = {
    "SimSiam": Recipe(SimSiam, nats_per="image", gradient_clip=None),
    "VI-SimSiam": Recipe(VISimSiam, nats_per="dimension", gradient_clip=1.0),
}


@dataclass(frozen=True)
class Measures:
    """One row of the table; NaN where a measure does not apply.

    Attributes:
        knn: Accuracy of the vote of the nearest training images on held-out images.
        linear: Accuracy of a linear classifier on frozen features.
        standard_deviation: Of the normalised outputs, times √d: 1 for the uniform distribution, 0 at collapse.
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


HEADINGS = {
    "knn": "kNN",
    "linear": "linear",
    "standard_deviation": "std of outputs",
    "effective_rank": "effective rank",
    "correctness_auroc": "κ: AUROC of correctness",
    "spearman_noise": "κ: Spearman, noise",
    "spearman_occlusion": "κ: Spearman, occlusion",
}


def format_table(rows: Iterable[tuple[str, Measures]]) -> str:
    """A Markdown table with one row for each label: the mean, and the range in brackets."""
    groups: dict[str, list[Measures]] = {}
    for label, measures in rows:
        groups.setdefault(label, []).append(measures)

    def cell(name: str, of: Sequence[Measures]) -> Cell:
        known = [value for value in (getattr(each, name) for each in of) if not math.isnan(value)]
        ends = (min(known), max(known)) if len(known) > 1 else (None, None)
        return Cell(fmean(known), *ends) if known else Cell()

    cells = {label: {shown: cell(name, of) for name, shown in HEADINGS.items()} for label, of in groups.items()}
    return markdown_table(Table("", tuple(HEADINGS.values()), cells).lines(), padded=True)


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
    recipe: Recipe,
    train: LabelledImages,
    test: LabelledImages,
    *,
    epochs: int,
    seed: int,
    watched: bool = True,
) -> Trained:
    """Train one method on the images of `train`, without their labels, and judge it on `test`.

    Args:
        name: For the bar.
        recipe: How it is trained.
        train: Images to train on; their labels serve the evaluation alone.
        test: Held-out images.
        epochs: Passes over the training images.
        seed: Of weights, order and views.
        watched: Whether to evaluate every four epochs, for the curves, and to show a bar.

    Returns:
        In the history SimSiam's loss is the cosine that it is made of.
    """
    lightning.seed_everything(seed, verbose=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    learner = SelfSupervisedLearner(
        recipe.build(),
        KLObjective(),
        StopGradientCopy(),
        DigitViews(torch.Generator(device).manual_seed(seed), defects=recipe.defects),
        learning_rate=recipe.learning_rate,
        nats_per=recipe.nats_per,
        weight_decay=recipe.weight_decay,
    )
    labelled = (train.images, train.labels, test.images, test.labels)
    watch = OnlineEvaluation(*labelled, every_epochs=4 if watched else epochs)
    readable = partial(_loss_as_cosine, learner.pair)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator=device,
        devices=1,
        gradient_clip_val=recipe.gradient_clip,
        callbacks=[watch, *([EpochBar(name, readable)] if watched else [])],
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(), settings_for_training():
        # The images are in memory already: worker processes would only copy them about.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer.fit(learner, _batches(train, recipe.batch_size))
    pair = copy.deepcopy(learner.pair).cpu()
    measures, representation = _judge_pair(pair, train, test)
    if isinstance(pair, VISimSiam):
        noise, occlusion = (_degradation(pair, test, degrade) for degrade in (add_noise, occlude))
        measures = replace(measures, spearman_noise=noise, spearman_occlusion=occlusion)
    return Trained(pair, _with_cosine(watch.history, readable), measures, representation)


def _loss_as_cosine(pair: MultiViewPair, name: str, value: float) -> tuple[str, float]:
    """SimSiam's loss as the mean cosine between prediction and target; any other metric as it is.

    With two views and a constant κ the loss is −2(κ·cosine + log C(κ)), C9. Its large constant would hide the cosine.
    """
    if name != "loss" or not isinstance(pair, SimSiam):
        return name, value
    views, kappa = 2, cast(Tensor, pair.model.predictor.concentration).cpu()
    return "cosine", -(value / views + float(von_mises_fisher_log_normalizer(pair.dim, kappa))) / float(kappa)


def _with_cosine(history: History, readable: Callable[[str, float], tuple[str, float]]) -> History:
    return {
        readable(name, 0.0)[0]: [(epoch, readable(name, value)[1]) for epoch, value in series]
        for name, series in history.items()
    }


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


def scaled_softplus(raw: Tensor, dim: int) -> Tensor:
    """κ = (d − 1)·softplus(raw): the scale without the slow tail, to measure the effect of the trap at zero."""
    return (dim - 1) * softplus(raw)


@dataclass(frozen=True)
class DigitsRun(Run):
    """One training of the sweep.

    Attributes:
        label: Of its row.
        recipe: How it is trained.
        seed: Of weights, order and views.
        tune: Whether it is judged on a part of the training images; then the test images play no part.
        out: Folder of the sweep.
    """

    label: str
    recipe: Recipe
    seed: int
    tune: bool
    out: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What the training depends on, as plain JSON."""
        pair = self.recipe.pair
        made = {"pair": pair.func.__name__, **pair.keywords} if isinstance(pair, partial) else {"pair": pair.__name__}
        named = {name: getattr(value, "__name__", value) for name, value in {**vars(self.recipe), **made}.items()}
        return {"label": self.label, **named, "epochs": self.epochs, "seed": self.seed, "held_out_of_train": self.tune}


def sweep(seeds: int, epochs: int, out: Path, *, tune: bool = False, ablate: bool = False) -> Study:
    """The trainings to do.

    Args:
        seeds: How many.
        epochs: Of each.
        out: Folder of the sweep.
        tune: Compare learning rates.
        ablate: Train VI-SimSiam without the pieces of its recipe, one at a time.
    """
    simsiam, vi = RECIPES.values()
    scaled = partial(VISimSiam, concentration_map=scaled_softplus)
    recipes = dict(RECIPES)
    if tune:
        recipes = {
            f"{method}, learning rate {rate}": replace(recipe, learning_rate=rate)
            for method, recipe in RECIPES.items()
            for rate in LEARNING_RATES
        }
    if ablate:
        recipes = {
            "as the quickstart": vi,
            "κ = (d−1)·softplus(raw)": replace(vi, pair=scaled),
            "κ = softplus(raw)": replace(vi, pair=partial(VISimSiam, concentration_map=plain_softplus)),
            "no gradient clipping": replace(vi, gradient_clip=None),
            "no defects among the views": replace(vi, defects=0.0),
            "defects in half of the views": replace(vi, defects=0.5),
            "the same, κ = (d−1)·softplus(raw)": replace(vi, pair=scaled, defects=0.5),
            "SimSiam, no defects among the views": replace(simsiam, defects=0.0),
        }
    runs = [
        DigitsRun(f"{label}/seed_{seed}", f"{label}, seed {seed}", epochs, label, recipe, seed, tune, out)
        for seed in range(seeds)
        for label, recipe in recipes.items()
    ]
    return Study(runs, (lambda _: runs,), carry_out, finished, lambda result: f"kNN {result['measures']['knn']:.1%}")


def carry_out(run: DigitsRun) -> Result:
    """Train and measure; the result is kept in the run's folder."""
    began = time.monotonic()
    train, test = load()
    if run.tune:
        train, test = hold_out(train, 0.25)  # the test images play no part in choosing a learning rate
    with quiet_lightning(threads=1):
        trained = train_and_measure(run.title, run.recipe, train, test, epochs=run.epochs, seed=run.seed, watched=False)
    seconds = {"all": time.monotonic() - began}
    return keep(
        run.out / run.name, {"settings": run.settings, "measures": asdict(trained.measures), "seconds": seconds}
    )


def finished(run: DigitsRun) -> Result | None:
    """What was measured before; `None` if nothing was.

    Raises:
        CheckpointError: If the folder holds a run of other settings.
    """

    def different(result: Result) -> list[str]:
        pairs = [(name, result["settings"].get(name), value) for name, value in run.settings.items()]
        return [f"{name} {before!r}, now {now!r}" for name, before, now in pairs if before != now]

    return kept(run.out / run.name, different)
