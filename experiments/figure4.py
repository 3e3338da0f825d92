"""Draw Fig. 4 for a pretrained encoder: the histogram of κ, and the images of lowest and of highest κ."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.evaluation.evaluated_images import ImagesOptions, add_image_options, existing_path
from experiments.evaluation.uncertainty.subject import BATCH, Subject, middles
from experiments.figures import concentration_figure, save_figure
from experiments.pretraining.export import load_pretrained

_PROGRAM = "python -m experiments.figure4"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandLineParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument("checkpoint", type=existing_path, help="folder of a run, a .ckpt or a .safetensors file")
    add_image_options(parser)
    parser.add_argument("--split", choices=("train", "val", "all"), default="val", help="part of the set")
    parser.add_argument("--rows", type=whole_number(1), default=2, help="rows of images for each of the two")
    parser.add_argument("--columns", type=whole_number(1), default=6, help="images in a row")
    parser.add_argument("--out", type=writable_folder, default="runs/figures", help="folder for figure4.png")
    options = parser.parse_args(arguments)
    try:
        pretrained = load_pretrained(options.checkpoint)
        subject = Subject.of(pretrained.pair, pretrained.config, options.device)
        images = ImagesOptions.of(options).load(pretrained.config, options.split, options.device)
    except (ValueError, OSError) as error:
        return parser.fail(error)
    pixels = middles(images, subject.recipe, torch.arange(len(images)))
    kappa = torch.cat([subject.look(batch).concentration.cpu() for batch in pixels.split(BATCH)])
    if kappa.min() == kappa.max():
        constant = (
            f"κ is {kappa[0].item():g} for every image: {pretrained.config.method.name} has a constant concentration"
        )
        return parser.fail(ValueError(f"{constant}; give a VI-SimSiam that predicts κ"))
    figure = concentration_figure(kappa, pixels, rows=options.rows, columns=options.columns)
    print(save_figure(figure, options.out / "figure4.png"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
