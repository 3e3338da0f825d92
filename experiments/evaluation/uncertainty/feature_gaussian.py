"""How far an image's features lie from those of the training images, were they normally distributed.

This is what a Laplace approximation of a linear last layer has to say of images far from the data: its predictive
variance is a quadratic form of the features with the inverse of the training features' second moments, and so is this
distance, with the moments taken around the mean. It asks no label, no head and no κ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FeatureGaussian:
    """Mean and precision of the training images' features.

    The covariance is shrunk towards a multiple of the identity by the amount of O. Ledoit and M. Wolf (A
    well-conditioned estimator for large-dimensional covariance matrices, 2004), by scikit-learn: with fewer images than
    features, the covariance of the sample has no inverse.

    Attributes:
        mean: Shape `(features,)`, float64.
        precision: Inverse of the shrunk covariance, shape `(features, features)`, float64.
    """

    mean: Tensor
    precision: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> Self:
        """Fit to the features of the training images.

        Args:
            features: As the network gives them, shape `(images, features)`.

        Raises:
            ValueError: If there are fewer than two images.

        Example:
            >>> gaussian = FeatureGaussian.fit(torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0], [0.0, 2.0]]))
            >>> gaussian.mean.tolist()
            [0.75, 1.5]
        """
        if features.dim() != 2 or len(features) < 2:
            raise ValueError(f"features must have shape (2 or more images, features), got {tuple(features.shape)}")
        fitted = LedoitWolf().fit(features.double().cpu().numpy())
        mean, precision = (
            torch.from_numpy(found).to(features.device) for found in (fitted.location_, fitted.precision_)
        )
        return cls(mean, precision)

    def distance(self, features: Tensor) -> Tensor:
        """Mahalanobis distance √((f − mean)ᵀ precision (f − mean)) of each image, shape `(images,)`."""
        from_mean = features.double() - self.mean
        squared: Tensor = ((from_mean @ self.precision) * from_mean).sum(1)
        return squared.clamp_min(0).sqrt()  # rounding may leave a square below zero
