r"""Whether a predicted concentration has the right value: expected and observed cosines, and likelihoods.

An expert with mean direction μ and concentration κ predicts the mean of the cosine $\mu^\top f$ with another view's
output f: ρ(κ) = κ/(κ+d−1) (Power Spherical) or A(κ) (von Mises–Fisher). Fresh views, which were not trained on, test
the prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_as_inference.distributions.power_spherical_fit import fit_concentration
from ssl_as_inference.special import (
    power_spherical_log_normalizer,
    von_mises_fisher_concentration,
    von_mises_fisher_log_normalizer,
)
from ssl_as_inference.sphere import checked_dim


@dataclass(frozen=True)
class CalibrationBins:
    """Images in bins of equal size, ordered by the prediction; one row for each bin.

    Attributes:
        predicted: Mean of the predicted mean cosine.
        observed: Mean of the observed cosines.
        count: Images in the bin.
    """

    predicted: Tensor
    observed: Tensor
    count: Tensor

    @property
    def largest_gap(self) -> float:
        """The largest distance of prediction and observation over the bins."""
        return float((self.predicted - self.observed).abs().max())

    @property
    def mean_gap(self) -> float:
        """The mean distance, each bin weighing as many images as it has."""
        gap = (self.predicted - self.observed).abs()
        return float((gap * self.count).sum() / self.count.sum())


def calibration_bins(
    predicted: Tensor, observed: Tensor, *, bins: int = 10, by: Tensor | None = None
) -> CalibrationBins:
    r"""Compare predicted mean cosines with observed cosines, an equal number of images at a time.

    The prediction grows with κ, so these are also bins of κ. The mean of n cosines has a standard error, their standard
    deviation over √n. So even a calibrated κ has gaps of this size; `gaps_by_chance` measures them.

    Args:
        predicted: ρ(κ) or A(κ), shape `(images,)`.
        observed: $\mu^\top f$ with f of another, fresh view, shape `(images,)`.
        bins: Number of bins, at most as many as images. Sizes differ by one image at most.
        by: What puts the images in order, shape `(images,)`; the prediction when not given.

    Raises:
        ValueError: If the shapes disagree, a value is not finite or `bins` is outside its range.

    Example:
        >>> calibration_bins(torch.tensor([0.1, 0.9, 0.2, 0.8]), torch.tensor([0.2, 0.8, 0.2, 0.8]), bins=2).observed
        tensor([0.2000, 0.8000], dtype=torch.float64)
    """
    _check_pair("predicted", predicted, "observed", observed)
    if not 1 <= bins <= len(predicted):
        raise ValueError(f"bins must lie between 1 and the number of images, {len(predicted)}, got {bins}")
    if by is not None:
        _check_pair("predicted", predicted, "by", by.double())
    order = (predicted if by is None else by).argsort(stable=True)
    parts = order.tensor_split(bins)
    return CalibrationBins(
        torch.stack([predicted[part].double().mean() for part in parts]),
        torch.stack([observed[part].double().mean() for part in parts]),
        torch.tensor([len(part) for part in parts], device=predicted.device),
    )


def gaps_by_chance(
    predicted: Tensor, observed: Tensor, *, bins: int = 10, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    r"""The largest and the mean gap of `calibration_bins` that a perfect κ would show on such images, on average.

    Each image keeps how far its cosine lies from its prediction, less the mean of that in its bin, and gets a random
    sign: what then is left of a bin's mean is chance. The factor √(n/(n − 1)) makes up for the mean that was taken
    from the n images themselves. With few images in a bin the result is too small by some percent.

    Args:
        predicted: As `calibration_bins`.
        observed: As `calibration_bins`.
        bins: Their number; no more than the images.
        draws: Of the signs, at least 1.
        seed: Of the signs.

    Returns:
        Largest and mean gap; NaN where a bin has one image alone, from which nothing can be told.

    Raises:
        ValueError: As `calibration_bins`, or if `draws` is less than 1.

    Example:
        >>> noise = torch.randn(2000, generator=torch.Generator().manual_seed(0))
        >>> predicted = torch.linspace(0, 1, 2000)
        >>> largest, mean = gaps_by_chance(predicted, predicted + 0.1 * noise)
        >>> 0.1 / 200**0.5 * 0.7 < mean < largest < 0.1 / 200**0.5 * 3  # a bin has 200 images
        True
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    bins = min(bins, predicted.numel())
    counts = calibration_bins(predicted, observed, bins=bins).count
    if counts.min() < 2:
        return math.nan, math.nan
    off = observed.double() - predicted.double()
    parts = [off[part] for part in predicted.argsort(stable=True).tensor_split(bins)]
    distances = [(part - part.mean()) * math.sqrt(len(part) / (len(part) - 1)) for part in parts]
    generator = torch.Generator(predicted.device).manual_seed(seed)
    gaps = torch.stack([_signed_means(distance, draws, generator) for distance in distances])
    weights = counts.double() / len(predicted)
    return float(gaps.amax(0).mean()), float((weights @ gaps).mean())


