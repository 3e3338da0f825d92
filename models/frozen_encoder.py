r"""An uncertainty for an encoder that you have: the encoder stays as it is, and a head predicts how well views agree.

With the encoder frozen, the guide of Eq. (8) (arXiv:2203.11437v1) is a mixture of Dirac measures at *fixed* points: it
is BYOL with momentum 1 (C26). Nothing can collapse unless all the points are equal. The paper's objective becomes
amortised maximum likelihood of $p_\psi(z\mid x)$: the best expert of a view is as concentrated as the other views of
such an image are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from models.networks import Encoder, PowerSphericalHead, PredictedVonMisesFisherHead
from models.vi_simsiam import relative_concentration
from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair
from ssl_as_inference.sphere import normalize

Family = Literal["power_spherical", "von_mises_fisher"]

_HEADS = {"power_spherical": PowerSphericalHead, "von_mises_fisher": PredictedVonMisesFisherHead}
# Of the square of the largest feature: a direction of less variance is what rounding to float32 left of none.
_ROUNDING = 4 * torch.finfo(torch.float32).eps ** 2
_ROUNDING_OF_A_MEAN = 1e-13  # relative, in float64; float32 cannot vary by so little
_AT_ONCE = 2**15  # rows that are in float64 at a time


class TargetMap(nn.Module):
    r"""Map features to unit vectors of few dimensions, in all of which they vary.

    $$z = \frac{\Lambda^{-1/4} U^\top (h - m)}{\lVert\Lambda^{-1/4} U^\top (h - m)\rVert}$$

    with m the mean of the features, the columns of U their first d principal directions and Λ the variances along them.
    The fourth root whitens half-way: a coordinate of variance λ keeps the standard deviation λ^¼, so strong directions
    still count for more, but no single one dominates the direction of z.

    Args:
        features: Width of the features.
        dim: Dimension d of the sphere.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("projection", torch.eye(features, dim))

    @classmethod
    @torch.no_grad()
    def fit(cls, features: Tensor, dim: int, *, whitening: float = 0.25) -> Self:
        """Fit mean, directions and variances.

        Args:
            features: Shape `(views, items, features)`.
            dim: Dimension of the sphere, at least 2.
            whitening: The exponent of 1/Λ: ¼ as above, 0 for none, ½ for equal variances.

        Raises:
            ValueError: If the features are fewer than `dim`, not finite, of fewer items than `dim`, or vary in fewer
                directions.

        Example:
            >>> target = TargetMap.fit(torch.randn(2, 50, 8), dim=3)
            >>> target(torch.randn(5, 8)).norm(dim=-1).allclose(torch.ones(5))
            True
        """
        check_features(features)
        views, items, width = features.shape
        check_sizes(width, items, dim)
        mean, count = _mean(features), views * items
        covariance = torch.zeros(width, width, dtype=mean.dtype, device=mean.device)
        for rows in _rows(features):
            covariance += (rows - mean).T @ (rows - mean) / count
        variances, directions = torch.linalg.eigh(covariance)
        variances, directions = variances[-dim:].flip(0), directions[:, -dim:].flip(1)
        least = _ROUNDING * max(float(rows.square().max()) for rows in _rows(features))
        varying = int((variances > least).sum())
        if varying < dim:
            raise ValueError(
                f"features must vary in at least dim = {dim} directions, got features that vary in {varying}"
            )
        target = cls(width, dim)
        target.mean.copy_(mean)
        target.projection.copy_(directions * variances**-whitening)
        return target.to(features.device)

    def forward(self, features: Tensor) -> Tensor:
        """Unit vectors, shape `(items, dim)`."""
        return normalize((features.to(self.mean.dtype) - self.mean) @ self.projection)


