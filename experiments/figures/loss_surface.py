"""Fig. 3 of arXiv:2203.11437v1: one term of the loss over the cosine and the concentration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ssl_as_inference import special

# As many below zero as above, so that the diverging colours change at zero.
_LEVELS = (-2.0, -1.5, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
_TICKS = (-1, -0.5, 0, 0.5, 1)
_CURVES = (0.1, 0.5, 2.0, 10.0)  # κ/d


@dataclass(frozen=True)
class Family:
    """A family of distributions whose log density is log C(κ) plus κ times a function of the cosine μ₁ᵀz₂.

    Attributes:
        symbol: Its name in formulas.
        log_normalizer: Dimension and κ to log C(κ).
        statistic: What κ multiplies, of the cosine.
        best_cosine: Dimension and κ to the cosine at which this κ is the best: there E log(1 + μᵀz), or E μᵀz, is that
            of the cosine, which solved for the cosine needs no search.
        free_corner: Where no section of the loss passes.
    """

    symbol: str
    log_normalizer: Callable[[int, Tensor], Tensor]
    statistic: Callable[[Tensor], Tensor]
    best_cosine: Callable[[int, Tensor], Tensor]
    free_corner: Literal["upper right", "upper center"]

    def relative_loss(self, dim: int, cosine: Tensor, concentration: Tensor) -> Tensor:
        r"""$-\frac1d\log\{p(z_2;\mu_1,\kappa)/p(z_2;\mu_1,0)\}$, in nats per dimension.

        At κ = 0 the density is uniform and this is 0. Negative means that predicting μ₁ with concentration κ beats
        saying nothing, positive that it is worse. Subtracting the uniform density's constant and dividing by d change
        neither the minimiser nor the shape of the surface, and make figures of different dimensions comparable.

        Args:
            dim: Dimension d ≥ 2.
            cosine: μ₁ᵀz₂, above −1.
            concentration: κ ≥ 0, broadcastable with `cosine`.

        Example:
            >>> abs(POWER_SPHERICAL.relative_loss(8, torch.tensor(0.3), torch.tensor(0.0)).item())
            0.0
        """
        uniform = self.log_normalizer(dim, torch.zeros_like(concentration))
        return (uniform - self.log_normalizer(dim, concentration) - concentration * self.statistic(cosine)) / dim


POWER_SPHERICAL = Family(
    "PS",
    special.power_spherical_log_normalizer,
    torch.log1p,
    lambda dim, kappa: special.power_spherical_mean_log_height(dim, kappa).expm1(),
    "upper right",
)
VON_MISES_FISHER = Family(
    "vMF",
    special.von_mises_fisher_log_normalizer,
    lambda cosine: cosine,
    special.von_mises_fisher_mean_resultant_length,
    "upper center",
)


@styled
def loss_surface_figure(dim: int, families: Sequence[Family] = (POWER_SPHERICAL,)) -> Figure:
    r"""Draw $-\log\mathrm{PS}(z_2;\mu_1,\kappa_1)$ over the cosine and κ: Fig. 3 of arXiv:2203.11437v1.

    Left, the surface as a filled contour, κ on a logarithmic axis from d/100 to 100 d, with the best κ for each cosine,
    which solves log(1 + c) = log 2 + ψ(a) − ψ(a + b). Right, its sections at a few κ: a small κ makes the loss almost
    constant, so that pairs that disagree hardly count; a large κ pays well for agreement and dearly for disagreement.
    The loss is relative to the uniform density, see `Family.relative_loss`.

    Below it other families: for large κ and views that agree the von Mises–Fisher loss differs little, with κ of the
    one half of the other's. They differ where views disagree: the Power Spherical loss has a pole at the cosine −1,
    where log(1 + c) diverges, and the von Mises–Fisher loss falls linearly in the cosine everywhere.

    Args:
        dim: Dimension d ≥ 2 of the embeddings.
        families: A row each.

    Raises:
        ValueError: If `dim` is less than 2.
    """
    figure = Figure(figsize=(10, 0.2 + 4 * len(families)), layout="constrained")
    rows = figure.subplots(len(families), 2, width_ratios=[1.15, 1], squeeze=False)
    for family, (surface, sections), letters in zip(families, rows, ("ab", "cd"), strict=False):
        _draw_surface(surface, dim, family, letters[0])
        _draw_sections(sections, dim, family, letters[1])
    return figure


def _draw_surface(axes: Axes, dim: int, family: Family, letter: str) -> None:
    cosine = torch.linspace(-0.9999, 0.9999, 400, dtype=torch.float64)
    ratio = torch.logspace(-2, 2, 300, dtype=torch.float64)
    loss = family.relative_loss(dim, cosine, dim * ratio[:, None])
    colours = mpl.colormaps["RdBu_r"]
    over = cosine.numpy(), ratio.numpy(), loss.numpy()
    norm = BoundaryNorm(_LEVELS, colours.N, extend="both")
    filled = axes.contourf(*over, levels=_LEVELS, cmap=colours, norm=norm, extend="both")
    axes.contour(*over, levels=[0.0], colors=INK, linewidths=0.8, linestyles="dashed")
    best_cosine = family.best_cosine(dim, dim * ratio)
    axes.plot(best_cosine.numpy(), ratio.numpy(), color=INK, label=r"best $\kappa_1$ at each cosine")
    axes.plot([], [], color=INK, linewidth=0.8, linestyle="dashed", label="as good as the uniform density")
    axes.legend(loc="upper left", frameon=True, framealpha=0.92, edgecolor="none")
    axes.set(yscale="log", ylim=(1e-2, 1e2), ylabel=r"concentration $\kappa_1 / d$")
    axes.set(xlim=(-1, 1), xticks=_TICKS, xlabel=r"cosine $\mu_1^\top z_2$")
    panel_title(axes, letter, rf"$-\log\,\mathrm{{{family.symbol}}}(z_2;\,\mu_1,\kappa_1)$, $d = {dim}$")
    bar = axes.figure.colorbar(filled, ax=axes, ticks=_LEVELS, spacing="uniform", aspect=28)
    bar.ax.set_yticklabels([f"{level:g}".replace("-", "−") for level in _LEVELS])
    bar.set_label("nats per dimension, uniform density = 0")


def _draw_sections(axes: Axes, dim: int, family: Family, letter: str) -> None:
    cosine = torch.cat([torch.linspace(-0.999, 0.899, 300), 1 - torch.logspace(-1, -4, 100)]).double()
    shades = mpl.colormaps["viridis"](np.linspace(0.85, 0.0, len(_CURVES)))
    for ratio, shade in zip(_CURVES, shades, strict=True):
        loss = family.relative_loss(dim, cosine, torch.tensor(dim * ratio, dtype=torch.float64))
        axes.plot(cosine.numpy(), loss.numpy(), color=shade, label=f"{ratio:g}")
    axes.axhline(0, color=INK, linewidth=0.8, linestyle="dashed")
    axes.set(xlim=(-1, 1), xticks=_TICKS, ylim=(-2, 4), xlabel=r"cosine $\mu_1^\top z_2$", ylabel="nats per dimension")
    axes.legend(title=r"$\kappa_1 / d$", loc=family.free_corner)
    panel_title(axes, letter, r"sections at constant $\kappa_1$")
