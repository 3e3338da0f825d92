"""From a configuration to the objects that it names: pair, objective, target rule, and what takes the steps."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from experiments.pretraining.configuration import PretrainConfig
from inference.fitting.cuda_graphs import compile_networks
from inference.fitting.kl_objective import KLObjective
from inference.fitting.row_rate import LastRowRate
from inference.fitting.schedule import CosineSchedule
from inference.fitting.stepwise import StepwiseLearner
from inference.fitting.targets import ExponentialMovingAverage, StopGradientCopy, TargetRule
from inference.fitting.term_weights import TermWeight, tempered_concentration, unit_pull
from models.backbones import named_backbone
from models.byol import BYOL
from models.power_spherical_simsiam import PowerSphericalSimSiam
from models.simsiam import SimSiam
from models.vi_simsiam import VISimSiam, relative_concentration
from ssl_as_inference.graphical_model import MultiViewPair

_BYOL_HIDDEN = 4096


def build_pair(config: PretrainConfig) -> MultiViewPair:
    """The pair with its initial weights, which depend on `config.seed` alone; torch's generator is left as it was.

    Raises:
        ValueError: If the backbone does not exist or does not take views of the configured sizes, or there is no memory
            for networks as large as asked for.
    """
    try:
        return _pair(config)
    except (RuntimeError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
        sizes = f"method.dim {config.method.dim} and method.hidden {config.method.hidden}"
        raise ValueError(f"cannot make {config.backbone.name} with {sizes}: {reason}") from error


def _pair(config: PretrainConfig) -> MultiViewPair:
    method, views = config.method, config.views
    sizes = [views.size, views.local_size] if views.local_views else [views.size]
    options: dict[str, Any] = {"dim": method.dim, "guide_views": views.global_views, "hidden": method.hidden}
    with torch.random.fork_rng(devices=[]):  # on the CPU, where the networks are made
        torch.manual_seed(config.seed)
        backbone, features = named_backbone(channels=config.data.channels, sizes=sizes, **asdict(config.backbone))
        if not method.predicts_concentration:
            constant = {"simsiam": SimSiam, "byol": BYOL, "vi_simsiam": PowerSphericalSimSiam}[method.name]
            if method.name == "byol" and method.hidden is None:
                options["hidden"] = _BYOL_HIDDEN
            return constant(backbone, features, concentration=method.concentration, **options)
        maps = {"relative": relative_concentration, "softplus": plain_softplus, "scaled_softplus": scaled_softplus}
        options["concentration_map"] = maps[method.concentration_map]
        return VISimSiam(backbone, features, concentration_gradient=method.concentration_gradient, **options)


def plain_softplus(raw: Tensor, dim: int) -> Tensor:  # noqa: ARG001  # every map is called with the dimension
    """κ = softplus(raw), without a scale: the literal reading of the paper, which names no map."""
    return softplus(raw)


def scaled_softplus(raw: Tensor, dim: int) -> Tensor:
    """κ = (d − 1)·softplus(raw): the scale without the slow tail and the bound."""
    return (dim - 1) * softplus(raw)


def build_objective(config: PretrainConfig) -> KLObjective:
    """What is minimised."""
    objective = config.objective
    tempered = partial(tempered_concentration, beta=objective.beta)
    weights: dict[str, TermWeight | None] = {"one": None, "pull": unit_pull, "concentration": tempered}
    return KLObjective(objective.pairs, normalized=objective.normalized, weight=weights[objective.weight])


def build_row_rate(config: PretrainConfig, pair: MultiViewPair) -> LastRowRate | None:
    """Learning rate and weight decay of κ's output row, where they are not those of all."""
    training = config.training
    alike = training.concentration_rate == 1 and training.concentration_decay is None
    if alike or not isinstance(pair, VISimSiam):
        return None
    return LastRowRate(pair.concentration_rows, training.concentration_rate, training.concentration_decay)


def build_target_rule(config: PretrainConfig, steps: int) -> TargetRule:
    """How the guide follows the model in a training of so many steps."""
    if config.method.name != "byol":
        return StopGradientCopy()
    rises = config.method.momentum_schedule == "cosine"
    return ExponentialMovingAverage(config.method.momentum, steps if rises else None)


def build_schedule(config: PretrainConfig, steps: int, steps_per_epoch: int) -> CosineSchedule:
    """Step to learning rate, in a training of so many steps."""
    training = config.training
    warmup = min(round(training.warmup_epochs * steps_per_epoch), steps - 1)
    return CosineSchedule(training.learning_rate, steps, warmup)


def build_learner(
    config: PretrainConfig, pair: MultiViewPair, steps: int, steps_per_epoch: int, *, record: bool
) -> StepwiseLearner:
    """What takes a run's steps, with the networks in the memory format, and compiled, as the engine wants it.

    Args:
        config: Of the run.
        pair: What `build_pair(config)` made.
        steps: Of the whole run.
        steps_per_epoch: Of these.
        record: Whether a GPU records the step.
    """
    training = config.training
    learner = StepwiseLearner(
        pair,
        build_objective(config),
        build_target_rule(config, steps),
        schedule=build_schedule(config, steps, steps_per_epoch),
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        gradient_clip=training.gradient_clip,
        predictor_rate=training.predictor_rate,
        nats_per=config.objective.nats_per,
        over_views=config.objective.over_views,
        row_rate=build_row_rate(config, pair),
        record=record,
    )
    if config.engine.channels_last:
        pair.to(memory_format=torch.channels_last)
    if config.engine.compile:
        compile_networks(pair)  # two sizes of views are two programs, each compiled once
    return learner
