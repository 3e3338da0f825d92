"""The networks of the methods: backbones, projector, predictor, and heads that return a distribution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torchvision.models import ResNet, resnet18

from ssl_as_inference.distributions import PowerSpherical, VonMisesFisher
from ssl_as_inference.sphere import normalize


class BatchNormalizedMLP(nn.Sequential):
    """Layers that contain batch normalisation over a batch of images."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name for it
        """Apply the layers; in training the batch needs at least two images, or its statistics do not exist."""
        if self.training and input.size(0) < 2:
            raise ValueError(
                f"views must hold at least 2 images in training, got {input.size(0)}: batch normalisation has no "
                "statistics over one image (drop the last incomplete batch, or call .eval() to apply the network)"
            )
        output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return output


class Encoder(nn.Module):
    """f of the paper: backbone, whose features are used downstream, and projector, used in pretraining only.

    Args:
        backbone: View `(images, channels, height, width)` to features `(images, features)`.
        projector: Features to projection `(images, dim)`.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, view: Tensor) -> Tensor:
        """Projection of a view, not normalised."""
        projection: Tensor = self.projector(self.backbone(view))
        return projection


def small_convolutional_backbone(channels: int = 1, width: int = 32) -> nn.Sequential:
    """Four 3×3 convolutions for images of about 16×16; the features are `4 * width` averages.

    Args:
        channels: Channels of the image.
        width: Channels after the first layer.
    """
    return nn.Sequential(
        *_convolution(channels, width, 1),
        *_convolution(width, 2 * width, 2),
        *_convolution(2 * width, 2 * width, 1),
        *_convolution(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def strided_convolutional_backbone(channels: int = 3, width: int = 32) -> nn.Sequential:
    """Five 3×3 convolutions for images of about 32×32 on a CPU; the features are `4 * width` averages.

    The first one halves the image, because most of a convolution's cost is at full size.

    Args:
        channels: Channels of the image.
        width: Channels after the first layer.
    """
    return nn.Sequential(
        *_convolution(channels, width, 2),
        *_convolution(width, 2 * width, 2),
        *_convolution(2 * width, 2 * width, 1),
        *_convolution(2 * width, 4 * width, 2),
        *_convolution(4 * width, 4 * width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def resnet18_backbone(*, small_images: bool = False, channels: int = 3) -> ResNet:
    """ResNet-18 without its classifier (512 features), trained from scratch.

    Args:
        small_images: Replace the stem by a 3×3 convolution without max-pooling, for images of about 32×32.
        channels: Channels of the image.
    """
    network: ResNet = resnet18(weights=None)
    network.fc = nn.Identity()  # type: ignore[assignment]
    if small_images:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()  # type: ignore[assignment]
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def simsiam_projector(features: int, dim: int) -> BatchNormalizedMLP:
    """Three layers as wide as the features, with a last batch normalisation that has no scale or shift.

    Section 4.1 of SimSiam, arXiv:2011.10566. A bias before a batch normalisation has no effect, so there is none.
    """
    return BatchNormalizedMLP(
        nn.Linear(features, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(inplace=True),
        nn.Linear(features, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(inplace=True),
        nn.Linear(features, dim, bias=False),
        nn.BatchNorm1d(dim, affine=False),
    )


def two_layer_mlp(
    inputs: int, hidden: int, outputs: int, *, last_layer: Callable[[int, int], nn.Module] = nn.Linear
) -> BatchNormalizedMLP:
    """Linear, batch normalisation, ReLU, linear: SimSiam's predictor and BYOL's projector and predictor.

    Args:
        inputs: Width of what comes in.
        hidden: Width of the hidden layer.
        outputs: Width of what goes out.
        last_layer: Makes the last layer of its inputs and outputs.

    Raises:
        ValueError: If `hidden` is less than 1.
    """
    if hidden < 1:
        raise ValueError(f"hidden must be at least 1, got {hidden}")
    return BatchNormalizedMLP(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        last_layer(hidden, outputs),
    )


def simsiam_predictor(
    dim: int, hidden: int | None, *, outputs: int | None = None, last_layer: Callable[[int, int], nn.Module] = nn.Linear
) -> BatchNormalizedMLP:
    """Two layers with a bottleneck between them, a quarter as wide as the projection.

    Section 4.1 of SimSiam, arXiv:2011.10566: 512 for 2048.

    Args:
        dim: Width of the projection.
        hidden: Width of the bottleneck; a quarter of `dim` when `None`.
        outputs: Width of what goes out; `dim` when not given.
        last_layer: Makes the last layer of its inputs and outputs.
    """
    width = max(1, dim // 4) if hidden is None else hidden
    return two_layer_mlp(dim, width, dim if outputs is None else outputs, last_layer=last_layer)


class LinearWithDetachedLast(nn.Linear):
    """A linear layer whose last output passes no gradient to its input.

    The last row of weight and bias learns as in `torch.nn.Linear`, from the same initial weights and under the same
    names in a state dict; the layers before it learn from the other outputs only. In a predictor whose last output is
    the raw κ, κ then depends on the hidden layer without training it.

    Example:
        >>> layer, x = LinearWithDetachedLast(3, 2), torch.ones(1, 3, requires_grad=True)
        >>> torch.equal(torch.autograd.grad(layer(x).sum(), x)[0][0], layer.weight[0])  # and not the sum of both rows
        True
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name for it
        """The outputs of `torch.nn.Linear`."""
        bias: Tensor | None = self.bias
        rest, last = (None, None) if bias is None else (bias[:-1], bias[-1:])
        # The stop-gradient: detached is the input of the last row, not the row.
        return torch.cat(
            [linear(input, self.weight[:-1], rest), linear(input.detach(), self.weight[-1:], last)], dim=-1
        )


