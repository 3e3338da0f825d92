"""Where a check computes and what it computes on: random experts and atoms, and the shipped pair that has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Any

import mpmath
import numpy as np
import torch
from sympy import Expr, lambdify
from torch import Tensor

from experiments.special_cases.recovery import Network
from experiments.verification.witnesses import HEIGHTS, Array, sphere_grid, two_directions
from inference.fitting.kl_objective import KLObjective
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.distributions import PowerSpherical, ProductOfExperts, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel

DIMS = (2, 3, 8, 128, 2048)
VIEWS = (2, 3, 8)
FISHER, POWER = BOTH = tuple(HEIGHTS)
FAMILIES: dict[str, Any] = {FISHER: VonMisesFisher, POWER: PowerSpherical}
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Lab:
    """Where and from which seed a check computes.

    Attributes:
        device: Where the shipped code runs; references are computed on the CPU whatever it says.
        seed: Seed of every random draw of the check.
    """

    device: torch.device = _CPU
    seed: int = 0

    @cached_property
    def rng(self) -> np.random.Generator:
        """What draws the numbers of a check; a fresh lab starts it anew."""
        return np.random.default_rng(self.seed)

    def tensor(self, values: Any) -> Tensor:
        """Float64 on the device."""
        return torch.as_tensor(values, dtype=torch.float64, device=self.device)

    def pole(self, dim: int, axis: int = 0) -> Tensor:
        """A unit vector along an axis, `(d,)`."""
        return torch.eye(dim, dtype=torch.float64, device=self.device)[axis]

    def directions(self, count: int, dim: int, spread: float = 1.0) -> Array:
        """Unit vectors about a common one, the wider the larger `spread`; `(count, d)`."""
        centre = self.rng.standard_normal(dim)
        vectors = centre / np.linalg.norm(centre) + spread * self.rng.standard_normal((count, dim)) / np.sqrt(dim)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))

    def law(self, family: str, mean_direction: Any, kappa: Any, **options: Any) -> Any:
        """The shipped distribution of one of `FAMILIES`."""
        return FAMILIES[family](self.tensor(mean_direction), self.tensor(kappa), **options)

    def product(self, family: str, mean_directions: Any, kappa: Any) -> ProductOfExperts:
        """The shipped product of such experts."""
        return ProductOfExperts(self.law(family, mean_directions, kappa))

    def grid(self, points: int) -> tuple[Tensor, Tensor]:
        """Nodes and weights of a product rule on the sphere in space."""
        z, weight = sphere_grid(points)
        return self.tensor(z), self.tensor(weight)

    def uniform(self, dim: int) -> SphericalUniform:
        """The shipped prior."""
        return SphericalUniform(dim, dtype=torch.float64, device=self.device)


@dataclass(frozen=True)
class Table:
    """M experts and M atoms of one image.

    Attributes:
        family: Of the experts.
        mu: Mean directions, `(M, d)`.
        kappa: Concentrations, `(M,)`.
        f: Atoms, `(M, d)`.
        lab: Where the shipped code computes.
    """

    family: str
    mu: Array
    kappa: Array
    f: Array
    lab: Lab

    def __str__(self) -> str:
        return f"{self.family}, d = {self.dim}, M = {self.count}"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self.mu.shape[-1])

    @property
    def count(self) -> int:
        """Number of views M."""
        return len(self.kappa)

    @property
    def scale(self) -> float:
        """Size of the terms that meet in a loss, Σκ_i + M d; errors are relative to it."""
        return float(self.kappa.sum()) + self.dim * self.count

    def with_kappa(self, kappa: Array | float) -> Table:
        """The same directions with other concentrations."""
        return replace(self, kappa=np.broadcast_to(kappa, self.kappa.shape).astype(float))

    def log_densities(self) -> Tensor:
        """Log densities of the shipped experts at the atoms, by themselves, `(M, M)`."""
        experts = self.lab.law(self.family, self.mu[:, None], self.kappa[:, None])
        return torch.as_tensor(experts.log_prob(self.lab.tensor(self.f)))

    def views(self) -> list[Tensor]:
        """One "view" for each expert that carries its atom and its parameters, which the networks below read off."""
        rows = np.concatenate([self.f, self.mu, self.kappa[:, None]], -1)
        return [self.lab.tensor(row[None]).requires_grad_() for row in rows]

    def pair(self) -> tuple[MultiViewModel, MultiViewGuide]:
        """The shipped model and guide with these experts and atoms."""
        head = Network(lambda parameters: FAMILIES[self.family](parameters[:, :-1], parameters[:, -1]))
        model = MultiViewModel(Network(lambda view: view[:, self.dim :]), head)
        return model, MultiViewGuide(Network(lambda view: view[:, : self.dim]))

    def loss(self, objective: KLObjective) -> float:
        """What the objective makes of the pair."""
        return float(objective(*self.pair())(self.views()).item())

    def gradient(self, objective: KLObjective) -> Array:
        """Its gradient in the experts' mean directions, `(M, d)`."""
        views = self.views()
        found = torch.autograd.grad(objective(*self.pair())(views), views)
        return torch.cat(found)[:, self.dim : -1].cpu().numpy()

    def derived(self, expression: Expr) -> Any:
        """A derived expression at these experts and atoms, evaluated by mpmath in 40 digits."""
        with mpmath.workdps(40):
            kappas = [mpmath.mpf(float(k)) for k in self.kappa]
            return _compiled(expression, self.family, self.count)(self.dim, kappas, _cosines(self.mu, self.f))

    def error(self, expression: Expr, objective: KLObjective) -> float:
        """Error of the shipped pair under the shipped objective against a derived expression.

        It is relative to max(1, |loss|, Σκ + M d), the size of the terms that are added.
        """
        return relative_error(self.loss(objective), self.derived(expression), self.scale)


