from __future__ import annotations

import pytest
import torch
from torch import nn

from models.backbones import named_backbone
from models.networks import resnet18_backbone


@pytest.mark.parametrize(
    ("name", "sizes", "channels", "width"),
    [
        ("resnet18", (128, 64), 3, 512),
        ("resnet18", (32,), 1, 512),
        ("timm/resnet18", (32,), 1, 512),
        ("mobilenet_v3_small", (64, 32), 1, 1024),
        ("mobilenetv3_small_100", (64,), 3, 1024),
        ("vit_tiny_patch16_224", (64, 32), 3, 192),
        ("efficientnet_b0", (32,), 3, 1280),
        ("small_convolutional", (16,), 1, 128),
    ],
)
def test_a_backbone_gives_as_many_features_as_it_says(
    name: str, sizes: tuple[int, ...], channels: int, width: int
) -> None:
    network, features = named_backbone(name, channels=channels, sizes=sizes)
    assert features == width
    assert network.training
    for size in sizes:
        assert network(torch.rand(2, channels, size, size)).shape == (2, width)


def test_a_resnet_for_small_images_is_the_one_of_the_networks() -> None:
    torch.manual_seed(0)
    network, _ = named_backbone("resnet18", sizes=(32,))
    expected = resnet18_backbone(small_images=True)
    assert [type(module) for module in network.modules()] == [type(module) for module in expected.modules()]
    shapes = [tensor.shape for tensor in expected.state_dict().values()]
    assert [tensor.shape for tensor in network.state_dict().values()] == shapes


@pytest.mark.parametrize(("size", "asked", "kernel"), [(64, None, 3), (65, None, 7), (64, False, 7), (128, True, 3)])
def test_the_stem_follows_the_size_unless_asked_otherwise(size: int, asked: bool | None, kernel: int) -> None:
    network, _ = named_backbone("resnet18", sizes=(size,), small_image_stem=asked)
    assert network.conv1.kernel_size == (kernel, kernel)  # type: ignore[union-attr]
    assert isinstance(network.maxpool, nn.Identity if kernel == 3 else nn.MaxPool2d)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "timm/resnet18", "timm/resnet50"])
def test_residual_blocks_begin_as_identities_when_asked(name: str) -> None:
    torch.manual_seed(0)
    asked, _ = named_backbone(name, sizes=(32,), zero_init_residual=True)
    last = "bn3" if name.endswith("50") else "bn2"
    scales = [value for path, value in asked.named_parameters() if path.endswith(f"{last}.weight")]
    assert len(scales) == {"18": 8, "50": 16}[name[-2:]]
    assert not any(scale.any() for scale in scales)
    torch.manual_seed(0)
    plain, _ = named_backbone(name, sizes=(32,))
    others = [path for path, _ in plain.named_parameters() if not path.endswith(f"{last}.weight")]
    assert all(torch.equal(asked.get_parameter(path), plain.get_parameter(path)) for path in others)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"must be a model of torchvision or timm, got 'resnet81'; did you mean .*resnet18"),
        ("torchvision/vit_tiny_patch16_224", {}, "must be a model of torchvision or timm"),
        ("squeezenet1_0", {}, "must be a model with a linear classifier to remove"),
        ("vit_b_16", {"sizes": (32, 16)}, r"vit_b_16 does not take images of 16×16 pixels: Wrong image height"),
        (
            "vit_b_16",
            {"sizes": (100,)},
            "torchvision cannot build vit_b_16 for 100×100 images: Input shape indivisible",
        ),
        ("mobilenet_v3_small", {"small_image_stem": True}, "small_image_stem is for ResNets"),
        ("mobilenet_v3_small", {"zero_init_residual": True}, "zero_init_residual is for ResNets"),
    ],
)
def test_a_model_that_cannot_serve_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_backbone(name, **options)  # type: ignore[arg-type]
