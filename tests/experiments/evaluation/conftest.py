from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.optim.swa_utils import update_bn

from experiments.images.digits import load
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import BackboneConfig, DataConfig, MethodConfig, PretrainConfig, ViewsConfig
from experiments.pretraining.export import EXPORTED, Pretrained, save_pretrained

MakePretrained = Callable[..., Pretrained]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_pretrained() -> MakePretrained:
    """A small network of random weights whose batch normalisation has seen the digits: `make_pretrained("simsiam")`;
    "constant" is VI-SimSiam with the constant κ = 7.

    Its features tell digits apart about as well as their pixels do, and its κ varies.
    """

    def make(method: Any = "vi_simsiam", *, channels: Any = 1, size: int = 16, **data: Any) -> Pretrained:
        constant = method == "constant"
        kappa: dict[str, Any] = {"concentration_map": "constant", "concentration": 7.0} if constant else {}
        config = PretrainConfig(
            seed=3,
            data=DataConfig(name="digits", channels=channels, **data),
            views=ViewsConfig(size=size, local_views=0, mean=(0.5,), std=(0.25,)),
            backbone=BackboneConfig("small_convolutional"),
            method=MethodConfig(name="vi_simsiam" if constant else method, dim=16, hidden=32, **kappa),
        )
        pair = build_pair(config)
        images = (load()[0].images.expand(-1, channels, -1, -1) - 0.5) / 0.25
        predictor: Any = pair.model.predictor.network
        update_bn([images], torch.nn.Sequential(pair.model.encoder, predictor))
        if method == "byol":
            update_bn([images], pair.guide.network)
        predictor[-1].weight.data.mul_(3)  # κ of an untrained predictor hardly differs
        return Pretrained(pair.eval(), config)

    return make


@pytest.fixture(scope="session")
def run_folder(make_pretrained: MakePretrained, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with an exported encoder: `run_folder("simsiam")`."""

    def make(*arguments: Any, **keywords: Any) -> Path:
        folder = tmp_path_factory.mktemp("run")
        pretrained = make_pretrained(*arguments, **keywords)
        save_pretrained(pretrained.pair, pretrained.config, folder / EXPORTED)
        return folder

    return make


@pytest.fixture(scope="session")
def digit_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Digits as PNG files, 16 to 24 pixels wide, in folder/train/<class> and folder/val/<class>, or without the parts:
    `digit_folders(classes=3, train=20, val=10)`."""

    def make(*, classes: int = 3, train: int = 20, val: int = 10, parts: bool = True) -> Path:
        folder = tmp_path_factory.mktemp("images")
        pixels, labels = load_digits(return_X_y=True)
        for label in range(classes):
            chosen = pixels[labels == label][: train + val].reshape(-1, 8, 8)
            for number, digit in enumerate(chosen):
                part = ("train" if number < train else "val") if parts else ""
                file = folder / part / f"class {label}" / f"{label}_{number:03d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray((digit * 15).astype(np.uint8))
                image.resize((16 + number % 9, 16 + number % 5), Image.Resampling.BILINEAR).save(file)
        return folder

    return make
