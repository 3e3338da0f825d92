"""What `python -m experiments.uncertainty RESULT --heads N` does: many heads, one encoder, one look at each image."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from joblib import Parallel
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from experiments.command_line.parser import require_different_names
from experiments.evaluation.encoders import FrozenEncoder, load_added
from experiments.evaluation.opening import Opener
from experiments.evaluation.options import STUDIES
from experiments.evaluation.report import publish, require_no_other_record
from experiments.evaluation.uncertainty.heads import (
    Fit,
    Head,
    dims,
    fit_kappa,
    leave_one_out,
    rivals_of,
    told_by,
    variants,
)
from experiments.evaluation.uncertainty.measures import (
    ALL_SEVERITIES,
    GAP,
    LEAST_OF_EACH,
    LEAST_OF_MEAN,
    MEAN_GAP,
    R_AUROC,
    binned,
)
from experiments.evaluation.uncertainty.observations import FreshViews, Observations, look_at
from experiments.evaluation.uncertainty.report import AIM, DEGRADED_BY, judge
from experiments.evaluation.uncertainty.rivals import KAPPA, Rivals
from experiments.evaluation.uncertainty.subject import BATCH, Subject, middles
from experiments.evaluation.view_features import KeptFeatures, fast, kept_views, some_of, view_features
from experiments.figures import save_figure
from experiments.figures.accuracies import accuracies_figure
from experiments.images.degradations import DEGRADATIONS
from experiments.images.device_images import DeviceImages
from experiments.images.errors import MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.records.environment import describe_device
from experiments.records.record import Cell, Record, Table
from inference.fitting.checkpointing import digest
from inference.judging.uncertainty import correctness_auroc, severity_correlations

SEEN_CLASSES, UNSEEN_CLASSES = 0.70, 0.65
"""What R-AUROC should reach on images of the classes that the head was fitted to, and on others."""
LARGEST_MEAN_GAP, LARGEST_GAP = 0.02, 0.05
"""What calibration should keep to on images like those that the head was fitted to."""
CROPS = (0.08, 0.2, 0.5)
"""Smallest areas of the views' crops that are studied."""

_SOME = 1000  # images that new features are computed of
_STUDY_SEEDS = 2
_MAIN = "κ and its rivals"
_HELD_OUT = ", held out"  # tells the heads of the choice from those of the variants
_VARIED, _LEFT_OUT, _CHOICE = "What decides it", "A kind of defect left out", "The choice of d"
_NOTES = {
    _VARIED: "Each row differs from the first in one thing; those of fewer images differ from each other in the range "
    "of the crops. Gaps and cosines are of views like those of the first row. The normalised product predicts no "
    "cosine for a single view, and is not calibrated.",
    _LEFT_OUT: "What the heads had among their views besides the random ones, which are cropped, and slightly blurred, "
    f"in every row. Fitted to {_SOME:,} images at most.",
    _CHOICE: "On training images that none of these heads was fitted to. The rule: take the dimension with the largest "
    "last column.",
}
"""Tables of the study, and what they say."""


