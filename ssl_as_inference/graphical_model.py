r"""The graphical model of the paper (Fig. 2) as a Pyro model/guide pair.

    z  ~ Uniform(sphere)                       one latent unit vector for each image
    x_i | z,  i = 1 … M                        its augmented views, observed

The paper parametrises the posterior of one view, $p_\psi(z\mid x_i)$, instead of the likelihood $p(x_i\mid z)$ of a
generative model. By Bayes' rule the two say the same about z: $p(x_i\mid z) = p_\psi(z\mid x_i)\,p(x_i)/p(z)$, where
$p(x_i)$ does not depend on z and p(z) is uniform. Conditional independence of the views then gives the product of
experts of Eqs. (6) and (10). The rule has a condition that nothing in the training enforces: the prior is the average
of its posteriors, so $\mathrm{E}_x\,p_\psi(z\mid x)$ must be uniform. If a trained encoder does not spread its images
over the sphere, the experts are still densities and the objective is still a divergence. But then the experts are not
the posteriors of a uniform prior. This is the case for VI-SimSiam on digits (C38). The guide is the mixture of Dirac
measures at the target network's outputs, Eq. (8).

Equations are those of arXiv:2203.11437v1; C-numbers refer to the claims that the project verifies.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Self

import pyro
import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from ssl_as_inference.distributions import DeltaMixture, ProductOfExperts, SphericalUniform, stack_experts
from ssl_as_inference.parameter_store import announce_parameters
from ssl_as_inference.sphere import normalize

LATENT = "z"
"""Name of the latent site that model and guide share."""


@effectful(type="encode")
def encode(network: Callable[[Tensor], Tensor], view: Tensor) -> Tensor:
    """`network(view)`, as an operation that an effect handler can see.

    Model and guide of SimSiam pass each view through the same encoder. Under `SharedEncodings` the second call returns
    the result of the first. So a step has one forward pass for each view, and batch normalisation counts each view
    once, as in the published algorithm. Without a handler this is a plain call.
    """
    return network(view)


class SharedEncodings(Messenger):
    """Effect handler under which `encode` computes each (network, view) once.

    Use it for one evaluation of an objective and leave it before the weights change.
    """

    def __init__(self) -> None:
        super().__init__()
        # The network and the view are kept with their encoding, so that no id is used again while the handler lives.
        self._encodings: dict[Hashable, tuple[object, Tensor, Tensor]] = {}

    def _pyro_encode(self, msg: dict[str, Any]) -> None:
        known = self._encodings.get(self._key(msg))
        if known is not None:
            msg["value"] = known[-1]
            msg["done"] = True

    def _pyro_post_encode(self, msg: dict[str, Any]) -> None:
        network, view = msg["args"]
        self._encodings[self._key(msg)] = (network, view, msg["value"])

    @staticmethod
    def _key(msg: dict[str, Any]) -> Hashable:
        network, view = msg["args"]
        return id(network), id(view), torch.is_grad_enabled()


class ViewGivenLatent(TorchDistribution):
    r"""The likelihood of an observed view, given by the posterior that it induces.

    $\log p(x\mid z) = \log p_\psi(z\mid x) + \text{a constant in } z$, by Bayes' rule under a uniform prior. The
    constant, $\log p(x) - \log p(z)$, is left out, as in Eq. (6). There is no generator of images here: the
    distribution can be conditioned on, not sampled.

    Args:
        posterior: $p_\psi(z\mid x)$, made from the observed view; batch shape `(*batch,)`.
        latent: z, shape `(*sample, *batch, dim)`.
        view_shape: Shape of one view, such as `(channels, height, width)`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, posterior: TorchDistribution, latent: Tensor, view_shape: Sequence[int]) -> None:
        self.posterior = posterior
        self.latent = latent
        sample_shape = latent.shape[: latent.dim() - posterior.event_dim]
        batch_shape = torch.broadcast_shapes(posterior.batch_shape, sample_shape)
        super().__init__(batch_shape, torch.Size(view_shape), validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """All images."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """Return the same likelihood broadcast to `batch_shape`."""
        batch_shape = torch.Size(batch_shape)
        latent = self.latent.expand(batch_shape + self.latent.shape[self.latent.dim() - self.posterior.event_dim :])
        return type(self)(self.posterior, latent, self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:  # noqa: ARG002  # the view acts through its posterior
        r"""$\log p_\psi(z\mid x)$, shape `batch_shape`."""
        return self.posterior.log_prob(self.latent)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Not defined: the model infers z from a view and cannot draw a view."""
        raise NotImplementedError("a view can be observed, not sampled: the model has no generator of images")


class MultiViewModel(nn.Module):
    r"""$p_\psi$: a uniform latent unit vector and M observed views, each with its expert $p_\psi(z\mid x_i)$.

    Args:
        encoder: View to projection: backbone and projector.
        predictor: Projection to expert: returns a distribution on the sphere with batch shape `(images,)`.
    """

    def __init__(self, encoder: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor

    def expert(self, view: Tensor) -> TorchDistribution:
        r"""$p_\psi(z\mid x)$ for a batch of views, shape `(images, …)`."""
        expert: TorchDistribution = self.predictor(encode(self.encoder, view))
        return expert

    def posterior(self, views: Sequence[Tensor]) -> ProductOfExperts:
        r"""$p_\psi(z\mid\mathbb{X})$, Eqs. (6) and (10): the product of the views' experts."""
        return ProductOfExperts(stack_experts([self.expert(view) for view in views]))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Draw z, observe the views. `views`: M tensors of shape `(images, …)`."""
        announce_parameters(self.encoder, "encoder")
        announce_parameters(self.predictor, "predictor")
        images = _count_images(views)
        experts = [self.expert(view) for view in views]
        with _plate_of(images):
            # The prior's constant log C(0) is masked out, so that the log joint is Σ_i log p_ψ(z|x_i), the unnormalised
            # product of Eq. (6), and no more.
            dtype = torch.promote_types(views[0].dtype, torch.float32)
            prior = SphericalUniform(
                experts[0].event_shape[0], dtype=dtype, device=views[0].device, batch_shape=(images,)
            )
            with pyro.poutine.mask(mask=False):
                z = pyro.sample(LATENT, prior)
            for number, (view, expert) in enumerate(zip(views, experts, strict=True), start=1):
                pyro.sample(f"x_{number}", ViewGivenLatent(expert, z, view.shape[1:]), obs=view)
        return z


class MultiViewGuide(nn.Module):
    r"""$q_\phi(z\mid\mathbb{X}) = \frac1M\sum_j\delta(z - f_\phi(x_j))$, Eq. (8), with the stop-gradient on f.

    With `views=G` the mixture is over the first G views only. With multi-crop these are the global crops: the experts
    of all views predict them, and none predicts the local crops (C14). The model observes all M views.

    Args:
        network: The target network f: view to projection. SimSiam's is the online encoder itself, BYOL's its moving
            average.
        views: Number G ≥ 1 of views that the guide uses, from the first on; `None` for all.

    Raises:
        ValueError: If `views` is less than 1, or, when called, there are fewer views.
    """

    def __init__(self, network: nn.Module, views: int | None = None) -> None:
        super().__init__()
        if views is not None and (not isinstance(views, int) or views < 1):
            raise ValueError(f"views must be an integer >= 1 or None, got {views}")
        self.network = network
        self.views = views

    def locations(self, views: Sequence[Tensor]) -> Tensor:
        """Unit vectors f(x_j) of the guide's views, shape `(images, G, dim)`, with their gradient."""
        announce_parameters(self.network, "encoder")
        if self.views is not None and len(views) < self.views:
            raise ValueError(f"views must be at least the {self.views} that the guide is over, got {len(views)}")
        network = self.network
        # In memory each view's vectors lie together, as they are used.
        return normalize(torch.stack([encode(network, view) for view in views[: self.views]])).movedim(0, -2)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Draw z among the target's outputs. `views`: M tensors of shape `(images, …)`."""
        _count_images(views)
        # The stop-gradient. With it q is frozen and p is fitted to it. Without it q may move to meet p, and every
        # encoder that ignores its input reaches the minimum, q = p: collapse is a global optimum of Eq. (5) (C28).
        return self._draw(self.locations(views).detach())

    @staticmethod
    def _draw(locations: Tensor) -> Tensor:
        with _plate_of(locations.size(0)):
            z: Tensor = pyro.sample(LATENT, DeltaMixture(locations), infer={"enumerate": "parallel"})
        return z


class FullGradientGuide(MultiViewGuide):
    """The guide without its stop-gradient: for showing the collapse that follows (C27, C28), not for training."""

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Draw z among the target's outputs, with a gradient into the target."""
        _count_images(views)
        return self._draw(self.locations(views))


class MultiViewPair(nn.Module):
    """A model and a guide over the same latent z: a method of self-supervised learning.

    Args:
        dim: Dimension d of the latent space.
        model: Called with the views; samples `z` and observes the views.
        guide: Called with the views; samples `z`.
    """

    def __init__(self, dim: int, model: MultiViewModel, guide: MultiViewGuide) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        self.dim = dim


def _plate_of(images: int) -> Messenger:
    """The plate of images: `pyro.plate("images", images, dim=-1)` without a subsample.

    `pyro.plate` makes one more site, which draws the images that take part. All of them do, and the site, its handlers
    and its index tensor would take as long as the rest of a model or guide.
    """
    return IndepMessenger("images", images, dim=-1)


def _count_images(views: Sequence[Tensor]) -> int:
    if isinstance(views, Tensor) or len(views) == 0:
        got = f"a tensor of shape {tuple(views.shape)}" if isinstance(views, Tensor) else "none"
        raise ValueError(f"views must be a sequence of M >= 1 tensors of shape (images, ...), got {got}")
    for view in views:
        if not isinstance(view, Tensor) or view.dim() == 0:
            got = "shape ()" if isinstance(view, Tensor) else f"type {type(view).__name__}"
            raise ValueError(f"views must be a sequence of M >= 1 tensors of shape (images, ...), got a view of {got}")
    counts = [view.size(0) for view in views]
    if len(set(counts)) != 1:
        raise ValueError(f"views must show the same images: every view needs the same length, got lengths {counts}")
    if counts[0] == 0:
        raise ValueError(f"views must show at least one image, got shape {tuple(views[0].shape)}")
    return counts[0]