class _ConstantHead(nn.Module):
    """What heads of constant concentration share: the network that predicts the mean direction, and κ."""

    concentration: Tensor

    def __init__(self, network: nn.Module, concentration: float = 1.0) -> None:
        super().__init__()
        if not 0 < concentration < float("inf"):
            raise ValueError(f"concentration must be positive and finite, got {concentration}")
        self.network = network
        # In float64, so that a pair in float64 has exactly the given κ and not its float32 neighbour.
        self.register_buffer("concentration", torch.tensor(concentration, dtype=torch.float64))


class VonMisesFisherHead(_ConstantHead):
    """An expert of constant concentration, Eq. (7): `network` predicts the mean direction.

    Args:
        network: Projection to an unnormalised mean direction, shape `(images, dim)`.
        concentration: The constant κ > 0. It scales the gradient and nothing else (C9).

    Raises:
        ValueError: If `concentration` is not positive and finite.
    """

    def forward(self, projection: Tensor) -> VonMisesFisher:
        """The expert vMF(μ, κ)."""
        mean_direction = normalize(self.network(projection))
        return VonMisesFisher(mean_direction, self.concentration.to(mean_direction.dtype))


class PowerSphericalHead(nn.Module):
    """An expert of predicted concentration, Eq. (11): `network` predicts the mean direction and one number for κ.

    Args:
        network: Projection to `(images, dim + 1)`: an unnormalised mean direction and the raw concentration.
        concentration_map: Raw concentration and dim to κ ≥ 0.

    Raises:
        ValueError: When called, if `network` gives fewer than 3 outputs.
    """

    def __init__(self, network: nn.Module, concentration_map: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.concentration_map = concentration_map

    def forward(self, projection: Tensor) -> PowerSpherical:
        """The expert PS(μ, κ)."""
        return PowerSpherical(*self.parameters_of(projection))

    def parameters_of(self, projection: Tensor) -> tuple[Tensor, Tensor]:
        """μ and κ."""
        output = self.network(projection)
        if output.size(-1) < 3:
            raise ValueError(
                "network must give at least 3 outputs, a mean direction in 2 or more dimensions and the raw "
                f"concentration, got shape {tuple(output.shape)}"
            )
        direction, raw = output.split([output.size(-1) - 1, 1], dim=-1)
        mean_direction = normalize(direction)
        raw = raw.squeeze(-1).to(mean_direction.dtype)
        return mean_direction, self.concentration_map(raw, mean_direction.size(-1))


class PredictedVonMisesFisherHead(PowerSphericalHead):
    """The same with von Mises–Fisher experts: mean direction and concentration are both predicted."""

    def forward(self, projection: Tensor) -> VonMisesFisher:
        """The expert vMF(μ, κ)."""
        return VonMisesFisher(*self.parameters_of(projection))


class ConstantPowerSphericalHead(_ConstantHead):
    r"""A Power Spherical expert of constant concentration: `network` predicts the mean direction.

    Between SimSiam and VI-SimSiam: the family of the second, the constant κ of the first. Its gradient on the cosine c
    is κ/(1+c) in place of SimSiam's κ (C11).

    Args:
        network: Projection to an unnormalised mean direction, shape `(images, dim)`.
        concentration: The constant κ > 0.

    Raises:
        ValueError: If `concentration` is not positive and finite.
    """

    def forward(self, projection: Tensor) -> PowerSpherical:
        """The expert PS(μ, κ)."""
        mean_direction = normalize(self.network(projection))
        return PowerSpherical(mean_direction, self.concentration.to(mean_direction.dtype))
