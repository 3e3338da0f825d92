"""What `python -m experiments.add_uncertainty` does."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from experiments.evaluation.encoders import FrozenEncoder, added_config, open_frozen_encoder, save_added
from experiments.evaluation.opening import Opener
from experiments.evaluation.options import require_outside
from experiments.evaluation.report import publish
from experiments.evaluation.uncertainty.measures import BY_CHANCE, binned, likelihood_gain
from experiments.evaluation.uncertainty.observations import FreshViews
from experiments.evaluation.uncertainty.subject import Subject, middles
from experiments.evaluation.view_features import read_features, some_of, view_features
from experiments.figures import concentration_figure, save_figure
from experiments.images.degradations import DEGRADATIONS
from experiments.images.errors import MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.pretraining.configuration import PretrainConfig
from experiments.records.environment import describe_device
from experiments.records.record import Cell, Record, Table
from inference.fitting.features import enough_epochs, fit_to_features
from inference.judging.calibration import gaps_by_chance
from inference.judging.resampling import bootstrap
from models.frozen_encoder import FrozenEncoderPair, check_sizes

_RESAMPLES = 200
_SHOWN = 10  # items of each end, where there are no images to show


@dataclass(frozen=True)
class _Given:
    """Features to fit and to judge, and what they are of: images through an encoder, or items with names."""

    fitted: Tensor
    held_out: Tensor
    names: Sequence[str] = ()
    encoder: FrozenEncoder | None = None
    images: ImageSet | None = None


def run(options: Namespace) -> int:
    """Compute features, fit, judge, print and save; returns the exit status.

    Raises:
        ValueError: If the encoder, the images or the features cannot be used, or --out lies among the images.
        OSError: If something cannot be written.
    """
    opener, started = Opener(options), time.monotonic()
    found = _from_file(options) if options.folder is None else _from_images(opener)
    fitted, fit_started = found.fitted.to(options.device), time.monotonic()
    epochs = options.epochs or enough_epochs(fitted.size(1))
    head = {"dim": options.dim, "hidden": options.hidden, "family": options.family}
    pair = FrozenEncoderPair.of(fitted, **head, seed=options.seed)
    settings = {"epochs": epochs, "learning_rate": options.learning_rate}
    with tqdm(total=epochs, desc="fitting", unit="epoch", disable=None) as bar:
        fit_to_features(pair, fitted, seed=options.seed, after_epoch=bar.update, **settings)
    print(f"Fitted to {fitted.size(0)} views of {fitted.size(1):,} items in {time.monotonic() - fit_started:.0f} s")
    tables = _judge(pair, found.held_out.to(options.device), options)
    figures: list[Path] = []
    config: PretrainConfig | None = None
    if found.encoder is not None and found.images is not None:
        config = added_config(found.encoder.config, pair)
        pair.with_encoder(found.encoder.network)
        more, figures = _show(Subject.of(pair, config, options.device), config, found.images, opener)
        tables.append(more)
    else:
        tables.append(_extremes(pair, found))
    save_added(pair, config, options.out)
    record = Record(
        name=options.out.stem,
        title=f"An uncertainty for {options.encoder or options.features}",
        command=options.command,
        configuration={
            "fitted": fitted.size(1),
            "held_out": found.held_out.size(1),
            "views": fitted.size(0),
            "features": pair.features,
            **head,
            **settings,
            "encoder": None if config is None else config.to_dict(),
        },
        seeds=(options.seed,),
        tables=tuple(tables),
        figures=tuple(path.name for path in figures),
        device=describe_device(options.device),
        notes=() if found.encoder is None else found.encoder.notes,
    )
    return publish(record, [options.out, *record.save_page(options.out.parent), *figures], started)


def _from_images(opener: Opener) -> _Given:
    options = opener.options
    require_outside(options.folder, options.out)
    source = options.folder.absolute()
    encoder = open_frozen_encoder(options.encoder, options.weights, size=options.size, data=str(options.folder))
    train = opener.images(encoder.config, "train", source)
    try:
        held_out = opener.images(encoder.config, "val", source)
    except MissingSplitError:
        train.require("an uncertainty with held-out images", images=2)
        first, second = _split(len(train), options)
        train, held_out = train.select(first), train.select(second)
    train, held_out = some_of(train, options.images), some_of(held_out, options.images)
    check_sizes(encoder.width, len(train), options.dim)  # now, not after an hour
    print(f"{len(train):,} images to fit to, {len(held_out):,} to judge on, {options.views} views of each")
    folder = options.out.with_suffix(".features")
    fitted, judged = (
        view_features(encoder, images, folder / part, views=options.views, options=options)
        for part, images in (("train", train), ("held_out", held_out))
    )
    return _Given(fitted, judged, encoder=encoder, images=held_out)


def _from_file(options: Namespace) -> _Given:
    features, names = read_features(options.features)
    if len(names) < 2:
        raise ValueError(f"{options.features} must have at least 2 items, one to hold out, got {len(names)}")
    first, second = _split(len(names), options)
    return _Given(features[:, first], features[:, second], [names[index] for index in second.tolist()])


def _split(count: int, options: Namespace) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(options.seed))
    held_out = min(max(1, round(options.hold_out * count)), count - 1)
    return order[held_out:].sort().values, order[:held_out].sort().values


def _judge(pair: FrozenEncoderPair, features: Tensor, options: Namespace) -> list[Table]:
    """Gain and calibration: each item's first view predicts its second."""
    fresh = FreshViews.of(pair, features[0], features[1])
    estimate = bootstrap(
        likelihood_gain(fresh), fresh.concentration, fresh.cosine, resamples=_RESAMPLES, seed=options.seed
    )
    bins = binned(fresh.expected, fresh.cosine)
    columns = ("predicted ρ", "seen", "items")
    rows = {
        f"{number + 1}": dict(zip(columns, (Cell(float(p)), Cell(float(o)), Cell(text=f"{int(n):,}")), strict=True))
        for number, (p, o, n) in enumerate(zip(bins.predicted, bins.observed, bins.count, strict=True))
    }
    value = Cell(estimate.value, estimate.low, estimate.high)
    largest, mean = gaps_by_chance(fresh.expected, fresh.cosine)
    gaps = {"mean gap of ρ": bins.mean_gap, f"mean gap of ρ{BY_CHANCE}": mean}
    gaps |= {"largest gap of ρ": bins.largest_gap, f"largest gap of ρ{BY_CHANCE}": largest}
    summary = {"nats per dimension gained over one κ for all": {"held-out items": value}}
    summary |= {name: {"held-out items": Cell(None if math.isnan(gap) else gap)} for name, gap in gaps.items()}
    note = (
        "One view of each held-out item predicts another view. In brackets the 95 % bootstrap interval over "
        "items; the one κ is the best on these very items, which favours it."
    )
    return [
        Table("What κ is worth", ("held-out items",), summary, note, digits=4),
        Table("Calibration", columns, rows, "Tenths of the items, in the order of κ.", "tenth", 3),
    ]


