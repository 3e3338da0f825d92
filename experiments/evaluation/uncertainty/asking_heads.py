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
from torch import Tensor
from tqdm import tqdm

from experiments.evaluation.encoders import Family, HeadConfig, load_added
from experiments.evaluation.opening import Opener
from experiments.evaluation.uncertainty.heads import (
    MAIN_HEADS,
    OTHER_FAMILY,
    WITH_DEFECTS,
    WITHOUT_DEFECTS,
    Head,
    fit_kappa,
    fit_loss_prediction,
    fit_mc_info_nce,
    fit_variant,
    leave_one_out,
    probe_losses,
    told_by,
    variants,
    without_name,
)
from experiments.evaluation.uncertainty.measures import GAP, MEAN_GAP, R_AUROC, measure, measures
from experiments.evaluation.uncertainty.observations import FreshViews, Observations, look_at
from experiments.evaluation.uncertainty.report import AIM, measures_table, networks_table, seeds_table
from experiments.evaluation.uncertainty.rivals import KAPPA, Rivals
from experiments.evaluation.uncertainty.subject import BATCH, Subject, middles
from experiments.evaluation.view_features import KeptFeatures, fast, kept_views
from experiments.images.degradations import DEGRADATIONS
from experiments.images.device_images import DeviceImages
from experiments.images.image_sets import ImageSet
from experiments.records.environment import typed_command
from experiments.records.record import Cell, Record, Table
from inference.judging.calibration import calibration_bins
from inference.judging.uncertainty import correctness_auroc, severity_correlations

SEEN_CLASSES, UNSEEN_CLASSES = 0.70, 0.65
"""What R-AUROC should reach on images of the classes that the head was fitted to, and on others."""
LARGEST_MEAN_GAP, LARGEST_GAP = 0.02, 0.05
"""What calibration should keep to on images like those that the head was fitted to."""

_ITEMS_WITH_DEFECTS = 1000
_STUDY_SEEDS = 2


def run(options: Namespace, given: Sequence[str]) -> int:
    """Fit the heads, look once, measure each, print and save; returns the exit status.

    Args:
        options: What was parsed.
        given: What was typed, for the record.

    Raises:
        ValueError: If the result has no encoder or no features beside it, or the images cannot be used.
        OSError: If the record cannot be written.
    """
    started = time.monotonic()
    opener = Opener(options)
    [path] = options.checkpoints
    pair, config = load_added(path)
    if config is None:
        raise ValueError(f"{path} was fitted to features from a file and has no encoder that could look at images")
    folder = path.with_suffix(".features")
    views, head = kept_views(folder / "train"), HeadConfig(pair.features, pair.dim, pair.hidden, pair.family)
    train = opener.images(config, "train")
    if views.size(1) != len(train):
        raise ValueError(f"{folder} has features of {views.size(1):,} images, {config.data.name} has {len(train):,}")
    backbone = pair.model.encoder.get_submodule("backbone")
    pair.with_encoder(KeptFeatures(fast(backbone), folder / "looks"))
    subject = Subject.of(pair, config, options.device)
    rivals = Rivals.fit(subject, views[0], train, seed=options.seed, two_views=False)
    seeds = tuple(range(options.heads))
    losses = None if rivals.probe is None else probe_losses(views, train.labels)
    fits: list[Any] = [(_main_heads, (views, losses, head, seed), {}) for seed in seeds]
    if options.study:
        some, degraded = _with_defects(views, subject, train, options.threads)
        fits += [(_studied_heads, (views, some, degraded, head, seed), {}) for seed in seeds[:_STUDY_SEEDS]]
    at_a_time = Parallel(n_jobs=options.jobs)  # type: ignore[no-untyped-call]
    fitted: list[Head] = [*chain(*at_a_time(tqdm(fits, desc="heads", unit="seed", disable=None)))]
    heads = [one for one in fitted if one.name in MAIN_HEADS]
    studied = [one for one in fitted if one.name not in MAIN_HEADS]
    print(f"Fitted {len(fitted)} heads in {time.monotonic() - started:.0f} s", flush=True)

    rivals = replace(rivals, heads={one.column: one.certain for one in fitted})
    names = [options.data or config.data.name, *options.foreign]
    looked = {
        Path(name).name: look_at(
            rivals, opener.decoded(config, "val", name), {}, images=options.images, degraded=options.degraded
        )
        for name in names
    }
    first = next(iter(looked))
    others = {name: seen.clean for name, seen in looked.items() if name != first}
    looked[first] = replace(looked[first], foreign=others)
    print(f"Looked at all images in {time.monotonic() - started:.0f} s", flush=True)

    tables: list[Table] = []
    for name, seen in looked.items():
        tables += _judge(name, seen, heads, fitted, options, known=name == first)
    if studied:
        tables += [_study_table(looked, studied), _left_out_table(looked[first], studied)]
    record = Record(
        name=options.name,
        title=f"Is κ an uncertainty? Heads over {config.backbone.name}, frozen",
        command=typed_command("experiments.uncertainty", given),
        configuration={
            "images": options.images,
            "degraded": options.degraded or options.images,
            "resamples": options.resamples,
            "seed": options.seed,
            "views": views.size(0),
            "fitted": views.size(1),
            "head": {"dim": head.dim, "hidden": head.hidden, "family": head.family},
            "degradations": {series.name: [series.unit, list(series.severities)] for series in DEGRADATIONS},
            "encoder": config.to_dict(),
        },
        seeds=seeds,
        tables=tuple(tables),
    )
    for table in tables:
        print(f"\n{table.title}\n\n{table.aligned(2)}\n\n{table.note}")
    print(f"\nSaved {record.save(options.out)}\nDone in {time.monotonic() - started:.0f} s")
    return 0


