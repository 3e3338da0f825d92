"""SimSiam with Power Spherical experts of constant concentration: a control between SimSiam and VI-SimSiam."""

from __future__ import annotations

from torch import nn

from models.networks import ConstantPowerSphericalHead, Encoder, simsiam_predictor, simsiam_projector
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair


class PowerSphericalSimSiam(MultiViewPair):
    r"""SimSiam's networks and guide with the experts $\mathrm{PS}(z; \mu(x), \kappa)$, κ one constant for all images.

    VI-SimSiam differs from SimSiam in two things: the family of the experts and the predicted κ. This pair has only the
    first, so it separates their effects. It is not SimSiam: the gradient of its loss on the cosine c is −κ/(1+c),
    larger where two views agree less; SimSiam's is −κ (C11). The predictor has no output for κ.

    Args:
        backbone: View to `features` numbers.
        features: Width of the backbone's output; the projector is as wide.
        dim: Dimension of the latent space, 2048 as in SimSiam.
        hidden: Width of the predictor's bottleneck; a quarter of `dim` when not given, as in SimSiam (512).
        concentration: The constant κ. It scales the loss, up to a constant, and with it the gradient.
        guide_views: Number of views, from the first on, that the guide uses (multi-crop); all when not given.

    Raises:
        ValueError: If `hidden` or `guide_views` is less than 1, or `concentration` not positive and finite.

    Example:
        >>> from models.networks import small_convolutional_backbone
        >>> import torch
        >>> pair = PowerSphericalSimSiam(small_convolutional_backbone(), features=128, dim=64, concentration=5.0).eval()
        >>> pair.model.expert(torch.rand(2, 1, 16, 16)).concentration
        tensor([5., 5.])
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
        predictor = ConstantPowerSphericalHead(simsiam_predictor(dim, hidden), concentration)
        super().__init__(dim, MultiViewModel(encoder, predictor), MultiViewGuide(encoder, guide_views))