def _signed_means(distances: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Absolute mean of a bin's distances under random signs, a draw each."""
    means = [
        (distances * (2 * torch.randint(2, distances.shape, generator=generator, device=distances.device) - 1)).mean()
        for _ in range(draws)
    ]
    return torch.stack(means).abs()


def power_spherical_likelihood_gain(dim: int, concentration: Tensor, cosine: Tensor) -> float:
    r"""How much better each image's own κ explains its cosine than one κ for all does, in nats per dimension.

    $$\frac{1}{nd}\sum_i \log\frac{\mathrm{PS}(f_i;\mu_i,\kappa_i)}{\mathrm{PS}(f_i;\mu_i,\hat\kappa)}$$

    $\hat\kappa$ maximises the likelihood on the same images, which favours the constant. The gain is positive if κ
    predicts differences between images. It is negative if κ is right on average but wrong about single images, and it
    may be negative if an informative κ has the wrong scale: the gain measures calibration, too.

    Args:
        dim: Dimension d ≥ 2.
        concentration: κ ≥ 0 of each image, shape `(images,)`.
        cosine: $\mu_i^\top f_i$ with a fresh view, shape `(images,)`; −1 is read as −1 + ε, ε = 2.2e-16.

    Raises:
        ValueError: If the shapes disagree, a value is not finite, κ is negative, a cosine lies outside [−1, 1] by more
            than rounding, or `dim` is less than 2.

    Example:
        >>> kappa, cosine = torch.tensor([20.0, 0.5]), torch.tensor([0.9, 0.1])
        >>> power_spherical_likelihood_gain(4, kappa, cosine) > 0
        True
        >>> power_spherical_likelihood_gain(4, kappa.flip(0), cosine) > 0
        False
    """
    kappa, cosine = _check_likelihood(dim, concentration, cosine)
    log_height = cosine.clamp_min(-1 + torch.finfo(cosine.dtype).eps).log1p()
    # Cosines that are all 1 have no finite best κ.
    depth = (math.log(2) - log_height.mean()).clamp_min(torch.finfo(cosine.dtype).eps)
    best = fit_concentration(dim, depth)

    def log_density(k: Tensor) -> Tensor:
        return power_spherical_log_normalizer(dim, k) + k * log_height

    return float((log_density(kappa) - log_density(best)).mean() / dim)


def von_mises_fisher_likelihood_gain(dim: int, concentration: Tensor, cosine: Tensor) -> float:
    r"""The same for von Mises–Fisher experts; see `power_spherical_likelihood_gain`.

    $\hat\kappa$ solves $A(\hat\kappa)$ = mean cosine, and is 0 where the mean cosine is not positive.

    Example:
        >>> kappa, cosine = torch.tensor([20.0, 0.5]), torch.tensor([0.9, 0.1])
        >>> von_mises_fisher_likelihood_gain(4, kappa, cosine) > 0
        True
    """
    kappa, cosine = _check_likelihood(dim, concentration, cosine)
    # Cosines that are all 1 have no finite best κ.
    best = von_mises_fisher_concentration(dim, cosine.mean().clamp(0, 1 - torch.finfo(cosine.dtype).eps))

    def log_density(k: Tensor) -> Tensor:
        return von_mises_fisher_log_normalizer(dim, k) + k * cosine

    return float((log_density(kappa) - log_density(best)).mean() / dim)


def _check_likelihood(dim: int, concentration: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    _check_pair("concentration", concentration, "cosine", cosine)
    checked_dim(dim)
    if (concentration < 0).any():
        raise ValueError(f"concentration must be at least 0, got {concentration.min().item()}")
    rounding = 16 * torch.finfo(cosine.dtype).eps
    if (cosine.abs() > 1 + rounding).any():
        raise ValueError(f"cosine must lie in [-1, 1], got {cosine.min().item()} … {cosine.max().item()}")
    return concentration.double(), cosine.double().clamp(-1, 1)


def _check_pair(first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    if first.dim() != 1 or len(first) == 0:
        raise ValueError(f"{first_name} must have shape (images,), got {tuple(first.shape)}")
    if second.shape != first.shape:
        raise ValueError(
            f"{second_name} must have the shape of {first_name}, {tuple(first.shape)}, got {tuple(second.shape)}"
        )
    for name, values in ((first_name, first), (second_name, second)):
        if not values.is_floating_point() or not values.isfinite().all():
            raise ValueError(
                f"{name} must hold finite floating-point numbers, got {values.dtype} from {values.min().item()} to "
                f"{values.max().item()}"
            )
