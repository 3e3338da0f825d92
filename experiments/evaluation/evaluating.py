"""What `python -m experiments.evaluate` does."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.command_line.parser import writable_folder
from experiments.evaluation.encoders import describe
from experiments.evaluation.encoding import RandomViews, embeddings
from experiments.evaluation.measures import collect, measure
from experiments.evaluation.opening import Opener
from experiments.evaluation.report import tables
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.errors import MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import EXPORTED, Pretrained
from experiments.pretraining.images import storage_size
from experiments.records.environment import describe_device, installed_versions
from experiments.records.record import aligned_table
from inference.fitting.checkpointing import replace_text
from inference.judging.collapse import has_collapsed
from inference.judging.linear_probe import FeatureSource, ProbeSettings

_TO_FIT_ON = {"images": 2, "classes": 2, "of_each": 2}  # of each class one to fit on and one that chooses a rate


def run(options: Namespace) -> int:
    """Open, encode, measure, print and write; returns the exit status.

    Raises:
        ValueError: If the checkpoint, the images or the device cannot be used.
        ArgumentTypeError: If nothing can be written to the folder of the result.
        OSError: If the result cannot be written.
    """
    started = time.monotonic()
    opener = Opener(options)
    pretrained = opener.encoder(options.checkpoint)
    config = pretrained.config
    name = options.data or config.data.name
    train, held_out = _open(opener, config)
    train.require("linear evaluation", **_TO_FIT_ON)
    out = options.out or _beside(options, name)
    if out.is_dir():
        raise ValueError(f"argument --out: expected a file, got the folder {out}")
    writable_folder(str(out.parent))  # now, not after an hour
    print(f"{describe(pretrained)}: {options.checkpoint}")
    print(
        f"{len(train):,} training and {len(held_out):,} held-out images of {len(train.class_names)} classes, "
        f"{config.views.size}×{config.views.size} pixels, on {describe_device(options.device)}"
    )
    settings = ProbeSettings(options.epochs, options.batch_size, seed=options.seed)
    if options.learning_rates:
        settings = replace(settings, learning_rates=tuple(options.learning_rates))
    views = _views(opener, pretrained, train) if options.views == "augmented" else None
    some = {"batch_size": options.encode_batch, "threads": options.threads}
    seen, new = (
        collect(embeddings(pretrained, part, **some), part.labels, part.name, seed=options.seed)
        for part in (train, held_out)
    )
    found = measure(seen, new, settings, k=options.k, device=options.device, views=views)
    collapsed = has_collapsed(found["train"]["standard_deviation"], found["train"]["effective_rank"])
    content = {
        "command": "python -m experiments.evaluate",
        "checkpoint": str(options.checkpoint),
        "data": {
            "name": name,
            "train": {"images": len(train), "skipped": train.skipped},
            "held_out": {"images": len(held_out), "skipped": held_out.skipped},
            "held_out_fraction": options.hold_out,
            "classes": list(train.class_names),
        },
        "seed": options.seed,
        "views": options.views,
        "probe": asdict(settings),
        "measures": found,
        "collapsed": collapsed,
        "device": describe_device(options.device),
        "versions": installed_versions(),
        "seconds": round(time.monotonic() - started, 1),
        "config": config.to_dict(),
    }
    # Before anything is printed: where the output goes to a program that has ended, that fails.
    replace_text(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print("\n" + "\n\n".join(map(aligned_table, tables(found))) + "\n")
    if settings.tunes:
        print(_about_rates(found["linear"]))
    if collapsed:
        print("COLLAPSED: the outputs are nearly the same for all images; κ and the outputs mean nothing.")
    print(f"Saved {out}")
    return 0


def _open(opener: Opener, config: PretrainConfig) -> tuple[ImageSet, ImageSet]:
    options = opener.options
    if options.hold_out is not None:
        images = opener.images(config, "train")
        images.require("linear evaluation", **_TO_FIT_ON)
        try:
            return images.divided(options.hold_out, options.seed)
        except ValueError as error:
            raise ValueError(f"argument --hold-out: {error}") from error
    try:
        # First, since it is missing more often and is the smaller one to check.
        held_out = opener.images(config, "val")
    except MissingSplitError as error:
        raise MissingSplitError(
            f"{error}; put held-out images there, or hold out a part of the training images with --hold-out 0.2"
        ) from error
    held_out.require("linear evaluation", images=2, classes=1)
    return opener.images(config, "train"), held_out


def _about_rates(linear: dict[str, Any]) -> str:
    rates, best = sorted(map(float, linear["held_out_accuracy"])), linear["learning_rate"]
    text = f"Learning rate {best:g}, the best of {', '.join(f'{rate:g}' for rate in rates)}"
    if best in {rates[0], rates[-1]}:
        text += "; it is the last one on its side, so that others in --learning-rates may be better"
    return text + "."


def _views(opener: Opener, pretrained: Pretrained, train: ImageSet) -> FeatureSource:
    config, options = pretrained.config, opener.options
    images: DeviceImages | StreamedImages
    if config.data.path == "streamed":
        images = StreamedImages(train, options.device, storage_size(config), options.threads)
    else:
        images = opener.resident(config, train)
    return RandomViews(pretrained, images, options.seed)


def _beside(options: Namespace, name: str) -> Path:
    """The file beside the encoder: of `name` the last part alone, which a model's file may have chosen."""
    path: Path = options.checkpoint
    folder = path if path.is_dir() else path.parent
    of = "" if path.is_dir() or path.name == EXPORTED else f"{path.stem}_"  # others may lie in the folder
    kind = "" if options.views == "centre" else f"_{options.views}"
    return folder / f"{of}evaluation_{Path(name).resolve().name or 'images'}{kind}.json"
