"""Fig. 3 of arXiv:2203.11437v1: one term of the loss over the cosine and the concentration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures.style import INK, panel_title, styled
from ssl_as_inference.special import (
    power_spherical_log_normalizer,
    power_spherical_mean_log_height,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_mean_resultant_length,
)

_MIN_DIM = 2
# As many below zero as above, so that the diverging colours change at zero.
_LEVELS = (-2.0, -1.5, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
_TICKS = (-1, -0.5, 0, 0.5, 1)
_CURVES = (0.1, 0.5, 2.0, 10.0)  # κ/d


def relative_loss(dim: int, cosine: Tensor, concentration: Tensor) -> Tensor:
    r"""$-\frac1d\log\{\mathrm{PS}(z_2;\mu_1,\kappa)/\mathrm{PS}(z_2;\mu_1,0)\}$, in nats per dimension.

    At κ = 0 the density is uniform and this is 0. Negative means that predicting μ₁ with concentration κ beats saying
    nothing, positive that it is worse. Subtracting the uniform density's constant and dividing by d change neither
    the minimiser nor the shape of the surface, and make figures of different dimensions comparable.

    Args:
        dim: Dimension d ≥ 2.
        cosine: μ₁ᵀz₂, above −1.
        concentration: κ ≥ 0, broadcastable with `cosine`.

    Example:
        >>> relative_loss(8, torch.tensor(0.3), torch.tensor(0.0)).item()
        0.0
    """
    log_c = power_spherical_log_normalizer(dim, concentration)
    log_c_uniform = power_spherical_log_normalizer(dim, torch.zeros_like(concentration))
    return (log_c_uniform - log_c - concentration * cosine.log1p()) / dim


def von_mises_fisher_relative_loss(dim: int, cosine: Tensor, concentration: Tensor) -> Tensor:
    r"""$-\frac1d\log\{\mathrm{vMF}(z_2;\mu_1,\kappa)/\mathrm{vMF}(z_2;\mu_1,0)\}$; see `relative_loss`.

    Example:
        >>> abs(von_mises_fisher_relative_loss(8, torch.tensor(0.3), torch.tensor(0.0)).item())
        0.0
    """
    log_c = von_mises_fisher_log_normalizer(dim, concentration)
    log_c_uniform = von_mises_fisher_log_normalizer(dim, torch.zeros_like(concentration))
    return (log_c_uniform - log_c - concentration * cosine) / dim


@dataclass(frozen=True)
class _Family:
    """What is drawn of a family of distributions: its symbol, its loss, and the cosine at which a κ is the best one."""

    symbol: str
    loss: Callable[[int, Tensor, Tensor], Tensor]
    best_cosine: Callable[[int, Tensor], Tensor]
    free_corner: Literal["upper right", "upper center"]  # where no section of the loss passes


# The best κ at a cosine c is where E log(1 + μᵀz), or E μᵀz, is that of c: solved for c it needs no search.
_POWER_SPHERICAL = _Family(
    "PS", relative_loss, lambda dim, kappa: power_spherical_mean_log_height(dim, kappa).expm1(), "upper right"
)
_VON_MISES_FISHER = _Family(
    "vMF", von_mises_fisher_relative_loss, von_mises_fisher_mean_resultant_length, "upper center"
)


@styled
def loss_surface_figure(dim: int) -> Figure:
    r"""Draw $-\log\mathrm{PS}(z_2;\mu_1,\kappa_1)$ over the cosine and κ: Fig. 3 of arXiv:2203.11437v1.

    Left, the surface as a filled contour, κ on a logarithmic axis from d/100 to 100 d, with the best κ for each cosine,
    which solves log(1 + c) = log 2 + ψ(a) − ψ(a + b). Right, its sections at a few κ: a small κ makes the loss almost
    constant, so that pairs that disagree hardly count; a large κ pays well for agreement and dearly for disagreement.
    The loss is relative to the uniform density, see `relative_loss`.

    Args:
        dim: Dimension d ≥ 2 of the embeddings.

    Raises:
        ValueError: If `dim` is less than 2.
    """
    _check_dim(dim)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    surface, sections = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _draw_surface(surface, dim, _POWER_SPHERICAL, "a")
    _draw_sections(sections, dim, _POWER_SPHERICAL, "b")
    return figure


@styled
def loss_surfaces_figure(dim: int) -> Figure:
    r"""Draw Fig. 3 for the Power Spherical distribution, as `loss_surface_figure`, and the same for von Mises–Fisher.

    For large κ and views that agree the two differ little, with κ of the one half of the other's. They differ where
    views disagree: the Power Spherical loss has a pole at the cosine −1, where log(1 + c) diverges, and the von
    Mises–Fisher loss falls linearly in the cosine everywhere.

    Args:
        dim: Dimension d ≥ 2 of the embeddings.

    Raises:
        ValueError: If `dim` is less than 2.
    """
    _check_dim(dim)
    figure = Figure(figsize=(10, 8.2), layout="constrained")
    letters = iter("abcd")
    for family, (surface, sections) in zip(
        (_POWER_SPHERICAL, _VON_MISES_FISHER), figure.subplots(2, 2, width_ratios=[1.15, 1]), strict=True
    ):
        _draw_surface(surface, dim, family, next(letters))
        _draw_sections(sections, dim, family, next(letters))
    return figure


def _check_dim(dim: int) -> None:
    if dim < _MIN_DIM:
        raise ValueError(f"dim must be at least {_MIN_DIM}, got {dim}")


def _draw_surface(axes: Axes, dim: int, family: _Family, letter: str) -> None:
    cosine = torch.linspace(-0.9999, 0.9999, 400, dtype=torch.float64)
    ratio = torch.logspace(-2, 2, 300, dtype=torch.float64)
    loss = family.loss(dim, cosine, dim * ratio[:, None])
    colours = mpl.colormaps["RdBu_r"]
    filled = axes.contourf(
        cosine.numpy(),
        ratio.numpy(),
        loss.numpy(),
        levels=_LEVELS,
        cmap=colours,
        norm=BoundaryNorm(_LEVELS, colours.N, extend="both"),
        extend="both",
    )
    axes.contour(
        cosine.numpy(), ratio.numpy(), loss.numpy(), levels=[0.0], colors=INK, linewidths=0.8, linestyles="dashed"
    )
    best_cosine = family.best_cosine(dim, dim * ratio)
    axes.plot(best_cosine.numpy(), ratio.numpy(), color=INK, label=r"best $\kappa_1$ at each cosine")
    axes.plot([], [], color=INK, linewidth=0.8, linestyle="dashed", label="as good as the uniform density")
    axes.legend(loc="upper left", frameon=True, framealpha=0.92, edgecolor="none")
    axes.set(
        yscale="log",
        xlim=(-1, 1),
        xticks=_TICKS,
        ylim=(1e-2, 1e2),
        xlabel=r"cosine $\mu_1^\top z_2$",
        ylabel=r"concentration $\kappa_1 / d$",
    )
    panel_title(axes, letter, rf"$-\log\,\mathrm{{{family.symbol}}}(z_2;\,\mu_1,\kappa_1)$, $d = {dim}$")
    bar = axes.figure.colorbar(filled, ax=axes, ticks=_LEVELS, spacing="uniform", aspect=28)
    bar.ax.set_yticklabels([f"{level:g}".replace("-", "−") for level in _LEVELS])
    bar.set_label("nats per dimension, uniform density = 0")


def _draw_sections(axes: Axes, dim: int, family: _Family, letter: str) -> None:
    cosine = torch.cat([torch.linspace(-0.999, 0.899, 300), 1 - torch.logspace(-1, -4, 100)]).double()
    shades = mpl.colormaps["viridis"](np.linspace(0.85, 0.0, len(_CURVES)))
    for ratio, shade in zip(_CURVES, shades, strict=True):
        loss = family.loss(dim, cosine, torch.tensor(dim * ratio, dtype=torch.float64))
        axes.plot(cosine.numpy(), loss.numpy(), color=shade, label=f"{ratio:g}")
    axes.axhline(0, color=INK, linewidth=0.8, linestyle="dashed")
    axes.set(xlim=(-1, 1), xticks=_TICKS, ylim=(-2, 4), xlabel=r"cosine $\mu_1^\top z_2$", ylabel="nats per dimension")
    axes.legend(title=r"$\kappa_1 / d$", loc=family.free_corner)
    panel_title(axes, letter, r"sections at constant $\kappa_1$")
