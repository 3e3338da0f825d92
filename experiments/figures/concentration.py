"""Fig. 4 of arXiv:2203.11437v1: which images the encoder is certain and uncertain about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from experiments.figures.style import HIGH, LOW, MUTED, styled

_BINS = 40
_DECADES = 30.0  # ratio of largest to smallest κ from which a linear axis would hide the small ones
_SMALLEST_SHOWN = 1e-6  # κ below this fraction of the largest, 0 among them, is counted at the left end of a log axis
_CHANNELS = (1, 3)


@styled
def concentration_figure(
    concentration: Tensor,
    image: Callable[[int], Tensor],
    *,
    rows: int = 2,
    columns: int = 6,
    note: Callable[[int], str] | None = None,
) -> Figure:
    """Draw the histogram of κ, and beside it the images of lowest and highest κ: Fig. 4 of arXiv:2203.11437v1.

    The images are in the order of `extremes`, κ written under each. The histogram is coloured where the shown images
    lie; its axis has a logarithmic scale if the largest κ is more than 30 times the smallest. With fewer than 2 ×
    `rows` × `columns` images none is shown twice, and slots stay empty.

    Args:
        concentration: κ ≥ 0, shape `(images,)`.
        image: The image of a number, shape `(channels, height, width)` with 1 (grey) or 3 (red, green, blue) channels;
            values outside [0, 1] are clipped. It is asked for the images that are shown alone.
        rows: Rows of images for each of the lowest and the highest κ.
        columns: Images in a row.
        note: What is written below κ, for the image of a number.

    Raises:
        ValueError: If a shape does not fit, κ is negative or not finite, or `rows` or `columns` is less than 1.
    """
    _check(concentration)
    lowest, highest = extremes(concentration.detach(), rows * columns)
    kappa = concentration.detach().double().cpu()

    height = 0.8 + (2.25 if note is None else 2.7) * rows
    figure = Figure(figsize=(4.2 + 0.95 * columns, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[4.0, 0.95 * columns], squeeze=False)[0]
    _draw_histogram(left.subplots(), kappa, lowest, highest)
    halves = right.subfigures(2, 1, squeeze=False)[:, 0]
    for half, shown, name, colour in zip(halves, (lowest, highest), ("lowest", "highest"), (LOW, HIGH), strict=True):
        texts = [format_concentration(value) for value in kappa[shown].tolist()]
        if note is not None:
            texts = [f"{text}\n{note(index)}" for text, index in zip(texts, shown, strict=True)]
        draw_images(half, rf"{name} $\kappa$", colour, map(image, shown), texts, (rows, columns))
    return figure


def extremes(concentration: Tensor, most: int) -> tuple[list[int], list[int]]:
    """The images of lowest and of highest κ, the most extreme ones first; none is among both.

    Args:
        concentration: κ, shape `(images,)`.
        most: Images at each end.

    Example:
        >>> extremes(torch.tensor([3.0, 1.0, 2.0]), 2)
        ([1, 2], [0])
    """
    order = concentration.argsort(stable=True).tolist()
    return order[: min(most, (len(order) + 1) // 2)], order[::-1][: min(most, len(order) // 2)]


def format_concentration(kappa: float) -> str:
    """Write κ with three digits, or as a whole number from 1,000 on.

    Example:
        >>> [format_concentration(kappa) for kappa in (0.0, 0.01234, 1.5, 128.4, 23456.7)]
        ['0', '0.0123', '1.50', '128', '23,457']
    """
    if kappa >= 999.5:
        return f"{kappa:,.0f}"
    return f"{kappa:#.3g}".rstrip(".") if kappa else "0"


def draw_images(
    part: SubFigure, heading: str, colour: str, images: Iterable[Tensor], texts: Iterable[str], shape: tuple[int, int]
) -> list[Axes]:
    """Draw images in rows below a heading, with a text under each.

    Args:
        part: Of a figure.
        heading: Above the images.
        colour: Of the heading.
        images: Each of shape `(1 or 3, height, width)`; values outside [0, 1] are clipped.
        texts: One an image.
        shape: Rows and columns; places that are left over stay empty.

    Returns:
        The places, row by row.

    Raises:
        ValueError: If an image has another shape.
    """
    part.suptitle(heading, color=colour, fontsize=12, x=0.02, horizontalalignment="left")
    places = part.subplots(*shape, squeeze=False).ravel().tolist()
    for axes in places:
        axes.set_axis_off()
    for axes, image, text in zip(places, images, texts, strict=False):
        if image.dim() != 3 or len(image) not in _CHANNELS:
            raise ValueError(f"an image must have shape (1 or 3, height, width), got {tuple(image.shape)}")
        pixels = image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu()
        axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)  # takes one channel or three
        write_below(axes, text, 3)
    return places


def write_below(axes: Axes, text: str, points: float, **style: Any) -> None:
    """Write a text so many points below the middle of the axes."""
    place: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "top"}
    axes.annotate(text, (0.5, 0), (0, -points), **place, **style)


def _draw_histogram(axes: Axes, kappa: Tensor, lowest: list[int], highest: list[int]) -> None:
    largest = float(kappa.max())
    logarithmic = largest > _DECADES * float(kappa.min())
    if logarithmic:
        kappa = kappa.clamp_min(_SMALLEST_SHOWN * largest)
        edges: Any = np.geomspace(float(kappa.min()), largest, _BINS + 1)
    else:
        edges = np.histogram_bin_edges(kappa.numpy(), _BINS)
    axes.hist(kappa.numpy(), bins=edges, color="#BBBBBB", edgecolor="white", linewidth=0.4)
    if len(highest):
        spans = (edges[0], kappa[lowest].max(), LOW, "lowest"), (kappa[highest].min(), edges[-1], HIGH, "highest")
        for start, end, colour, name in spans:
            axes.axvspan(float(start), float(end), color=colour, alpha=0.22, linewidth=0, label=rf"{name} $\kappa$")
    axes.axvline(float(kappa.median()), color=MUTED, linewidth=1, linestyle="dashed", label="median")
    if logarithmic:
        axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set(xlabel=r"predicted concentration $\kappa$", ylabel="images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.2, handlelength=1.4)


def _check(concentration: Tensor) -> None:
    if concentration.dim() != 1 or len(concentration) == 0:
        raise ValueError(f"concentration must have shape (images,), got {tuple(concentration.shape)}")
    if not (torch.isfinite(concentration) & (concentration >= 0)).all():
        raise ValueError("concentration must be finite and at least 0 for every image")
