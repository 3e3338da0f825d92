"""Random views of images with SimSiam's published parameters, on two paths with one law.

On request, with lost detail, noise and covers among them (`defects`).

`BatchedViews` makes the views of a whole batch on the device where the images are; `SampleViews` makes them one image
at a time from Pillow images, in the workers of a data loader.
"""

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.evaluation import center_view, sample_center_view
from experiments.images.augmentations.parameters import (
    SampleParameters,
    ViewParameters,
    draw_parameters,
    draw_sample_parameters,
)
from experiments.images.augmentations.per_sample import SampleViews
from experiments.images.augmentations.recipe import ViewRecipe

__all__ = [
    "BatchedViews",
    "SampleParameters",
    "SampleViews",
    "ViewParameters",
    "ViewRecipe",
    "center_view",
    "draw_parameters",
    "draw_sample_parameters",
    "sample_center_view",
]
