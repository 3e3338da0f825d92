"""VI-SimSiam: Power Spherical experts whose concentration the predictor estimates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn

from models.networks import (
    Encoder,
    LinearWithDetachedLast,
    PowerSphericalHead,
    simsiam_predictor,
    simsiam_projector,
)
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair

MAX_MEAN_RESULTANT_LENGTH = 0.99

ConcentrationGradient = Literal["through", "head"]


def relative_concentration(raw: Tensor, dim: int) -> Tensor:
    r"""Map the predictor's raw output r to $\kappa = (d-1)\,k$, where k depends on r alone.

    $$k = \Big(\frac1s + \frac1K\Big)^{-1}, \quad s = \frac{r + \sqrt{r^2+4}}{2} = e^{\operatorname{asinh}(r/2)},
    \quad K = \frac{\rho_{max}}{1-\rho_{max}}$$

    The paper does not say how κ is made positive. This map has three reasons:

    1. *Scale.* A Power Spherical expert with mean resultant length ρ, the cosine that it expects between its mean
       direction and z, has $\kappa = (d-1)\rho/(1-\rho)$. So the relative concentration k = ρ/(1−ρ) is what a network
       can predict with numbers of order one in every dimension: k = 1 expects a cosine of 1/2. The best κ at a cosine
       c is close to (d−1)c/(1−c) (C23), which a plain softplus of the raw output could not reach.
    2. *No trap at zero.* Early in training the views of an image do not agree yet, c ≈ 0, and the most likely κ is 0.
       The derivative of softplus or of an exponential vanishes exponentially there. So the head cannot raise κ again
       when the views begin to agree. And because κ also multiplies the gradient on μ, those images stop being learned.
       The map s ("squareplus") has the same shape, but its derivative falls only as 1/r², so the head recovers. It is
       a safeguard. In the quickstart the views agree early, and a scaled softplus does as well within the spread of
       the seeds; an unscaled one loses accuracy and the ranking by κ
       (`python -m experiments.recipes --scale digits`, docs/digits.md).
    3. *A bound.* As views come to agree the loss falls without bound as κ → ∞ (C24). 1/k is like a variance, and the
       constant 1/K is its lower bound. So k < K, the expected cosine stays below `MAX_MEAN_RESULTANT_LENGTH`, and no
       gradient is cut off.

    Args:
        raw: Any real numbers r.
        dim: Dimension d of the latent space.

    Returns:
        κ, strictly between 0 and (d − 1)K, of the shape of `raw`.
    """
    bound = MAX_MEAN_RESULTANT_LENGTH / (1 - MAX_MEAN_RESULTANT_LENGTH)
    # 1/s = s(−r) = exp(−asinh(r/2)): no difference that loses digits on either side, and a batch of scalars pays for
    # each operation, not for its arithmetic.
    inverse = (raw * -0.5).asinh().exp()
    return (inverse + 1 / bound).reciprocal() * (dim - 1)


class VISimSiam(MultiViewPair):
    r"""VI-SimSiam, Section 5 of arXiv:2203.11437v1, as a model/guide pair.

    SimSiam's architecture with one more output of the predictor: $g: x \mapsto (\mu, \kappa)$. The expert of a view is
    $\mathrm{PS}(z; \mu(x), \kappa(x))$, Eq. (11); the guide is SimSiam's. A small κ means that the view predicts the
    other views' representation badly. It also reduces the image's gradient: uncertain images count less in training.

    Train it with the loss in nats per dimension (κ, and with it the gradient, grows with d) and clip the gradient,
    whose part along the cosine is κ/(1+c) (C23).

    Args:
        backbone: View to `features` numbers.
        features: Width of the backbone's output; the projector is as wide.
        dim: Dimension of the latent space, 2048 as in SimSiam.
        hidden: Width of the predictor's bottleneck; a quarter of `dim` when not given, as in SimSiam (512).
        concentration_map: Raw output and dim to κ.
        concentration_gradient: Where the gradient of κ goes: `"through"` the whole network, as in the paper, or to its
            own output row, the `"head"`, alone. Under `"head"` hidden layer, projector and backbone learn from the mean
            direction only, whose gradient is as before: κ remains its weight.
        guide_views: Number of views, from the first on, that the guide uses (multi-crop); all when not given.

    Raises:
        ValueError: For an unknown `concentration_gradient`, or if `hidden` or `guide_views` is less than 1.

    Example:
        >>> from models.networks import small_convolutional_backbone
        >>> import torch
        >>> pair = VISimSiam(small_convolutional_backbone(), features=128, dim=64).eval()
        >>> pair.model.expert(torch.rand(2, 1, 16, 16)).concentration.shape
        torch.Size([2])
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        dim: int = 2048,
        hidden: int | None = None,
        concentration_map: Callable[[Tensor, int], Tensor] = relative_concentration,
        concentration_gradient: ConcentrationGradient = "through",
        guide_views: int | None = None,
    ) -> None:
        if concentration_gradient not in get_args(ConcentrationGradient):
            raise ValueError(f'concentration_gradient must be "through" or "head", got {concentration_gradient!r}')
        encoder = Encoder(backbone, simsiam_projector(features, dim))
        last_layer = nn.Linear if concentration_gradient == "through" else LinearWithDetachedLast
        network = simsiam_predictor(dim, hidden, outputs=dim + 1, last_layer=last_layer)
        predictor = PowerSphericalHead(network, concentration_map)
        super().__init__(dim, MultiViewModel(encoder, predictor), MultiViewGuide(encoder, guide_views))

    @property
    def concentration_rows(self) -> tuple[nn.Parameter, ...]:
        """Weight and bias of the predictor's last layer, of which the last row each makes the raw concentration."""
        network: Any = self.model.predictor.get_submodule("network")
        return tuple(network[-1].parameters())