def run(options: Namespace) -> int:
    """Fit the heads, look once, measure each, print and save; returns the exit status.

    Raises:
        ValueError: If the result has no encoder or no features beside it, the images cannot be used, or there is a
            record of another result.
        OSError: If the record cannot be written.
    """
    started = time.monotonic()
    opener = Opener(options)
    [path] = options.checkpoints
    pair, config = load_added(path)
    if config is None:
        raise ValueError(f"{path} was fitted to features from a file and has no encoder that could look at images")
    names = [options.data or config.data.name, *options.foreign]
    require_different_names("--data and --foreign", names)
    about = {"encoders": [digest(pair.state_dict())], "data": names[0]}
    require_no_other_record(options, about)
    try:
        opener.decoded(config, "val", names[0])
    except MissingSplitError as error:
        raise MissingSplitError(
            f"{error}. --heads needs a set with the parts train and val: divide the images so, as two folders, and "
            "start experiments.add_uncertainty anew"
        ) from error
    asked = {Path(name).name: opener.decoded(config, "val", name) for name in names}  # now: fitting takes long
    folder = path.with_suffix(".features")
    train = opener.images(config, "train")
    views = kept_views(folder / "train", train)
    train, head = some_of(train, views.size(1)), {"dim": pair.dim, "hidden": pair.hidden, "family": pair.family}
    encoder = FrozenEncoder(pair.model.encoder.get_submodule("backbone"), config)
    pair.with_encoder(KeptFeatures(fast(encoder.network), folder / "looks"))
    subject = Subject.of(pair, config, options.device)
    rivals = Rivals.fit(subject, opener.resident(config, train), seed=options.seed, two_views=False)
    main = rivals_of(head, views, None if rivals.probe is None else train.labels, range(options.heads))
    study = _studied(opener, subject, encoder, train, views, head)
    at_a_time = Parallel(n_jobs=options.jobs)  # type: ignore[no-untyped-call]
    heads: dict[str, list[Head]] = {
        table: at_a_time(tqdm(fits, desc=f"heads: {table}", unit="head", disable=None))
        for table, fits in ({_MAIN: main} | study).items()
    }
    fitted = [*chain(*heads.values())]
    print(f"Fitted {len(fitted)} heads in {time.monotonic() - started:.0f} s", flush=True)

    rivals = replace(rivals, heads={one.column: one.certain for one in fitted})

    def look(images: DeviceImages) -> Observations:
        return look_at(rivals, images, {}, images=options.images, degraded=options.degraded)

    looked = {name: look(images) for name, images in asked.items()}
    first = next(iter(looked))
    others = {name: seen.clean for name, seen in looked.items() if name != first}
    looked[first] = replace(looked[first], foreign=others)
    main_heads = heads.pop(_MAIN)
    judged = [_judge(name, seen, main_heads, fitted, options, known=name == first) for name, seen in looked.items()]
    figure = save_figure(rivals_figure([of[0] for of in judged]), options.out / f"{options.name}_rivals.png")
    tables = [*chain(*judged)]
    for title, studied in heads.items():
        seen = looked
        if title == _CHOICE:
            held_out = opener.resident(config, train.select(_divided(len(train))[2]))
            seen = {"held-out training images": look(held_out)}
        tables.append(_study_table(title, seen, studied))
    record = Record(
        name=options.name,
        title=f"Is κ an uncertainty? Heads of d = {pair.dim} over {config.backbone.name}, {views.size(1):,} images",
        command=options.command,
        configuration={
            **about,
            "images": options.images,
            "degraded": options.degraded or options.images,
            "resamples": options.resamples,
            "seed": options.seed,
            "views": views.size(0),
            "fitted": views.size(1),
            "head": head,
            "degradations": DEGRADED_BY,
            "encoder": config.to_dict(),
        },
        seeds=tuple(range(options.heads)),
        tables=tuple(tables),
        device=describe_device(options.device),
        figures=(figure.name,),
    )
    return publish(record, [record.save(options.out), figure], started)


def _studied(
    opener: Opener, subject: Subject, encoder: FrozenEncoder, train: ImageSet, views: Tensor, head: dict[str, Any]
) -> dict[str, list[Fit]]:
    """The heads of each table of the study that was asked for, of each of its seeds."""
    options = opener.options
    study = STUDIES if options.study == [] else options.study or ()
    some, rest, _ = _divided(len(train))
    found: dict[str, list[Fit]] = {}

    def fit(table: str, name: str, features: Tensor, changes: dict[str, Any] | None = None) -> None:
        fits = [(fit_kappa, (name, features, seed), head | (changes or {})) for seed in range(_STUDY_SEEDS)]
        found.setdefault(table, []).extend(fits)

    if "variants" in study:
        for name, changes in variants(head["dim"], tuple(views.shape)).items():
            fit(_VARIED, name, views, changes)
    if "crops" in study:
        for name, features in _cropped(encoder, train.select(some), views[:, some], options).items():
            fit(_VARIED, name, features)
    if "defects" in study:
        degraded = _degraded(subject, opener.resident(encoder.config, train.select(some)))
        for name, features in leave_one_out(views[:, some], degraded).items():
            fit(_LEFT_OUT, name, features)
    if "dimensions" in study:
        for dim in dims(len(rest), views.size(2)):
            fit(_CHOICE, f"d = {dim}{_HELD_OUT}", views[:, rest], {"dim": dim})
    return found


