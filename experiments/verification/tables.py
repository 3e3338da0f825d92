"""Random experts and atoms, and the shipped pair that has exactly them: what the objective is checked on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from pyro.infer import ELBO
from torch import Tensor, nn

from experiments.verification.claim import Settings
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.graphical_model import FullGradientGuide, MultiViewGuide, MultiViewModel

DIMS = (2, 3, 8, 128, 2048)
VIEWS = (2, 3, 8)
FAMILIES: dict[str, Any] = {"von Mises–Fisher": VonMisesFisher, "Power Spherical": PowerSpherical}
_LOG_KAPPA = (-3.0, 5.0)


def directions(rng: np.random.Generator, count: int, dim: int, spread: float) -> np.ndarray[Any, Any]:
    """Unit vectors about a common one, the wider the larger `spread`."""
    centre = rng.standard_normal(dim)
    vectors = centre / np.linalg.norm(centre) + spread * rng.standard_normal((count, dim)) / np.sqrt(dim)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


@dataclass(frozen=True)
class Table:
    """M experts and M atoms of one image.

    Attributes:
        family: Of the experts.
        mu: Mean directions, `(M, d)`.
        kappa: Concentrations, `(M,)`.
        f: Atoms, `(M, d)`.
        device: Where the shipped code computes.
    """

    family: str
    mu: np.ndarray[Any, Any]
    kappa: np.ndarray[Any, Any]
    f: np.ndarray[Any, Any]
    device: torch.device

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self.mu.shape[-1])

    def experts(self) -> Any:
        """The experts as one distribution of batch shape `(M,)`."""
        return FAMILIES[self.family](self._tensor(self.mu), self._tensor(self.kappa))

    def atoms(self) -> Tensor:
        """The atoms, `(M, d)`."""
        return self._tensor(self.f)

    def views(self) -> list[Tensor]:
        """One "view" for each expert that carries its atom and its parameters, which the networks below read off."""
        rows = np.concatenate([self.f, self.mu, self.kappa[:, None]], -1)
        return [self._tensor(row[None]) for row in rows]

    def pair(self, *, full_gradient: bool = False) -> tuple[MultiViewModel, MultiViewGuide]:
        """The shipped model and guide with these experts and atoms."""
        model = MultiViewModel(_Columns(slice(self.dim, None)), _TableHead(FAMILIES[self.family]))
        guide = (FullGradientGuide if full_gradient else MultiViewGuide)(_Columns(slice(0, self.dim)))
        return model, guide

    def loss(self, objective: ELBO, views: list[Tensor] | None = None) -> Tensor:
        """What the objective makes of the pair."""
        loss: Tensor = objective(*self.pair())(self.views() if views is None else views)
        return loss

    def _tensor(self, values: np.ndarray[Any, Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)


class _Columns(nn.Module):
    """A network that reads off some columns of a view."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, view: Tensor) -> Tensor:
        """The columns."""
        return view[:, self.columns]


class _TableHead(nn.Module):
    def __init__(self, family: Any) -> None:
        super().__init__()
        self.family = family

    def forward(self, projection: Tensor) -> Any:
        """The expert with these parameters."""
        return self.family(projection[:, :-1], projection[:, -1])


def draw_table(
    rng: np.random.Generator, family: str, dim: int, views: int, settings: Settings, *, constant: bool = False
) -> Table:
    """Draw experts and atoms: directions from nearly equal to unrelated, κ over eight decades."""
    spread = 10 ** rng.uniform(-2, 0.7)
    vectors = directions(rng, 2 * views, dim, spread)
    kappa = 10 ** rng.uniform(*_LOG_KAPPA, size=1 if constant else views)
    return Table(family, vectors[:views], np.broadcast_to(kappa, (views,)).copy(), vectors[views:], settings.device)


def draw_tables(
    settings: Settings,
    family: str,
    *,
    dims: tuple[int, ...] = DIMS,
    views: tuple[int, ...] = VIEWS,
    repeat: int = 2,
    constant: bool = False,
) -> Iterator[Table]:
    """Tables over all dimensions and numbers of views."""
    rng = np.random.default_rng(settings.seed)
    for dim, count in product(dims, views):
        for _ in range(repeat):
            yield draw_table(rng, family, dim, count, settings, constant=constant)


def relative_error(value: Tensor | float, reference: Any, scale: float = 1.0) -> float:
    """|value − reference| relative to max(1, |reference|, scale)."""
    return abs(float(value) - float(reference)) / max(1.0, abs(float(reference)), scale)


def loss_scale(table: Table) -> float:
    """Size of the terms that meet in a loss: Σκ_i and M d; errors are relative to it."""
    return float(table.kappa.sum()) + table.dim * len(table.kappa)