@cache
def _compiled(expression: Expr, family: Any, views: int) -> Any:
    # mpmath sums the Bessel function's series up to a large argument only if it is allowed enough terms
    modules = [{"besseli": lambda order, x: mpmath.besseli(order, x, maxterms=10**7)}, "mpmath"]
    return compile_loss(expression, family, views, modules)


def _cosines(mu: Array, f: Array) -> list[list[Any]]:
    """Cosines of the directions of two stacks of vectors, in all digits asked for."""
    units = [[mpmath.matrix(row) / mpmath.norm(row) for row in vectors.tolist()] for vectors in (mu, f)]
    return [[mpmath.fdot(m, v) for v in units[1]] for m in units[0]]


def draw_table(lab: Lab, family: str, dim: int, views: int, *, constant: bool = False) -> Table:
    """Draw experts and atoms: directions from nearly equal to unrelated, κ over eight decades."""
    vectors = lab.directions(2 * views, dim, 10 ** lab.rng.uniform(-2, 0.7))
    kappa = 10 ** lab.rng.uniform(-3, 5, size=1 if constant else views)
    return Table(family, vectors[:views], np.broadcast_to(kappa, (views,)).copy(), vectors[views:], lab)


@dataclass(frozen=True)
class Tables:
    """Tables over families, dimensions and numbers of views, drawn when a lab asks for them.

    Attributes:
        families: Of the experts.
        dims: Dimensions d.
        views: Numbers of views M.
        repeat: How many of each.
        constant: Whether the experts of a table share one κ.
        kappa: The κ of all experts; `None` to draw it.
    """

    families: tuple[str, ...] = BOTH
    dims: tuple[int, ...] = DIMS
    views: tuple[int, ...] = VIEWS
    repeat: int = 1
    constant: bool = False
    kappa: float | None = None

    def __str__(self) -> str:
        dims, views = (", ".join(map(str, numbers)) for numbers in (self.dims, self.views))
        return f"d = {dims}; M = {views}; κ = {self.kappa or '1e-3 … 1e5'}"

    def __call__(self, lab: Lab) -> Iterator[Table]:
        """Draw them."""
        for family, dim, count, _ in product(self.families, self.dims, self.views, range(self.repeat)):
            table = draw_table(lab, family, dim, count, constant=self.constant)
            yield table if self.kappa is None else table.with_kappa(self.kappa)


def relative_error(value: Tensor | float, reference: Any, scale: float = 1.0) -> float:
    """|value − reference| relative to max(1, |reference|, scale)."""
    return abs(float(value) - float(reference)) / max(1.0, abs(float(reference)), scale)


def at(expression: Expr, **values: Any) -> Any:
    """What a formula is at these numbers or arrays, by the names of its symbols.

    Example:
        >>> from ssl_as_inference.derivations.vi_simsiam import CORRECTED_SLOPE
        >>> at(CORRECTED_SLOPE.result, kappa=6.0, c=0.5)
        -4.0
    """
    symbols = {str(symbol): symbol for symbol in expression.free_symbols}
    return lambdify([symbols[name] for name in values], expression, "scipy")(*values.values())


def cosine_slope(lab: Lab, family: str, dim: int, kappa: float, cosine: float) -> float:
    """Derivative in c of the shipped loss of one pair, −log p."""
    angle = lab.tensor(math.acos(cosine)).requires_grad_()
    mu = angle.cos() * lab.pole(dim) + angle.sin() * lab.pole(dim, 1)
    loss = -lab.law(family, mu, kappa, validate_args=False).log_prob(lab.pole(dim))
    return torch.autograd.grad(loss, angle)[0].item() / -math.sqrt(1 - cosine**2)


def kappa_slope(lab: Lab, family: str, dim: int, kappa: float, cosine: float) -> float:
    """Derivative in κ of the same."""
    mu, f = two_directions(dim, cosine)
    k = lab.tensor(kappa).requires_grad_()
    return torch.autograd.grad(-lab.law(family, mu, k).log_prob(lab.tensor(f)), k)[0].item()