def _show(subject: Subject, config: PretrainConfig, images: ImageSet, opener: Opener) -> tuple[Table, list[Path]]:
    """How κ falls under degradations, and the figure of lowest and highest κ."""
    options = opener.options
    chosen = some_of(images, options.judged)
    some = middles(opener.resident(config, chosen), subject.recipe, torch.arange(len(chosen)))

    def kappa(of: Tensor) -> Tensor:
        return torch.cat([subject.look(batch).concentration.double().cpu() for batch in of.split(options.encode_batch)])

    clean = kappa(some)
    path = save_figure(concentration_figure(clean, some.__getitem__), options.out.with_suffix(".png"))
    levels = max(len(series) for series in DEGRADATIONS)
    rows = {}
    for series in DEGRADATIONS:
        relative = [kappa(series(some, level, seed=options.seed)) / clean for level in range(1, len(series))]
        rows[series.name] = {f"level {n}": Cell(float(one.median())) for n, one in enumerate(relative, start=1)}
    note = f"Median over {len(some):,} held-out images of κ divided by the image's own κ as it is."
    return Table("κ under degradation", tuple(f"level {n}" for n in range(1, levels)), rows, note, "", 2), [path]


def _extremes(pair: FrozenEncoderPair, found: _Given) -> Table:
    kappa = pair.expert(found.held_out[0].to(next(pair.parameters()).device)).concentration.cpu()
    order = kappa.argsort(stable=True).tolist()
    shown = dict.fromkeys([*order[:_SHOWN], *order[-_SHOWN:]])
    rows = {found.names[index]: {"κ": Cell(float(kappa[index]))} for index in shown}
    return Table("Items of lowest and highest κ", ("κ",), rows, "By the first view of each.", "item", 1)
