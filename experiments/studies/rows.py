"""The rows of the table: two methods, the controls that separate causes, and baselines without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from models.vi_simsiam import MAX_MEAN_RESULTANT_LENGTH

Kind = Literal["trained", "untrained", "pixels"]
Method = Literal["simsiam", "vi_simsiam"]

PRINTED_RATE = 1e-3
"""Section 6.2 of arXiv:2203.11437v1."""

REFERENCE = "simsiam"
"""The row that the others are compared with."""

RECIPES: Mapping[Method, Mapping[str, Any]] = {
    "simsiam": {
        "method.name": "simsiam",
        "method.concentration": 1.0,
        "objective.nats_per": "image",
        "training.gradient_clip": None,
    },
    "vi_simsiam": {
        "method.name": "vi_simsiam",
        "method.concentration_map": "relative",
        "objective.nats_per": "dimension",
        "training.gradient_clip": 1.0,
    },
}
"""What the methods differ in, as in experiments/configs."""

TUNED: Mapping[str, Any] = {"training.weight_decay": 5e-4, "objective.over_views": "mean"}
"""Beside a tuned rate, as in experiments/configs/changes/tuned_*.yaml; the rate of a sum would depend on the views."""

PRINTED: Mapping[str, Any] = {
    "training.learning_rate": PRINTED_RATE,
    "training.weight_decay": 1e-4,
    "objective.over_views": "sum",
}
"""As the paper prints it."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        key: Name of its folder and on the command line.
        label: What the table calls it.
        method: Whose recipe it starts from.
        rate: Whose tuned learning rate it takes; the printed one where there is none.
        changes: Fields of the configuration by their dotted names, on top of the recipe.
        kind: Whether there is a training.
    """

    key: str
    label: str
    method: Method
    rate: Method | None = None
    changes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    kind: Kind = "trained"


def rows(dim: int) -> tuple[Row, ...]:
    """All rows.

    The controls take the learning rate of VI-SimSiam, since their losses are of its scale: nats per dimension, whose
    gradient on a mean direction is κ/((d − 1)(1 + c)) at cosine c, of order one. With the constant κ = d − 1 it is 1
    for von Mises–Fisher experts and 1/(1 + c) for Power Spherical ones, which then expect a cosine of 1/2. The loss
    divided by κ/(1 + c) has the gradient of SimSiam's on the mean directions, 1 for every image, and so its rate; only
    what else is learned of κ differs. The row as printed has the printed rate, on which its loss in nats for an image
    depends.

    Args:
        dim: Dimension d of the latent space.
    """
    constant = {"method.concentration": float(dim - 1)}
    two_views = {"views.local_views": 0}
    return (
        Row("pixels", "raw pixels, 16 × 16", "simsiam", kind="pixels"),
        Row("untrained", "untrained encoder", "simsiam", kind="untrained"),
        Row("simsiam", "SimSiam", "simsiam", "simsiam", TUNED),
        Row("vi_simsiam", "VI-SimSiam", "vi_simsiam", "vi_simsiam", TUNED),
        Row("simsiam_printed_rate", "SimSiam, rate as printed", "simsiam", None, PRINTED),
        Row("vi_simsiam_printed_rate", "VI-SimSiam, rate as printed", "vi_simsiam", None, PRINTED),
        Row(
            "as_printed",
            "VI-SimSiam literally as printed",
            "vi_simsiam",
            None,
            {
                **PRINTED,
                **two_views,
                "method.concentration_map": "softplus",
                "objective.nats_per": "image",
                "training.gradient_clip": None,
            },
        ),
        Row(
            "constant_vmf",
            "constant κ, von Mises–Fisher",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, **constant, "method.name": "simsiam"},
        ),
        Row(
            "constant_ps",
            "constant κ, Power Spherical",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, **constant, "method.concentration_map": "constant"},
        ),
        Row(
            "stopped_head",
            "κ head behind a stop-gradient",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, "method.concentration_gradient": "head"},
        ),
        Row(
            "without_pull",
            "loss divided by κ/(1 + c)",
            "vi_simsiam",
            "simsiam",
            {**TUNED, "objective.weight": "pull", "objective.nats_per": "image"},
        ),
        Row(
            "beta",
            "loss weighted by κ^(−1/2)",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, "objective.weight": "concentration", "objective.beta": 0.5},
        ),
        Row(
            "normalized",
            "normalised product, two views",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, **two_views, "objective.normalized": True},
        ),
        Row(
            "defects",
            "VI-SimSiam, defects among the views",
            "vi_simsiam",
            "vi_simsiam",
            {**TUNED, "views.noise_probability": 0.25, "views.occlusion_probability": 0.25},
        ),
    )


LEGEND = (
    "SimSiam and VI-SimSiam have each its own learning rate, chosen on held-out training images; the rows below them "
    "that are not printed ones have VI-SimSiam's, but the loss divided by κ/(1 + c), whose gradient is SimSiam's, has "
    "SimSiam's. Rate as printed: 1e-3, weight decay 1e-4, sum over the views. "
    "Literally as printed: also κ = softplus(raw), nats for an image, no clipping, two views. Constant κ: d − 1, at "
    "which a Power Spherical expert expects a cosine of 1/2, in VI-SimSiam's recipe otherwise. Stop-gradient: the head "
    "of κ learns, but teaches the network nothing. κ/(1 + c), stopped too, is the factor of the loss' gradient on the "
    f"cosine c. A predicted κ expects a cosine of at most {MAX_MEAN_RESULTANT_LENGTH}."
)
"""What the labels mean."""
