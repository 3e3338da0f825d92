"""What `python -m experiments.figure4` does."""

from __future__ import annotations

from argparse import Namespace

import torch

from experiments.evaluation.opening import Opener
from experiments.evaluation.uncertainty.subject import Subject, middles
from experiments.figures import concentration_figure, save_figure


def run(options: Namespace) -> int:
    """Open, look and draw; returns the exit status.

    Raises:
        ValueError: If the checkpoint, the images or the device cannot be used, or κ is constant.
        OSError: If the figure cannot be written.
    """
    opener = Opener(options)
    pretrained = opener.encoder(options.checkpoint)
    subject = Subject.of(pretrained.pair, pretrained.config, options.device)
    images = opener.decoded(pretrained.config, options.split)
    pixels = middles(images, subject.recipe, torch.arange(len(images)))
    kappa = torch.cat([subject.look(batch).concentration.cpu() for batch in pixels.split(options.encode_batch)])
    if kappa.min() == kappa.max():
        raise ValueError(
            f"κ is {kappa[0].item():g} for every image: {pretrained.config.method.name} has a constant concentration; "
            "give a VI-SimSiam that predicts κ"
        )
    figure = concentration_figure(kappa, pixels, rows=options.rows, columns=options.columns)
    print(save_figure(figure, options.out / "figure4.png"))
    return 0
