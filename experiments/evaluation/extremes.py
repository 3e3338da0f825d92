"""What `python -m experiments.figure4` does."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor

from experiments.evaluation.encoding import center_view, displayed, embeddings, no_ranking
from experiments.evaluation.opening import Opener
from experiments.figures import concentration_figure, save_figure


def run(options: Namespace) -> int:
    """Open, look and draw; returns the exit status.

    Raises:
        ValueError: If the checkpoint, the images or the device cannot be used, or κ ranks no images.
        OSError: If the figure cannot be written.
    """
    opener = Opener(options)
    pretrained = opener.encoder(options.checkpoint)
    config = pretrained.config
    images = opener.images(config, options.split)
    seen = embeddings(pretrained, images, batch_size=options.encode_batch, threads=options.threads)
    kappa = torch.cat([part.concentration.float().cpu() for part in seen])
    if reason := no_ranking(kappa, config):
        raise ValueError(f"no figure: {reason}")

    def image(index: int) -> Tensor:
        return displayed(center_view(images, index, config), config)

    figure = concentration_figure(kappa, image, rows=options.rows, columns=options.columns)
    print(save_figure(figure, options.out / "figure4.png"))
    return 0
