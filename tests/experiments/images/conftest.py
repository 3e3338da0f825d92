from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from experiments.images.image_sets import ImageSet
from experiments.images.layouts import find_images

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture
def photograph() -> Path:
    """A JPEG file of 640 × 427 pixels that ships with scikit-learn."""
    return PHOTOGRAPHS / "china.jpg"


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Write a random image: `save_image(path, height, width, mode, **options of Pillow)`."""

    def save(path: Path, height: int = 8, width: int = 6, mode: str = "RGB", **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(str(path.name).encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return save


@pytest.fixture
def make_set(tmp_path: Path, save_image: Callable[..., Path]) -> Callable[..., ImageSet]:
    """A set of image files in class folders: `make_set({"cat": 3, "dog": 2}, sizes=[(8, 6), (12, 10)])`."""

    def make(classes: dict[str, int], sizes: tuple[tuple[int, int], ...] = ((8, 6),), name: str = "set") -> ImageSet:
        number = 0
        for class_name, count in classes.items():
            for _ in range(count):
                save_image(tmp_path / name / class_name / f"{number:03d}.png", *sizes[number % len(sizes)])
                number += 1
        return find_images(tmp_path / name, "train", name=name)

    return make
