"""BYOL as a model/guide pair: SimSiam's experts, and a guide whose network follows slowly behind."""

from __future__ import annotations

import copy

from torch import nn

from models.networks import Encoder, VonMisesFisherHead, two_layer_mlp
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair


class BYOL(MultiViewPair):
    r"""BYOL (arXiv:2006.07733) as the model/guide pair of Section 4 of arXiv:2203.11437v1.

    The experts are those of SimSiam, $\mathrm{vMF}(z; \mu(x), \kappa)$ with constant κ. The guide has a network of its
    own, a copy of the encoder without a gradient. `inference.fitting.targets.ExponentialMovingAverage` moves it towards
    the encoder after each step. BYOL's loss $\lVert\mu - f\rVert^2$, summed over both orders of the views, is $4 +
    2\mathcal{L}_{SSL}$ in terms of Eq. (1): the same gradient up to a factor (C1).

    Args:
        backbone: View to `features` numbers.
        features: Width of the backbone's output.
        dim: Dimension of the latent space, 256 as in BYOL.
        hidden: Width of the hidden layer of projector and predictor, 4096 as in BYOL.
        concentration: The constant κ of the experts.
        guide_views: Number of views, from the first on, that the guide uses (multi-crop); all when not given.

    Raises:
        ValueError: If `hidden` or `guide_views` is less than 1, or `concentration` not positive and finite.

    Example:
        >>> from models.networks import small_convolutional_backbone
        >>> pair = BYOL(small_convolutional_backbone(), features=128, dim=64, hidden=256).eval()
        >>> pair.guide.network is pair.model.encoder
        False
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        *,
        dim: int = 256,
        hidden: int = 4096,
        concentration: float = 1.0,
        guide_views: int | None = None,
    ) -> None:
        encoder = Encoder(backbone, two_layer_mlp(features, hidden, dim))
        predictor = VonMisesFisherHead(two_layer_mlp(dim, hidden, dim), concentration)
        target = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
        super().__init__(dim, MultiViewModel(encoder, predictor), MultiViewGuide(target, guide_views))
