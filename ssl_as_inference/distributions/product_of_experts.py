"""The product of experts that is the model's posterior, Eqs. (6) and (10) of arXiv:2203.11437v1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.spherical_distribution import SphericalDistribution
from ssl_as_inference.distributions.spherical_uniform import SphericalUniform
from ssl_as_inference.distributions.von_mises_fisher import VonMisesFisher
from ssl_as_inference.special import (
    power_spherical_pair_log_normalizer,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_log_normalizer_of_square,
    von_mises_fisher_log_normalizer_plus_concentration,
)
from ssl_as_inference.sphere import half_gap_and_height, half_squared_chord


class ProductOfExperts(SphericalDistribution):
    r"""$p(z\mid\mathbb{X}) \propto \prod_{i=1}^M p(z\mid x_i)$.

    Eqs. (6) and (10) of arXiv:2203.11437v1, which print "=". But the product of densities is not a density; it needs
    the factor $1/Z(\mathbb{X})$. `log_prob` is the product as the paper uses it, without that factor; `log_normalizer`
    gives $\log Z(\mathbb{X})$ and `normalized` the posterior itself, where a closed form is known (C4).

    Args:
        experts: A distribution whose rightmost batch dimension is the view: batch shape `(*batch, M)`.
        validate_args: Check values given to `log_prob`; `None` follows the default of `torch.distributions`.

    Raises:
        ValueError: If `experts` has no batch dimension to multiply over.

    Example:
        >>> experts = VonMisesFisher(torch.eye(3)[:2], torch.tensor([3.0, 4.0]))
        >>> posterior = ProductOfExperts(experts).normalized()
        >>> posterior.concentration, posterior.mean_direction
        (tensor(5.), tensor([0.6000, 0.8000, 0.0000]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    experts: TorchDistribution

    def __init__(self, experts: TorchDistribution, *, validate_args: bool | None = None) -> None:
        if len(experts.batch_shape) < 1 or experts.batch_shape[-1] < 1 or len(experts.event_shape) != 1:
            raise ValueError(
                "experts must have batch shape (*batch, M) with M >= 1 views in the rightmost dimension and vectors as "
                f"events, got batch shape {tuple(experts.batch_shape)} and event shape {tuple(experts.event_shape)}"
            )
        self.experts = experts
        self._declare(experts.batch_shape[:-1], experts.event_shape[0], validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the posterior can be sampled with pathwise derivatives."""
        return isinstance(self.experts, VonMisesFisher)

    def _expanded_parameters(self, batch_shape: torch.Size) -> dict[str, Any]:
        return {"experts": self.experts.expand(batch_shape + self.experts.batch_shape[-1:])}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experts})"

    def log_prob(self, value: Tensor) -> Tensor:
        r"""$\sum_i \log p(z\mid x_i)$, *without* $-\log Z(\mathbb{X})$; shape `batch_shape`."""
        return self.experts.log_prob(self._checked_value(value).unsqueeze(-2)).sum(-1)

    def log_normalizer(self) -> Tensor:
        r"""$\log Z(\mathbb{X}) = \log\int\prod_i p(z\mid x_i)\,dz$, shape `batch_shape`.

        Any number of von Mises–Fisher experts (C4), one or two Power Spherical ones (C25).

        Raises:
            NotImplementedError: If no closed form is known for these experts; `monte_carlo_log_normalizer` estimates
                it.
        """
        return log_product_normalizer(self.experts)

    def normalized(self) -> TorchDistribution:
        r"""The exact posterior $\prod_i p(z\mid x_i)/Z(\mathbb{X})$.

        Raises:
            NotImplementedError: If the product of these experts is not of a known family.
        """
        return normalized_product(self.experts)

    @property
    def mean(self) -> Tensor:
        """E[z] under the posterior, where `normalized` has a closed form."""
        return self.normalized().mean

    @property
    def mode(self) -> Tensor:
        """The mode of the posterior, where `normalized` has a closed form."""
        return self.normalized().mode

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate under the posterior, where `normalized` has a closed form."""
        return self.normalized().variance

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance matrix of the posterior, where `normalized` has a closed form."""
        covariance: Tensor = self.normalized().covariance_matrix
        return covariance

    def entropy(self) -> Tensor:
        """Entropy of the posterior, where `normalized` has a closed form."""
        return self.normalized().entropy()

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from the posterior, where `normalized` has a closed form."""
        return self.normalized().rsample(sample_shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draw from the posterior, where `normalized` has a closed form."""
        return self.normalized().sample(sample_shape)


def stack_experts(experts: Sequence[TorchDistribution]) -> TorchDistribution:
    """Stack distributions of one family along a new rightmost batch dimension, the view.

    Args:
        experts: M ≥ 1 distributions of the same class and batch shape, whose constructor takes the names in
            `arg_constraints`.

    Returns:
        One distribution of batch shape `(*batch, M)`.

    Raises:
        ValueError: If there is no expert, or they are of different families or shapes, or have no parameters.

    Example:
        >>> stack_experts([VonMisesFisher(torch.eye(3), 1.0), VonMisesFisher(torch.eye(3), 2.0)]).batch_shape
        torch.Size([3, 2])
    """
    families = {type(expert) for expert in experts}
    if len(families) != 1:
        raise ValueError(
            "experts must be one or more distributions of the same family, got "
            f"{sorted(family.__name__ for family in families) or 'none'}"
        )
    family: Any = families.pop()
    if not family.arg_constraints:
        raise ValueError(f"experts must have parameters to stack (arg_constraints), got {family.__name__}")
    shapes = sorted({(tuple(expert.batch_shape), tuple(expert.event_shape)) for expert in experts})
    if len(shapes) != 1:
        raise ValueError(f"experts must have the same batch and event shape, got (batch, event) {shapes}")
    arguments = {}
    for name, constraint in family.arg_constraints.items():
        axis = -1 - constraint.event_dim
        arguments[name] = torch.stack([getattr(expert, name) for expert in experts], dim=axis)
    stacked: TorchDistribution = family(**arguments, validate_args=False)
    return stacked


@singledispatch
def log_product_normalizer(experts: TorchDistribution) -> Tensor:
    r"""$\log\int\prod_i p_i(z)\,dz$ over the rightmost batch dimension; register a family to add its form."""
    raise NotImplementedError(
        f"no closed form is registered for the normaliser of a product of {type(experts).__name__} experts; "
        "use the unnormalised product, or register one with log_product_normalizer.register"
    )


@singledispatch
def normalized_product(experts: TorchDistribution) -> TorchDistribution:
    r"""The density proportional to $\prod_i p_i(z)$ over the rightmost batch dimension; register a family to add it."""
    raise NotImplementedError(
        f"a product of {type(experts).__name__} experts is not of a known family; "
        "VonMisesFisher experts have a closed form"
    )


def _resultant(experts: VonMisesFisher) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sum and largest of the κ, and $\sum_i\kappa_i\mu_i$ in units of the largest: no square of a κ is ever formed."""
    kappa = experts.concentration
    largest = kappa.detach().amax(-1)
    largest = torch.where(largest == 0, 1.0, largest)
    share = kappa / largest.unsqueeze(-1)
    return share.double().sum(-1), largest.double(), (share.unsqueeze(-1) * experts.mean_direction).sum(-2)


def _length(vector: Tensor) -> Tensor:
    """The length in float64, whose derivative is zero, not undefined, where the vector is zero."""
    squared = vector.double().square().sum(-1)  # in float32 the squares of views that all but cancel underflow
    cancelled = squared == 0
    return torch.where(cancelled, 0.0, torch.where(cancelled, 1.0, squared).sqrt())


@log_product_normalizer.register
def _(experts: VonMisesFisher) -> Tensor:
    # Π C(κ_i) exp(κ_i μ_iᵀz) = Π C(κ_i) exp(ηᵀz), and exp(ηᵀz) integrates to 1/C(R).
    kappa = experts.concentration.double()
    total, unit, eta = _resultant(experts)  # η and Σκ_i in units of the largest κ
    length = _length(eta)
    aligned = 2 * length > total
    # Experts that agree: log C + κ in place of log C, and Σκ_i − R = Σκ_i(1 − μ_iᵀm), m = η/R, from the chords to m.
    # An error of m enters in second order, since m maximises Σκ_iμ_iᵀm.
    mode = eta / torch.where(aligned, length, 1.0).unsqueeze(-1).to(eta.dtype)
    deficit = (kappa * half_squared_chord(experts.mean_direction, mode.unsqueeze(-2)).double()).sum(-1)
    resultant = torch.where(aligned, unit * total - deficit, 1.0)
    agreeing = von_mises_fisher_log_normalizer_plus_concentration(experts.dim, kappa).sum(-1) - deficit
    agreeing = agreeing - von_mises_fisher_log_normalizer_plus_concentration(experts.dim, resultant)
    # Experts that do not: nothing cancels. Near R = 0 log C is taken as a function of R², which has all derivatives.
    single = von_mises_fisher_log_normalizer(experts.dim, kappa).sum(-1)
    resultant = unit * length
    near = aligned | (resultant < 1)
    squared = torch.where(near & ~aligned, unit.square() * eta.double().square().sum(-1), 0.0)
    of_resultant = torch.where(
        near,
        von_mises_fisher_log_normalizer_of_square(experts.dim, squared),
        von_mises_fisher_log_normalizer(experts.dim, torch.where(near, 1.0, resultant)),
    )
    return torch.where(aligned, agreeing, single - of_resultant).to(experts.dtype)


@log_product_normalizer.register
def _(experts: PowerSpherical) -> Tensor:
    views = experts.batch_shape[-1]
    if views == 1:
        return experts.concentration.new_zeros(experts.batch_shape[:-1], dtype=experts.dtype)
    if views > 2:
        raise NotImplementedError(
            f"no closed form is known for the normaliser of {views} Power Spherical experts, only for 1 or 2; "
            "monte_carlo_log_normalizer(product, samples) estimates it with a standard error"
        )
    gap, height = half_gap_and_height(experts.mean_direction[..., 0, :], experts.mean_direction[..., 1, :])
    first, second = experts.concentration.unbind(-1)
    return power_spherical_pair_log_normalizer(experts.dim, first, second, gap, height).to(experts.dtype)


@normalized_product.register
def _(experts: VonMisesFisher) -> VonMisesFisher:
    # Experts that cancel (R = 0) leave the uniform distribution, for which any direction serves: the first expert's.
    _, unit, eta = _resultant(experts)
    length = _length(eta)
    cancelled = (length == 0).unsqueeze(-1)
    safe_length = torch.where(cancelled, 1.0, length.unsqueeze(-1)).to(eta.dtype)
    direction = torch.where(cancelled, experts.mean_direction[..., 0, :], eta / safe_length)
    return VonMisesFisher(direction, (unit * length).to(eta.dtype), validate_args=False)


@normalized_product.register
def _(experts: PowerSpherical) -> PowerSpherical:
    if experts.batch_shape[-1] > 1:
        raise NotImplementedError(
            f"the product of {experts.batch_shape[-1]} Power Spherical experts is of no known family, only that of 1"
        )
    return PowerSpherical(experts.mean_direction[..., 0, :], experts.concentration[..., 0], validate_args=False)


@log_product_normalizer.register
def _(experts: SphericalUniform) -> Tensor:
    return (1 - experts.batch_shape[-1]) * experts.entropy()[..., 0]


@normalized_product.register
def _(experts: SphericalUniform) -> SphericalUniform:
    like = experts.entropy()
    return SphericalUniform(experts.dim, batch_shape=experts.batch_shape[:-1], dtype=like.dtype, device=like.device)
