"""Judge a pretrained network on a labelled set of images: linear evaluation as in the paper, and nearest neighbours.

CHECKPOINT is the folder of a run, an exported encoder (.safetensors) or a checkpoint (.ckpt). The backbone stays as it
is. Features of the training images train the classifiers, the held-out images judge them, once: they choose neither
learning rate nor epoch. The command also says whether the outputs have collapsed and how κ is distributed. It prints
tables and writes the numbers, with how they were made, to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.command_line.parser import CommandLineParser, positive_number, whole_number, writable_folder
from experiments.evaluation.encoding import ResidentViews, StreamedViews
from experiments.evaluation.measures import encode, labelled_halves, measure, require_classes
from experiments.evaluation.report import format_measures, record
from experiments.images.device_images import DeviceImages
from experiments.images.errors import ImageSetError, MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.images.opening import open_images
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import Pretrained, load_pretrained
from experiments.records.environment import describe_device, installed_versions
from inference.fitting.checkpointing import CheckpointError, replace_file
from inference.judging.linear_probe import FeatureSource, ProbeResult, ProbeSettings

_PAPERS = ProbeSettings()


def parser() -> CommandLineParser:
    """Options of the command."""
    made = CommandLineParser(prog="python -m experiments.evaluate", description=__doc__)
    made.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="folder of a run, .safetensors or .ckpt")
    made.add_argument(
        "--data", default=argparse.SUPPRESS, help="name of a set or a folder (default: what it was trained on)"
    )
    made.add_argument(
        "--root", default=argparse.SUPPRESS, help="folder of the named sets (default: as in the training)"
    )
    made.add_argument("--download", action="store_true", help="fetch a named set that is missing")
    made.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    made.add_argument(
        "--hold-out",
        type=_fraction,
        default=argparse.SUPPRESS,
        metavar="FRACTION",
        help="of the images of each class, for a set without a validation part (default: refuse such a set)",
    )
    made.add_argument(
        "--views",
        choices=("centre", "augmented"),
        default="centre",
        help="what the linear classifier is trained on: the middle of each image, encoded once; or, as in SimSiam, "
        "random crops and flips, encoded anew in every epoch",
    )
    made.add_argument("--epochs", type=whole_number(1), default=_PAPERS.epochs, help="of the linear classifier")
    made.add_argument("--batch-size", type=whole_number(1), default=_PAPERS.batch_size, help="of the linear classifier")
    made.add_argument(
        "--learning-rates",
        type=positive_number,
        nargs="+",
        default=list(_PAPERS.learning_rates),
        metavar="RATE",
        help="of LARS; the best on a fifth of the training images is taken",
    )
    made.add_argument("--k", type=whole_number(1), default=20, help="neighbours that vote")
    made.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="of all that is random here")
    add_machine_options(made)
    made.add_argument(
        "--out", type=Path, default=argparse.SUPPRESS, help="JSON file (default: evaluation_….json in the run's folder)"
    )
    return made


def add_machine_options(made: CommandLineParser) -> None:
    """Options about the machine, the same for all commands that apply a network."""
    made.add_argument(
        "--device", type=device, default="auto", help="cpu, cuda, cuda:1, …; auto for a GPU if there is one"
    )
    made.add_argument("--encode-batch", type=whole_number(1), default=256, help="images that are encoded at a time")
    made.add_argument(
        "--threads",
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help="that decode images (default: one a processor)",
    )


def device(text: str) -> torch.device:
    """Check that a device is there; a type for `add_argument`."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(text)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"expected a device that is there, such as cpu, got {text!r}") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    if len(set(options.learning_rates)) < len(options.learning_rates):
        made.error(f"argument --learning-rates: expected different rates, got {options.learning_rates}")
    try:
        return _run(options)
    except (CheckpointError, ImageSetError, OSError) as error:
        return made.fail(error)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    pretrained = load_pretrained(options.checkpoint)
    config = pretrained.config
    train, held_out = _open(options, config)
    require_classes(train)
    out = _out(options, getattr(options, "data", config.data.name))
    try:
        writable_folder(str(out.parent))  # now, not after an hour
    except argparse.ArgumentTypeError as error:
        raise OSError(error) from error
    print(f"{config.method.name}, {config.backbone.name}, pretrained on {config.data.name}: {options.checkpoint}")
    print(
        f"{len(train):,} training and {len(held_out):,} held-out images of {len(train.class_names)} classes, "
        f"{config.views.size}×{config.views.size} pixels, on {describe_device(options.device)}"
    )
    pretrained.pair.to(options.device)
    settings = ProbeSettings(options.epochs, options.batch_size, tuple(options.learning_rates), seed=options.seed)
    views = _views(options, pretrained, train)
    threads = getattr(options, "threads", None)
    seen, new = (
        encode(pretrained, part, batch_size=options.encode_batch, threads=threads, seed=options.seed)
        for part in (train, held_out)
    )
    found = measure(seen, new, settings, k=options.k, device=options.device, views=views)
    content = {
        "command": "python -m experiments.evaluate",
        "checkpoint": str(options.checkpoint),
        "data": {
            "name": getattr(options, "data", config.data.name),
            "train": {"images": len(train), "skipped": train.skipped},
            "held_out": {"images": len(held_out), "skipped": held_out.skipped},
            "held_out_fraction": getattr(options, "hold_out", None),
            "classes": list(train.class_names),
        },
        "seed": options.seed,
        "views": options.views,
        "probe": asdict(settings),
        "measures": record(found),
        "device": describe_device(options.device),
        "versions": installed_versions(),
        "seconds": round(time.monotonic() - started, 1),
        "config": config.to_dict(),
    }
    # Before anything is printed: where the output goes to a program that has ended, printing fails.
    replace_file(out, lambda path: _write(path, json.dumps(content, indent=1, ensure_ascii=False)))
    print(f"\n{format_measures(found)}\n")
    if settings.tunes:
        print(_about_rates(found.linear))
    print(f"Saved {out}")
    return 0


