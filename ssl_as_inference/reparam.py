"""Unconstrained coordinates for latent unit vectors, for NUTS and Pyro's automatic guides."""

from __future__ import annotations

from typing import NoReturn

import pyro
from pyro.distributions import Delta, Normal, constraints
from pyro.infer.reparam.reparam import Reparam, ReparamMessage, ReparamResult
from torch.distributions import biject_to

from ssl_as_inference.sphere import log_surface_area, normalize


class SphericalReparam(Reparam):
    r"""Replace a latent unit vector z by a standard normal vector x with $z = x/\lVert x\rVert$.

    A sphere has no chart without a hole, so Hamiltonian Monte Carlo and Gaussian guides cannot work on z itself. The
    direction of a standard normal vector is uniform on the sphere; weighing it by the density of z relative to the
    uniform one, $p(z)\times\text{area}$, gives z its distribution. The length of x is independent of z and plays no
    part. It serves every distribution whose support is `constraints.sphere`, as Pyro's `ProjectedNormalReparam` serves
    one.

    Only latent sites are reparametrised. The model gets two new sites: `{name}_normal`, which is sampled, and
    `{name}_density`, the weight.

    Example:
        >>> import torch
        >>> from ssl_as_inference.distributions import VonMisesFisher
        >>> def model():
        ...     return pyro.sample("z", VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 10.0))
        >>> z = pyro.poutine.reparam(model, config={"z": SphericalReparam()})()
        >>> z.norm().round(decimals=5)
        tensor(1.)
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Pyro calls this at the site.

        Raises:
            NotImplementedError: If the site is observed.
            ValueError: If the site's distribution is not one on the sphere.
        """
        name, value = msg["name"], msg["value"]
        if msg["is_observed"]:
            raise NotImplementedError(f"SphericalReparam is for latent sites, got the observed site {name!r}")
        distribution, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]
        if distribution.support is not constraints.sphere:
            raise ValueError(f"site {name!r} must have a distribution on the sphere, got {type(distribution).__name__}")
        shape = distribution.batch_shape + distribution.event_shape
        # A distribution need not keep a tensor of its own, so that dtype and device come from a draw.
        like = distribution.sample() if value is None else value
        normal = Normal(like.new_zeros(shape), like.new_ones(shape)).to_event(1)
        # A unit vector is one of the points that map to it: enough for an initial value.
        wrapped = self._wrap(normal, event_dim)  # type: ignore[no-untyped-call]
        x = pyro.sample(f"{name}_normal", wrapped, obs=value, infer={"is_observed": False})
        if value is None:
            value = normalize(x)
        relative = distribution.log_prob(value) + log_surface_area(distribution.event_shape[-1])
        pyro.factor(f"{name}_density", relative.sum(tuple(range(-(event_dim - 1), 0))) if event_dim > 1 else relative)
        return {"fn": Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


def _no_chart(constraint: constraints.Constraint) -> NoReturn:  # noqa: ARG001
    """Name the remedy where NUTS or an automatic guide needs unconstrained coordinates of a sphere."""
    raise ValueError(
        "a latent site is on a sphere, which has no unconstrained coordinates: reparametrise it, with "
        "pyro.poutine.reparam(model, config={NAME OF THE SITE: SphericalReparam()}) from ssl_as_inference.reparam, or "
        "with Pyro's ProjectedNormalReparam if its distribution is Pyro's ProjectedNormal"
    )


biject_to.register(type(constraints.sphere), _no_chart)
