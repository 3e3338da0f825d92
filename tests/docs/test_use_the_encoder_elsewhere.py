"""The programs of the how-to page run as they stand, and give the features of the encoder that they read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images.augmentations.batched import sample_center_view
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import MethodConfig, PretrainConfig, ViewsConfig
from experiments.pretraining.export import EXPORTED, save_pretrained
from experiments.pretraining.images import view_groups
from inference.judging.representation import embed

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "use_the_encoder_elsewhere.md"


@pytest.mark.parametrize("size", [32, 72], ids=["stem for small images", "the usual stem"])
def test_the_programs_of_the_page_run(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PretrainConfig(views=ViewsConfig(size=size, local_views=0), method=MethodConfig(dim=16))
    pair = build_pair(config)
    with torch.no_grad():  # statistics as after a training
        for name, buffer in pair.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_pretrained(pair, config, tmp_path / "runs" / "mine" / EXPORTED)
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(programs) == 4
    names: dict[str, Any] = {}
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), names)  # noqa: S102  # our own page

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    batch = torch.stack([names["prepare"](picture)] * 2)
    ours = sample_center_view(picture, view_groups(config)[0][0])
    assert (batch[0] - ours).abs().mean() < 0.01  # torchvision resizes tensors with fractions, Pillow in grey levels
    with torch.no_grad():
        expected = pair.model.encoder.get_submodule("backbone").eval()(batch)
        assert torch.equal(embed(pair, batch).features, expected)
        assert torch.equal(names["resnet"](batch), expected)
        torch.testing.assert_close(names["same"](batch), expected)
        reloaded = torch.export.load("runs/mine/encoder.pt2").module()
        torch.testing.assert_close(reloaded(batch.repeat(3, 1, 1, 1)), expected.repeat(3, 1))
    assert names["embedding"].mean_direction.shape == (2, 16)