def _open(options: argparse.Namespace, config: PretrainConfig) -> tuple[ImageSet, ImageSet]:
    name, root = getattr(options, "data", config.data.name), getattr(options, "root", config.data.root)
    how: dict[str, Any] = {
        "download": options.download,
        "skip_broken": options.skip_broken,
        "cache_folder": None if config.data.cache is None else Path(config.data.cache),
        "threads": getattr(options, "threads", None),
    }
    if hasattr(options, "hold_out"):
        return labelled_halves(open_images(name, root, "train", **how), options.hold_out, options.seed)
    try:
        # First, since it is missing more often and is the smaller one to check.
        held_out = open_images(name, root, "val", **how)
    except MissingSplitError as error:
        raise MissingSplitError(
            f"{error}; put held-out images there, or hold out a part of the training images with --hold-out 0.2"
        ) from error
    held_out.require("linear evaluation", images=2, classes=1)
    return open_images(name, root, "train", **how), held_out


def _about_rates(linear: ProbeResult) -> str:
    rates = sorted(linear.held_out_accuracy)
    text = f"Learning rate {linear.learning_rate:g}, the best of {', '.join(f'{rate:g}' for rate in rates)}"
    if linear.learning_rate in {rates[0], rates[-1]}:
        text += "; it is the last one on its side, so that others in --learning-rates may be better"
    return text + "."


def _views(options: argparse.Namespace, pretrained: Pretrained, train: ImageSet) -> FeatureSource | None:
    if options.views == "centre":
        return None
    data = pretrained.config.data
    threads = getattr(options, "threads", None)
    if data.path == "streamed" or train.channels != data.channels:  # on the device nothing turns colours into grey
        return StreamedViews(pretrained, train, options.seed, threads)
    largest = data.storage_size or round(1.25 * pretrained.config.views.size)
    resident = DeviceImages.load(train, options.device, storage_size=largest, threads=threads)
    return ResidentViews(pretrained, resident, options.seed)


def _out(options: argparse.Namespace, name: str) -> Path:
    if hasattr(options, "out"):
        return Path(options.out)
    folder = options.checkpoint if options.checkpoint.is_dir() else options.checkpoint.parent
    kind = "" if options.views == "centre" else f"_{options.views}"
    return Path(folder / f"evaluation_{Path(name).resolve().name or 'images'}{kind}.json")


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _fraction(text: str) -> float:
    value = positive_number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