class Standardization(nn.Module):
    """Each feature with the mean 0 and the standard deviation 1 that it has among the features that were fitted.

    Args:
        features: Their number; one that is constant among those that were fitted is only centred.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Take mean and standard deviation from features of shape `(views, items, features)`."""
        mean, count = _mean(features), features.size(0) * features.size(1)
        variance = torch.zeros_like(mean)
        for rows in _rows(features):
            variance += (rows - mean).square().sum(0) / count
        deviation = variance.sqrt()
        self.mean.copy_(mean)
        # Below the least normal number of the buffer its reciprocal would be infinite there.
        varies = deviation > (_ROUNDING_OF_A_MEAN * mean.abs()).clamp_min(torch.finfo(self.scale.dtype).tiny)
        self.scale.copy_(torch.where(varies, 1 / deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features."""
        return (features.to(self.mean.dtype) - self.mean) * self.scale


class FrozenEncoderPair(MultiViewPair):
    r"""The pair over a frozen encoder: the model is a head over its features, the guide its features mapped.

    On features that are computed already the encoder is the identity, and a "view" is a vector of features. Fit with
    `inference.fitting.features.fit_to_features`, then put the encoder itself in place with `with_encoder`.

    Args:
        features: Width of the encoder's features.
        dim: Dimension d of the sphere.
        hidden: Width of the head's hidden layer.
        family: Of the experts.

    Raises:
        ValueError: If a width is too small or the family is unknown.

    Example:
        >>> views = torch.randn(2, 50, 8)  # features of two views of each of 50 items
        >>> pair = FrozenEncoderPair.of(views, dim=3, hidden=16)
        >>> pair.expert(views[0]).concentration.shape
        torch.Size([50])
    """

    def __init__(self, features: int, *, dim: int = 32, hidden: int = 512, family: Family = "power_spherical") -> None:
        if family not in get_args(Family):
            raise ValueError(f"family must be one of {', '.join(get_args(Family))}, got {family!r}")
        for name, value, least in (("features", features, 1), ("dim", dim, 2), ("hidden", hidden, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        network = nn.Sequential(
            Standardization(features), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, dim + 1)
        )
        frozen = nn.Identity()
        model = MultiViewModel(Encoder(frozen, nn.Identity()), _HEADS[family](network, relative_concentration))
        super().__init__(dim, model, MultiViewGuide(Encoder(frozen, TargetMap(features, dim))))
        self.features = features
        self.hidden = hidden
        self.family = family

    @classmethod
    def of(
        cls,
        features: Tensor,
        *,
        dim: int = 32,
        hidden: int = 512,
        family: Family = "power_spherical",
        whitening: float = 0.25,
        seed: int = 0,
    ) -> Self:
        """A pair whose target map and standardisation are fitted to features, and whose head is not trained yet.

        Args:
            features: Shape `(views, items, features)`.
            dim: Dimension of the sphere.
            hidden: Width of the head's hidden layer.
            family: Of the experts.
            whitening: Of the target map.
            seed: Of the head's weights; torch's own generator is left as it was.

        Raises:
            ValueError: As `TargetMap.fit`.
        """
        target = TargetMap.fit(features, dim, whitening=whitening)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pair = cls(features.size(-1), dim=dim, hidden=hidden, family=family)
        pair.guide.network.projector = target
        standardization = pair.model.predictor.get_submodule("network")[0]  # type: ignore[index]
        standardization.fit(features)
        return pair.to(features.device)

    def with_encoder(self, encoder: nn.Module) -> Self:
        """Put the encoder in place, frozen and in evaluation mode: views are then what it takes; returns the pair."""
        encoder.requires_grad_(requires_grad=False).eval()
        self.model.encoder.backbone = encoder
        self.guide.network.backbone = encoder
        return self

    def train(self, mode: bool = True) -> Self:  # torch's own signature
        """Training mode for the head alone: the encoder's batch normalisations keep their statistics."""
        super().train(mode)
        self.guide.eval()  # which holds the encoder
        return self

    @torch.no_grad()
    def expert(self, features: Tensor) -> PowerSpherical | VonMisesFisher:
        r"""$p_\psi(z\mid x)$ for features, in evaluation mode.

        Its `concentration` is κ, and its `mean_resultant_length` ρ(κ): the cosine expected between `mean_direction` and
        the mapped features of another view.

        Args:
            features: Shape `(items, features)`, as the encoder gives them.

        Raises:
            ValueError: If they have another width or are not finite.
        """
        if features.dim() != 2 or features.size(1) != self.features:
            raise ValueError(f"features must have shape (items, {self.features}), got {tuple(features.shape)}")
        if not features.isfinite().all():
            raise ValueError(f"features must be finite, got {int((~features.isfinite()).sum())} NaN or infinite")
        expert: PowerSpherical | VonMisesFisher = self.model.predictor(features)
        return expert


def _rows(features: Tensor) -> Iterator[Tensor]:
    """Rows of features `(views, items, features)` in float64, some at a time: a copy of all may not fit."""
    for view in features:
        for rows in view.split(_AT_ONCE):
            yield rows.double()


def _mean(features: Tensor) -> Tensor:
    total = torch.zeros(features.size(-1), dtype=torch.float64, device=features.device)
    for rows in _rows(features):
        total += rows.sum(0)
    return total / (features.size(0) * features.size(1))


def check_features(features: Tensor) -> None:
    """Refuse what no head can be fitted to.

    Raises:
        ValueError: If the shape is not `(views, items, features)` with two views or more, or a number is not finite.
    """
    if features.dim() != 3 or features.size(0) < 2 or 0 in features.shape:
        raise ValueError(
            "features must have shape (views, items, features) with at least 2 views: one is to predict the other, got "
            f"{tuple(features.shape)}"
        )
    if not features.is_floating_point() or not features.float().isfinite().all():
        bad = int((~features.float().isfinite()).sum())
        raise ValueError(
            f"features must be finite floating-point numbers in float32, got {features.dtype}, {bad} NaN or infinite"
        )


def check_sizes(width: int, items: int, dim: int) -> None:
    """Refuse what no target map can be fitted to.

    Args:
        width: Of the features.
        items: How many there are.
        dim: Dimension of the sphere.

    Raises:
        ValueError: If the dimension is larger than the width, or there are not more items.
    """
    if not 2 <= dim <= width:
        raise ValueError(f"dim must lie between 2 and the width of the features, {width}, got {dim}")
    if items <= dim:
        raise ValueError(f"features must be of more items than dim, {dim}, got {items}")
