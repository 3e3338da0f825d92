"""A guide of finite concentration: the mixture whose limit is the paper's Eq. (8), arXiv:2203.11437v1."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from pyro.distributions import Categorical, MixtureSameFamily, TorchDistribution, constraints
from torch import Tensor

from ssl_as_inference.distributions.spherical_distribution import at_fault, require_real_tensor


class SphericalMixture(MixtureSameFamily):  # type: ignore[misc]  # pyro makes its torch classes at run time
    r"""$q(z) = \sum_j w_j\,q_j(z)$ with densities $q_j$ on the sphere, uniformly weighted by default.

    With $q_j = \mathrm{vMF}(f_j,\tau)$ or $\mathrm{PS}(f_j,\tau)$ and τ → ∞ it tends to `DeltaMixture`, Eq. (8) of
    arXiv:2203.11437v1, but has a density and an entropy at every finite τ. It is PyTorch's `MixtureSameFamily`, whose
    `log_prob`, `sample`, `mean` and `variance` serve as they are; weights broadcast over the batch, and the entropy,
    which has no closed form, is bounded. Cross-entropies are exact: `ssl_as_inference.cross_entropies`.

    Args:
        components: A distribution whose rightmost batch dimension is the component: batch shape `(*batch, M)`.
        weights: Non-negative, shape `(M,)` or broadcastable with `(*batch, M)`; w is their share of their sum, and 1/M
            if they are not given.
        validate_args: Check the arguments; `None` follows the default of `torch.distributions`.

    Raises:
        ValueError: If `components` has no batch dimension to mix over or the weights do not fit it, or (when
            validating) are negative, not finite or all zero.

    Example:
        >>> from ssl_as_inference.distributions import PowerSpherical
        >>> q = SphericalMixture(PowerSpherical(torch.eye(3), 6.0))
        >>> q.mean  # a third of κ/(κ+d−1) in each direction
        tensor([0.2500, 0.2500, 0.2500])
        >>> low, high = q.entropy_bounds()
        >>> (high - low).exp()  # M
        tensor(3.)
    """

    support = constraints.sphere

    def __init__(
        self, components: TorchDistribution, weights: Tensor | None = None, *, validate_args: bool | None = None
    ) -> None:
        shape = components.batch_shape
        if len(shape) < 1 or shape[-1] < 1 or len(components.event_shape) != 1:
            raise ValueError(
                "components must have batch shape (*batch, M) with M >= 1 components in the rightmost dimension and "
                f"vectors as events, got batch shape {tuple(shape)} and event shape {tuple(components.event_shape)}"
            )
        if weights is None:
            like = components.mean
            weights = torch.full((), 1 / shape[-1], dtype=like.dtype, device=like.device).expand(shape)
        require_real_tensor("weights", weights)
        try:
            weights = weights.expand(shape)
        except RuntimeError as error:
            raise ValueError(
                f"weights must have shape (M,) or one that expands to the batch shape {tuple(shape)} of components, "
                f"got {tuple(weights.shape)}"
            ) from error
        if self._validate_args if validate_args is None else validate_args:
            valid = (weights >= 0) & weights.isfinite() & (weights.sum(-1, keepdim=True) > 0)
            if not torch._is_all_true(valid):  # noqa: SLF001  # as torch's own distributions ask
                raise ValueError(
                    f"weights must be finite and >= 0 with a positive sum, got {at_fault(weights, valid)} among them"
                )
        choice = Categorical(weights, validate_args=validate_args)
        # torch's own logits give a weight of 0 the rounding unit. The inner 1 keeps the derivative finite.
        none = choice.probs == 0
        choice.logits = choice.probs.masked_fill(none, 1.0).log().masked_fill(none, -math.inf)
        super().__init__(choice, components, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the same mixture broadcast to `batch_shape`."""
        new = self._get_checked_instance(SphericalMixture, _instance)
        expanded: Self = super().expand(batch_shape, _instance=new)
        return expanded

    def __repr__(self) -> str:
        return f"{type(self).__name__}(components: {self.components}, weights: {tuple(self.weights.shape)})"

    @property
    def components(self) -> TorchDistribution:
        """The components, batch shape `(*batch, M)`."""
        components: TorchDistribution = self.component_distribution
        return components

    @property
    def weights(self) -> Tensor:
        """Probabilities of the components, shape `(*batch, M)`."""
        weights: Tensor = self.mixture_distribution.probs
        return weights

    def entropy_bounds(self) -> tuple[Tensor, Tensor]:
        r"""Lower and upper bound of the differential entropy, each of shape `batch_shape` (C8).

        $\sum_j w_j H(q_j) \le H(q) \le \sum_j w_j H(q_j) + H(w)$: H(q) exceeds the lower bound by the mutual
        information of component and z. The lower bound is attained by equal components, the upper one by disjoint ones;
        for M components of one concentration and equal weights they are h and h + log M.
        """
        within = (self.weights * self.components.entropy()).sum(-1)
        between: Tensor = self.mixture_distribution.entropy()
        return within, within + between.clamp(max=math.log(self.weights.size(-1)))