def _main_heads(views: Tensor, losses: Tensor | None, config: HeadConfig, seed: int) -> list[Head]:
    """Of one seed: this project's, with either family, and its rivals."""
    other: Family = "von_mises_fisher" if config.family == "power_spherical" else "power_spherical"
    found = [
        fit_kappa(KAPPA, views, config, seed),
        fit_kappa(OTHER_FAMILY, views, replace(config, family=other), seed),
        fit_mc_info_nce(views, config, seed),
    ]
    return found if losses is None else [*found, fit_loss_prediction(views, losses, config, seed)]


def _studied_heads(views: Tensor, some: Tensor, degraded: Tensor, config: HeadConfig, seed: int) -> list[Head]:
    """Of one seed: the variants, and those with defects among the views."""
    varied = variants(config, tuple(views.shape)).items()
    found = [fit_variant(name, views, head, seed, settings) for name, (head, settings) in varied]
    return [*found, *leave_one_out(some, degraded, config, seed)]


def _with_defects(views: Tensor, subject: Subject, train: ImageSet, threads: int | None) -> tuple[Tensor, Tensor]:
    """Some of the items' views, and of each a view with each kind of defect."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    some = order[:_ITEMS_WITH_DEFECTS].sort().values
    size = round(1.25 * subject.recipe.size)
    images = DeviceImages.load(train.select(some), subject.device, storage_size=size, threads=threads)
    return views[:, some], _degraded(subject, images)


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
            for one in range(1, len(series)):
                shown[level == one] = series(pixels[level == one], one, seed=int(rows[0]))
            kinds.append(subject.look(shown).features)
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
    """The table of one set, with intervals over images, and the same over seeds."""
    seeds = sorted({head.seed for head in heads})
    members = [told_by(seen, [head for head in heads if head.seed == seed], everyone) for seed in seeds]
    measured = [measure(member, resamples=options.resamples, seed=options.seed) for member in members]
    aims: dict[str, float | None] = {R_AUROC: SEEN_CLASSES, MEAN_GAP: LARGEST_MEAN_GAP, GAP: LARGEST_GAP}
    if not known:  # calibration is promised for images like those of the fit
        aims = {R_AUROC: UNSEEN_CLASSES, MEAN_GAP: None, GAP: None}
    rows = [replace(row, aim=aims.get(row.name, row.aim)) for row in measures(members[0])]
    judged = replace(measures_table(rows, members[0].names, measured), title=f"{name}: κ and its rivals")
    networks = replace(networks_table([f"seed {seed}" for seed in seeds], members), title=f"{name}: the heads")
    return [judged, *([seeds_table(judged, without={AIM})] if len(seeds) > 1 else []), networks]


def _study_table(looked: Mapping[str, Observations], heads: Sequence[Head]) -> Table:
    """What each variant reaches: ranking on every set; calibration, likelihood and severity on the first."""
    values = {head: _reached(looked, head) for head in heads}
    columns = tuple(next(iter(values.values())))
    rows = {
        name: {column: _mean([values[head][column] for head in heads if head.name == name]) for column in columns}
        for name in dict.fromkeys(head.name for head in heads)
    }
    note = (
        f"Means over {len({head.seed for head in heads})} seeds. Each row differs from the first in one thing. The "
        "normalised product has no promise about a single view, and is not calibrated."
    )
    return Table("What decides it", columns, rows, note, "head", 3)


def _reached(looked: Mapping[str, Observations], head: Head) -> dict[str, float]:
    found = {
        f"R-AUROC {name}": correctness_auroc(-seen.clean[head.column], seen.neighbour_is_right)
        for name, seen in looked.items()
        if seen.neighbour_is_right is not None
    }
    seen = next(iter(looked.values()))
    if head.pair is not None and seen.views is not None:
        fresh = FreshViews.of(head.pair, *seen.views)
        bins = calibration_bins(fresh.expected, fresh.cosine, bins=min(10, len(fresh.cosine)))
        found |= {"mean gap": bins.mean_gap, "largest gap": bins.largest_gap, "cosine": float(fresh.cosine.mean())}
    followed = [float(severity_correlations(u[head.column]).mean()) for u in seen.degraded.values()]
    return found | {"U1 mean": fmean(followed)}


def _left_out_table(seen: Observations, heads: Sequence[Head]) -> Table:
    """U1 of each kind by what the head had seen of defects."""

    def followed(kind: str, column: str) -> float:
        return float(severity_correlations(seen.degraded[kind][column]).mean())

    def cell(kind: str, name: str) -> Cell:
        return _mean([followed(kind, head.column) for head in heads if head.name == name])

    rows = {
        kind: {
            WITHOUT_DEFECTS: cell(kind, WITHOUT_DEFECTS),
            "the four other kinds": cell(kind, without_name(kind)),
            WITH_DEFECTS: cell(kind, WITH_DEFECTS),
            "feature norm": Cell(followed(kind, "feature norm")),
        }
        for kind in seen.degraded
    }
    note = (
        f"U1: Spearman correlation with the severity, means over {len({head.seed for head in heads})} seeds. Each "
        "column is what the head had among its views besides the random ones, which are cropped, and slightly blurred, "
        f"in every column. Fitted to {_ITEMS_WITH_DEFECTS:,} images at most; the others above to all."
    )
    columns = tuple(next(iter(rows.values())))
    return Table("A kind of defect left out", columns, rows, note, "tested on", 3)


def _mean(values: Sequence[float]) -> Cell:
    return Cell(fmean(values), each=tuple(values)) if values else Cell()
