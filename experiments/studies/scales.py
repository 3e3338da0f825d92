"""How large the trainings are: the paper's size, photographs on two cores, a small table, and a tiny one for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.judging.linear_probe import ProbeSettings


@dataclass(frozen=True)
class Scale:
    """Everything that the rows have in common.

    Attributes:
        name: On the command line.
        sets: Data sets.
        note: What the numbers are to be taken for; nothing where they are of the paper's size.
        base: Fields of the configuration by their dotted names.
        rates: Learning rates that each method chooses among.
        tuning_epochs: Length of the trainings that choose.
        probe: Of the linear evaluation.
    """

    name: str
    sets: tuple[str, ...]
    note: str
    base: Mapping[str, Any]
    rates: tuple[float, ...]
    tuning_epochs: int
    probe: ProbeSettings = field(default_factory=ProbeSettings)


_WATCH = {
    "monitor.every_epochs": 10**6,  # the last alone
    "monitor.neighbours": 2000,
    "monitor.images": 500,
    "monitor.tensorboard": False,
    "monitor.progress": False,
}
_TWO_VIEWS_OF_COLOURS = {  # SimSiam's on CIFAR-10
    "views.size": 32,
    "views.local_views": 0,
    "views.blur_probability": 0.0,
    "views.mean": [0.4914, 0.4822, 0.4465],
    "views.std": [0.2470, 0.2435, 0.2616],
}

SCALES = {
    "full": Scale(
        "full",
        ("imagenette", "imagewoof"),
        "",
        {**_WATCH, "method.dim": 2048, "training.epochs": 200, "training.batch_size": 64},
        rates=(0.01, 0.03, 0.1),
        tuning_epochs=50,
    ),
    "two_cores": Scale(
        "two_cores",
        ("imagenette-160", "imagewoof-160"),
        "Scale of two cores: 64 pixels, two views and half of the paper's epochs, so that a CPU trains a ResNet-18.",
        {
            **_WATCH,
            "monitor.every_epochs": 10,
            "views.size": 64,
            "views.local_views": 0,
            "backbone.name": "resnet18",
            "backbone.small_image_stem": False,
            "engine.precision": "bf16-mixed",
            "method.dim": 2048,
            "training.epochs": 100,
            "training.batch_size": 64,
        },
        rates=(0.01, 0.03, 0.1, 0.3),
        tuning_epochs=10,
    ),
    "small": Scale(
        "small",
        ("cifar10",),
        "Small scale: a network of five convolutions, 32 pixels, two views and few images and epochs, so that it is "
        "computed on two cores. It compares recipes with one another, not with the paper.",
        {
            **_WATCH,
            "monitor.curves": False,
            **_TWO_VIEWS_OF_COLOURS,
            "data.images": 5000,
            "backbone.name": "strided_convolutional",
            "method.dim": 128,
            "training.epochs": 15,
            "training.batch_size": 64,
        },
        rates=(0.03, 0.1, 0.3, 1.0),
        tuning_epochs=15,
    ),
    "tiny": Scale(
        "tiny",
        ("digits",),
        "Tiny scale: scikit-learn's digits and trainings of seconds. It shows that the command works and nothing else.",
        {
            **_WATCH,
            "monitor.curves": False,
            "data.channels": 1,
            "data.images": 200,
            "views.size": 16,
            "views.local_views": 0,
            "views.global_crop_scale": [0.6, 1.0],
            "views.blur_probability": 0.0,
            "views.flip_probability": 0.0,
            "views.mean": [0.5],
            "views.std": [0.5],
            "backbone.name": "small_convolutional",
            "method.dim": 16,
            "training.epochs": 2,
            "training.batch_size": 50,
        },
        rates=(0.05, 0.1),
        tuning_epochs=1,
        probe=ProbeSettings(epochs=5, learning_rates=(6.4, 25.6)),
    ),
}
"""By name."""
