"""Embed every image of a folder with a pretrained network: features, mean direction μ and concentration κ in one file.

CHECKPOINT is the folder of a run, an exported encoder (.safetensors) or a checkpoint (.ckpt). FOLDER may hold images in
any folders. The ending of --out chooses the format, .parquet or .npz; its columns are the file's name relative to
FOLDER, the features (output of the backbone, for use downstream), the mean direction (a unit vector) and κ, which is
low where the network is uncertain. Images are read and written as they come, so that memory does not grow with their
number, and the file appears under its name only when it is complete. Beside it comes a picture of the images with the
lowest and the highest κ, as the network sees them: their middle.
"""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from experiments.command_line.parser import CommandLineParser, whole_number
from experiments.evaluate import add_machine_options
from experiments.evaluation.embedding_files import FORMATS, Rows, write_embeddings
from experiments.evaluation.encoding import center_view, displayed, embeddings
from experiments.evaluation.measures import quantiles
from experiments.figures import Tile, contact_sheet_figure
from experiments.figures.concentration import format_concentration
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ImageSet
from experiments.images.opening import open_images
from experiments.pretraining.export import Pretrained, load_pretrained
from experiments.records.environment import describe_device, installed_versions
from inference.fitting.checkpointing import CheckpointError, replace_file

CONTACT_SHEET = "_contact_sheet.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog="python -m experiments.embed", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="folder of a run, .safetensors or .ckpt")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of images")
    parser.add_argument("--out", type=Path, required=True, help="file to write: ….parquet or ….npz")
    parser.add_argument("--shown", type=whole_number(1), default=24, help="images of each end on the contact sheet")
    parser.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    if options.out.suffix.removeprefix(".") not in FORMATS:
        endings = " or ".join(f".{form}" for form in FORMATS)
        parser.error(f"argument --out: expected a file that ends in {endings}, got {str(options.out)!r}")
    try:
        return _run(options)
    except (CheckpointError, ImageSetError, OSError) as error:
        return parser.fail(error)


def _run(options: Namespace) -> int:
    pretrained = load_pretrained(options.checkpoint)
    threads = getattr(options, "threads", None)
    # Absolute, so that a folder called digits is that folder and not the set of this name.
    folder = options.folder.absolute()
    images = open_images(folder, folder, "all", skip_broken=options.skip_broken, threads=threads)
    names = [_name(images, index, folder) for index in range(len(images))]
    config = pretrained.config
    print(
        f"{len(images):,} images through {config.method.name}, {config.backbone.name}, pretrained on "
        f"{config.data.name}, on {describe_device(options.device)}"
    )
    pretrained.pair.to(options.device)
    concentration: list[Tensor] = []

    def write(path: Path) -> None:
        about = {"checkpoint": str(options.checkpoint), "versions": installed_versions(), "config": config.to_dict()}
        rows = _rows(pretrained, images, names, concentration, options.encode_batch, threads)
        write_embeddings(path, options.out.suffix.removeprefix("."), rows, names, about)

    replace_file(options.out, write)
    print(f"Saved {options.out}")
    _report(pretrained, images, names, torch.cat(concentration), options)
    return 0


def _rows(
    pretrained: Pretrained,
    images: ImageSet,
    names: Sequence[str],
    concentration: list[Tensor],
    batch_size: int,
    threads: int | None,
) -> Iterator[Rows]:
    """Embed the images; κ, four bytes an image, is also kept, for choosing what to show at the end."""
    done = 0
    for part in embeddings(pretrained, images, batch_size=batch_size, threads=threads, description="embedding"):
        features, direction, kappa = (
            column.float().cpu() for column in (part.features, part.mean_direction, part.concentration)
        )
        if not (features.isfinite().all() and direction.isfinite().all() and kappa.isfinite().all()):
            raise CheckpointError(f"the network gives NaN or infinity, first near {names[done]}: its training diverged")
        concentration.append(kappa)
        yield Rows(names[done : done + len(kappa)], features.numpy(), direction.numpy(), kappa.numpy())
        done += len(kappa)


def _report(
    pretrained: Pretrained, images: ImageSet, names: Sequence[str], concentration: Tensor, options: Namespace
) -> None:
    """Say how κ is distributed, and show the images at its ends where it ranks them."""
    sheet = options.out.with_name(options.out.stem + CONTACT_SHEET)
    if concentration.min() == concentration.max():
        sheet.unlink(missing_ok=True)  # of an earlier run: it would pass for this one's
        shown = format_concentration(float(concentration[0]))
        reason = "there is one image" if len(images) == 1 else "κ is the same for all images"
        if not pretrained.config.method.predicts_concentration:
            reason = f"κ is a constant of {pretrained.config.method.name}"
        print(
            f"No contact sheet: {reason} (κ = {shown}), so there is no ranking. VI-SimSiam predicts κ, unless "
            "its concentration_map is constant."
        )
        return
    found = quantiles(concentration)
    print("κ: " + ", ".join(f"{percent} {format_concentration(value)}" for percent, value in found.items()))
    order = concentration.argsort(stable=True).tolist()
    lowest = order[: min(options.shown, (len(order) + 1) // 2)]
    highest = order[::-1][: min(options.shown, len(order) // 2)]
    least, most = (
        [
            Tile(
                displayed(center_view(images, index, pretrained.config), pretrained.config),
                float(concentration[index]),
                names[index],
            )
            for index in group
        ]
        for group in (lowest, highest)
    )
    figure = contact_sheet_figure(
        least, most, f"{len(images):,} images of {options.folder}, the middle of each, by {options.checkpoint}"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Glyph .* missing from font.*")  # a name in another script: shown as boxes

        def save(path: Path) -> None:
            figure.savefig(path, dpi=150, facecolor="white", format="png")

        replace_file(sheet, save)
    print(f"Saved {sheet}: the images of lowest and highest κ")


def _name(images: ImageSet, index: int, folder: Path) -> str:
    """Path relative to the folder, with slashes, as valid text."""
    name = os.path.relpath(images.location(index), folder).replace(os.sep, "/")
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


if __name__ == "__main__":
    raise SystemExit(main())
