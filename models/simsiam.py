"""SimSiam as a model/guide pair: von Mises–Fisher experts of one constant concentration."""

from __future__ import annotations

from torch import nn

from models.networks import Encoder, VonMisesFisherHead, simsiam_predictor, simsiam_projector
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair


class SimSiam(MultiViewPair):
    r"""SimSiam (arXiv:2011.10566) as the model/guide pair of Section 4 of arXiv:2203.11437v1.

    The expert of a view is $\mathrm{vMF}(z; \mu(x), \kappa)$ with $\mu = h(f(x))/\lVert h(f(x))\rVert$, Eq. (7). Its
    negative log density at the other view's $f(x')/\lVert f(x')\rVert$ is $-\kappa\,\mu^\top f - \log C(\kappa)$:
    SimSiam's negative cosine similarity, scaled and shifted by constants (C9). The guide is the encoder itself behind
    a stop-gradient, Eq. (8).

    Args:
        backbone: View to `features` numbers.
        features: Width of the backbone's output; the projector is as wide.
        dim: Dimension of the latent space, 2048 as in SimSiam.
        hidden: Width of the predictor's bottleneck; a quarter of `dim` when not given, as in SimSiam (512).
        concentration: The constant κ. At 1, half the loss of the cross pairs is SimSiam's, up to a constant.
        guide_views: Number of views, from the first on, that the guide uses (multi-crop); all when not given.

    Raises:
        ValueError: If `hidden` or `guide_views` is less than 1, or `concentration` not positive and finite.

    Example:
        >>> from models.networks import small_convolutional_backbone
        >>> import torch
        >>> pair = SimSiam(small_convolutional_backbone(), features=128, dim=64).eval()
        >>> pair.model.expert(torch.rand(2, 1, 16, 16)).mean_direction.shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        dim: int = 2048,
        hidden: int | None = None,
        concentration: float = 1.0,
        guide_views: int | None = None,
    ) -> None:
        encoder = Encoder(backbone, simsiam_projector(features, dim))
        predictor = VonMisesFisherHead(simsiam_predictor(dim, hidden), concentration)
        super().__init__(dim, MultiViewModel(encoder, predictor), MultiViewGuide(encoder, guide_views))
