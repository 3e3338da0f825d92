"""Two backbones for small grey images, made of torch's and torchvision's layers alone."""

from __future__ import annotations

from torch import nn
from torchvision.models import ResNet, resnet18


def small(width: int) -> nn.Sequential:
    """Four 3×3 convolutions, each with batch normalisation and ReLU, then an average: `4 * width` features."""
    layers: list[nn.Module] = []
    inputs = 1
    for outputs, stride in ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet18_for_small_images() -> ResNet:
    """ResNet-18 with a 3×3 stem, no max-pooling and no classifier, as is usual for CIFAR: 512 features."""
    network: ResNet = resnet18(weights=None)
    network.conv1 = nn.Conv2d(1, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()  # type: ignore[assignment]
    network.fc = nn.Identity()  # type: ignore[assignment]
    return network
