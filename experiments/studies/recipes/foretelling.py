"""How well a degraded image foretells its views: what κ should say of it, by the theory, measured.

κ is trained to say how well one view foretells another. Whether it should fall with a degradation is therefore no
matter of opinion: it should where the mean direction μ of the degraded image's expert lies further from what the
encoder makes of other views of the image. Where it does not, a κ that does not fall is right, and what misleads is to
expect of it that it sees the degradation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.evaluation.uncertainty.observations import FreshViews
from experiments.evaluation.uncertainty.subject import BATCH, Subject, fresh_generator, middles, random_view
from experiments.images.degradation_series import DEGRADATIONS
from experiments.images.device_images import DeviceImages
from inference.judging.uncertainty import severity_correlations, spearman

VIEWS = 4
_STREAM = 20


@torch.no_grad()
def foretold(subject: Subject, images: DeviceImages, chosen: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """Cosines of what degraded images foretell and what their views, not degraded but by the recipe, turn out to be.

    Args:
        subject: The frozen pair.
        images: Among which the chosen ones are.
        chosen: Their numbers.
        seed: Of the degradations and of the views, which are the same for every level.

    Returns:
        For each degradation the mean over `VIEWS` random views of μ(degraded)ᵀf(view), float64, `(levels, images)`.
    """
    pixels = middles(images, subject.recipe, chosen)
    seen = [
        torch.cat(
            [
                random_view(images.canvas[rows], images.sizes[rows], subject, generator).outputs.double().cpu()
                for rows in chosen.to(images.device).split(BATCH)
            ]
        )
        for generator in (fresh_generator(seed, _STREAM + number) for number in range(VIEWS))
    ]
    mean = torch.stack(seen).mean(0)

    def cosine(degraded: Tensor) -> Tensor:
        directions = [subject.look(batch).mean_direction.double().cpu() for batch in degraded.split(BATCH)]
        return (torch.cat(directions) * mean).sum(-1)

    return {
        series.name: torch.stack([cosine(series(pixels, level, seed=seed)) for level in range(len(series))])
        for series in DEGRADATIONS
    }


def fall(cosines: Tensor) -> float:
    """Mean per-image Spearman correlation of the severity with −cosine, `(levels, images)`: what U1 would be if κ knew.

    Example:
        >>> fall(torch.tensor([[0.9, 0.8], [0.5, 0.7], [0.1, 0.2]]))
        1.0
    """
    return float(severity_correlations(-cosines).mean())


def agreement(uncertainty: Tensor, cosines: Tensor) -> float:
    """Spearman correlation of u with −cosine over all levels of all images, both `(levels, images)`.

    Example:
        >>> agreement(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[0.9, 0.8], [0.5, 0.4]]))
        1.0
    """
    return spearman(uncertainty.flatten(), -cosines.flatten())


def promised_too_much(fresh: FreshViews, concentration: Tensor, cosines: Tensor) -> Tensor:
    """Mean over images of ρ(κ) − cosine, which is 0 for a calibrated κ, one number a level.

    Args:
        fresh: From which family and dimension of the experts are known.
        concentration: κ, `(levels, images)`.
        cosines: What it foretells, `(levels, images)`.
    """
    pole = torch.zeros(fresh.dim, dtype=torch.float64)
    pole[0] = 1
    expert = fresh.law(pole.expand(*concentration.shape, fresh.dim), concentration.double(), validate_args=False)
    excess: Tensor = (expert.mean_resultant_length - cosines).mean(1)
    return excess