def _divided(images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training images that new features are computed of; those that dimensions are fitted to, and judged on."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0))
    rest, asked = order.tensor_split([images - min(_SOME, images // 4)])
    return order[:_SOME].sort().values, rest.sort().values, asked.sort().values


def _cropped(encoder: FrozenEncoder, images: ImageSet, views: Tensor, options: Namespace) -> dict[str, Tensor]:
    """Features of as many views of some images, for each range of their crops; kept on disk as the others are."""
    folder = options.checkpoints[0].with_suffix(".features")
    own, found = encoder.config.views.global_crop_scale, {}
    for least in sorted({*CROPS, own[0]}):
        features = views
        if least != own[0]:
            config = replace(encoder.config, views=replace(encoder.config.views, global_crop_scale=(least, own[1])))
            place, varied = folder / f"crops_{least:g}", replace(encoder, config=config)
            features = view_features(varied, images, place, views=len(views), options=options)
        found[f"{len(images):,} images, crops from {least:g} of the area"] = features
    return found


def _degraded(subject: Subject, images: DeviceImages) -> Tensor:
    """Features of the middle of each image with each kind of defect, its level drawn; `(kinds, items, features)`."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for rows in torch.arange(len(images)).split(BATCH):
        pixels = middles(images, subject.recipe, rows)
        kinds = []
        for series in DEGRADATIONS:
            level = torch.randint(1, len(series), (len(rows),), generator=generator)
            shown = pixels.clone()
            for one in level.unique().tolist():
                shown[level == one] = series(pixels[level == one], one, seed=int(rows[0]))
            kinds.append(subject.look(shown).features.cpu())
        parts.append(torch.stack(kinds))
    return torch.cat(parts, dim=1)


def _judge(
    name: str,
    seen: Observations,
    heads: Sequence[Head],
    everyone: Sequence[Head],
    options: Namespace,
    *,
    known: bool,
) -> list[Table]:
    """The tables of one set."""
    seeds = sorted({head.seed for head in heads})
    members = [told_by(seen, [head for head in heads if head.seed == seed], everyone) for seed in seeds]
    aims: dict[str, float | None] = {R_AUROC: SEEN_CLASSES, MEAN_GAP: LARGEST_MEAN_GAP, GAP: LARGEST_GAP}
    if not known:  # calibration is promised for images like those of the fit
        aims = {R_AUROC: UNSEEN_CLASSES, MEAN_GAP: None, GAP: None}
    labels = [f"seed {seed}" for seed in seeds]
    return judge(labels, members, options, aims=aims, of=f"{name}: ", networks="the heads")


def rivals_figure(tables: Sequence[Table]) -> Figure:
    """κ beside its rivals: R-AUROC on each set, then U1 on the first; of each the mean, the interval and every seed.

    Args:
        tables: "SET: κ and its rivals", of each set.
    """
    columns = [column for column in tables[0].columns if column != AIM]
    wanted = [(table, R_AUROC, "R-AUROC") for table in tables] + [(tables[0], ALL_SEVERITIES, "U1")]
    panels = {
        f"{short}, {table.title.partition(':')[0]}": {
            column: table.rows[name].get(column, Cell()) for column in columns
        }
        for table, name, short in wanted
        if name in table.rows
    }
    return accuracies_figure(panels, KAPPA, label="mean of the seeds, interval over images")


def _study_table(title: str, looked: Mapping[str, Observations], heads: Sequence[Head]) -> Table:
    """What each head reaches: ranking on every set; calibration and severity on the first."""
    rows = {}
    for name in dict.fromkeys(head.name for head in heads):
        values = [_reached(looked, head) for head in heads if head.name == name]
        each = {column: tuple(of[column] for of in values) for column in values[0]}
        rows[name.removesuffix(_HELD_OUT)] = {column: Cell(fmean(of), each=of) for column, of in each.items()}
    note = (
        f"Means over {_STUDY_SEEDS} seeds. {_NOTES[title]} The last column is the least distance over the aims: "
        f"{SEEN_CLASSES:g} for R-AUROC on {next(iter(looked))}, {LEAST_OF_MEAN:g} for the mean of U1, "
        f"{LEAST_OF_EACH:g} for U1 of each kind."
    )
    return Table(title, tuple(next(iter(rows.values()))), rows, note, "head", 3)


def _reached(looked: Mapping[str, Observations], head: Head) -> dict[str, float]:
    ranked = {
        f"R-AUROC {name}": correctness_auroc(-seen.clean[head.column], seen.neighbour_is_right)
        for name, seen in looked.items()
        if seen.neighbour_is_right is not None
    }
    found, seen = dict(ranked), next(iter(looked.values()))
    if head.pair is not None and seen.views is not None:
        fresh = FreshViews.of(head.pair, *seen.views)
        bins = binned(fresh.expected, fresh.cosine)
        found |= {"mean gap": bins.mean_gap, "largest gap": bins.largest_gap, "cosine": float(fresh.cosine.mean())}
    followed = {f"U1 {kind}": float(severity_correlations(u[head.column]).mean()) for kind, u in seen.degraded.items()}
    mean = fmean(followed.values())
    over = [mean - LEAST_OF_MEAN, min(followed.values()) - LEAST_OF_EACH]
    over += [value - SEEN_CLASSES for value in list(ranked.values())[:1]]
    return found | {"U1 mean": mean, **followed, "over the aims": min(over)}
