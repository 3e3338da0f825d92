from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.pretraining.configuration import (
    BackboneConfig,
    CheckpointConfig,
    DataConfig,
    EngineConfig,
    MethodConfig,
    MonitorConfig,
    PretrainConfig,
    TrainingConfig,
    ViewsConfig,
)

IMAGES, BATCH, EPOCHS = 26, 8, 8  # 3 steps an epoch, the last 2 images of each left out


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few random images in two classes."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(IMAGES):
        place = root / ("even", "odd")[number % 2]
        place.mkdir(exist_ok=True)
        pixels = draw.integers(0, 256, (10, 9 + number % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def configuration(image_folder: Path) -> Callable[..., PretrainConfig]:
    """A run of 24 steps that saves after each: `configuration(out, "byol", seed=1)`."""

    def make(out: Path, name: Any = "vi_simsiam", **changes: Any) -> PretrainConfig:
        watch: dict[str, Any] = {"images": 8, "neighbours": 8, "tensorboard": False, "curves": False, "progress": False}
        settings: dict[str, Any] = {
            "data": DataConfig(name=str(image_folder)),
            "views": ViewsConfig(size=8, local_views=1, local_size=8),
            "backbone": BackboneConfig("small_convolutional"),
            "method": MethodConfig(name=name, dim=8, hidden=8, momentum=0.9),
            "training": TrainingConfig(epochs=EPOCHS, batch_size=BATCH, learning_rate=0.05),
            "engine": EngineConfig(accelerator="cpu", threads=1),
            "checkpoints": CheckpointConfig(every_steps=1, seconds_apart=0),
            "monitor": MonitorConfig(every_steps=2, every_epochs=3, **watch),
            **changes,
        }
        return PretrainConfig(out=str(out), **settings)

    return make
