"""What `python -m experiments.embed` does: with images, or with features that are there already."""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation.embedding_files import COLUMNS, write_columns, write_embeddings
from experiments.evaluation.encoders import describe, load_added
from experiments.evaluation.encoding import center_view, displayed, embeddings, no_ranking
from experiments.evaluation.measures import quantiles
from experiments.evaluation.opening import Opener
from experiments.evaluation.options import require_outside
from experiments.evaluation.view_features import read_columns
from experiments.figures import Tile, contact_sheet_figure, save_figure
from experiments.figures.concentration import extremes, format_concentration
from experiments.images.image_sets import ImageSet, valid_text
from experiments.pretraining.export import Pretrained
from experiments.records.environment import describe_device, device_named, installed_versions
from inference.fitting.checkpointing import replace_file

CONTACT_SHEET = "_contact_sheet.png"


def run(options: Namespace) -> int:
    """Open, embed, write and show; returns the exit status.

    Raises:
        ValueError: If the checkpoint, the images or the device cannot be used, or --out lies among the images.
        OSError: If the result cannot be written.
    """
    if options.features is not None:
        return _apply(options)
    opener = Opener(options)
    pretrained = opener.encoder(options.checkpoint)
    config = pretrained.config
    require_outside(options.folder, options.out)
    # Absolute, so that a folder called digits is that folder and not the set of this name.
    folder = options.folder.absolute()
    images = opener.images(config, "all", folder)
    names = [_name(images, index, folder) for index in range(len(images))]
    print(f"{len(images):,} images through {describe(pretrained)}, on {describe_device(options.device)}")
    concentration: list[Tensor] = []

    def parts() -> Iterator[dict[str, Any]]:
        """The columns; κ, four bytes an image, is also kept, for choosing what to show at the end."""
        for part in embeddings(pretrained, images, batch_size=options.encode_batch, threads=options.threads):
            columns = {name: getattr(part, name).float().cpu() for name in COLUMNS}
            concentration.append(columns["concentration"])
            yield {name: column.numpy() for name, column in columns.items()}

    def write(path: Path) -> None:
        about = {"checkpoint": str(options.checkpoint), "versions": installed_versions(), "config": config.to_dict()}
        write_embeddings(path, options.out.suffix.removeprefix("."), parts(), names, about)

    replace_file(options.out, write)
    print(f"Saved {options.out}")
    _report(pretrained, images, names, torch.cat(concentration), options)
    return 0


def _report(
    pretrained: Pretrained, images: ImageSet, names: Sequence[str], concentration: Tensor, options: Namespace
) -> None:
    """Say how κ is distributed, and show the images at its ends where it ranks them."""
    sheet = options.out.with_name(options.out.stem + CONTACT_SHEET)
    if reason := no_ranking(concentration, pretrained.config):
        sheet.unlink(missing_ok=True)  # of an earlier run: it would pass for this one's
        print(f"No contact sheet: {reason}")
        return
    found = quantiles(concentration)
    print("κ: " + ", ".join(f"{percent} {format_concentration(value)}" for percent, value in found.items()))
    lowest, highest = extremes(concentration, options.shown)

    def tile(index: int) -> Tile:
        shown = displayed(center_view(images, index, pretrained.config), pretrained.config)
        return Tile(shown, float(concentration[index]), names[index])

    title = f"{len(images):,} images of {options.folder}, the middle of each, by {options.checkpoint}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Glyph .* missing from font.*")  # a name in another script: shown as boxes
        save_figure(contact_sheet_figure([*map(tile, lowest)], [*map(tile, highest)], title), sheet)
    print(f"Saved {sheet}: the images of lowest and highest κ")


def _apply(options: Namespace) -> int:
    """Apply a head to features: item, view, κ and ρ(κ) of each row."""
    pair, device = load_added(options.checkpoint)[0], device_named(options.device)
    item, view, vector = read_columns(options.features)
    expert = pair.to(device).expert(torch.from_numpy(vector).to(device))
    found = {name: getattr(expert, name).cpu().numpy() for name in ("concentration", "mean_resultant_length")}
    table, form = {"item": item, "view": view, **found}, options.out.suffix.removeprefix(".")
    replace_file(options.out, lambda path: write_columns(path, form, table))
    print(f"Saved {options.out}: κ and ρ of {len(item):,} rows")
    return 0


def _name(images: ImageSet, index: int, folder: Path) -> str:
    """Path relative to the folder, with slashes."""
    return valid_text(os.path.relpath(images.location(index), folder).replace(os.sep, "/"))
