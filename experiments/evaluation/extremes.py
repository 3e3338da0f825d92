"""What `python -m experiments.figure4` does."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor

from experiments.evaluation.encoding import center_view, displayed, embeddings, no_ranking
from experiments.evaluation.opening import Opener
from experiments.evaluation.uncertainty.observations import FreshViews
from experiments.evaluation.uncertainty.subject import Subject, fresh_generator, random_view
from experiments.figures import concentration_figure, save_figure
from experiments.figures.concentration import extremes
from experiments.images.device_images import StreamedImages
from experiments.pretraining.images import storage_size

_VIEWS = 16  # of each image that is shown: 240 ordered pairs


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

    subject = Subject.of(pretrained.pair, config, options.device)
    source = StreamedImages(images, options.device, storage_size(config), options.threads)
    ends = dict(zip(("lowest", "highest"), extremes(kappa, options.rows * options.columns), strict=True))
    views = {index: pairs_of_views(subject, source, index) for shown in ends.values() for index in shown}

    def image(index: int) -> Tensor:
        return displayed(center_view(images, index, config), config)

    def note(index: int) -> str:
        return f"cosine {views[index].cosine.mean():.2f}"

    figure = concentration_figure(kappa, image, rows=options.rows, columns=options.columns, note=note)
    print(save_figure(figure, options.out / "figure4.png"))
    print(f"How well a random view of an image predicts another (mean cosine, {_VIEWS} views of each image):")
    for name, shown in ends.items():
        cosine = torch.stack([views[index].cosine.mean() for index in shown])
        expected = torch.stack([views[index].expected.mean() for index in shown])
        span = f"{cosine.mean():.2f}, from {cosine.min():.2f} to {cosine.max():.2f}"
        print(f"  the images of {name} κ: {span}; κ of the views expects {expected.mean():.2f}")
    return 0


def pairs_of_views(subject: Subject, source: StreamedImages, index: int) -> FreshViews:
    """What random views of an image predict of its other random views: a row for each ordered pair.

    Args:
        subject: Who looks.
        source: The images.
        index: Number of the image.
    """
    ((canvas, sizes),) = source.canvases([torch.tensor([index])])
    canvas, sizes = (one.expand(_VIEWS, *one.shape[1:]) for one in (canvas, sizes))
    features = random_view(canvas, sizes, subject, fresh_generator(0, index)).features
    first, second = torch.cartesian_prod(torch.arange(_VIEWS), torch.arange(_VIEWS)).T
    other = first != second
    return FreshViews.of(subject.pair, features[first[other]], features[second[other]])
